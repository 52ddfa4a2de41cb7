"""Find the setting that a parser refuses, by comparing settings with the signatures of classes.

jsonargparse says what is wrong in a report of many lines that changes with its version. So nothing
is read from that report: each setting is looked up in the parser and in the class that takes it.
"""

import difflib
import sys
import types
from argparse import ArgumentError
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.imports import imported

INTERNAL = frozenset({"data.input", "data.description"})
"""Settings that are not the user's: `predict --input` makes them."""


def find_mistake(parser: LightningArgumentParser, settings: Settings) -> str | None:
    """Describe the first setting that the parser refuses, an unknown key before a bad value.

    Args:
        parser: the parser that refused the settings.
        settings: files and overrides.

    Returns:
        The key, its value, the reason and the fix, with file and line of a setting in a file; None
        if each setting by itself is valid.

    Raises:
        RefusedImportError: a setting names what it may not.
    """
    walk = _Walk(settings)
    walk.visit_group(settings.tree(), parser)
    if walk.unknown:
        key = walk.unknown[0]
        near = nearest(key, walk.keys - INTERNAL)
        hint = f"The nearest is --{near}." if near else "`--help` lists the settings."
        return f"There is no setting --{key}.\n  {hint}{settings.place(key)}"
    for check in walk.checks:
        if mistake := check():
            return mistake
    required = [action.dest for action in parser._actions if action.required]
    required += sorted(parser._extra_required_keys)  # classes in slots
    missing = [key for key in required if settings.get(key) is None]
    if missing:
        return f"Missing: {', '.join(missing)}. Give a --config file that sets it, or --KEY VALUE."
    return None


def nearest(key: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is spelled most like `key`, None if none comes near."""
    close = difflib.get_close_matches(key, list(candidates), n=1, cutoff=0.5)
    return close[0] if close else None


def parameters_of(found: Any) -> ArgumentParser:
    """A parser of a class's or function's settings, those that it forwards by **kwargs included."""
    parser = ArgumentParser(exit_on_error=False)
    if isinstance(found, type):
        parser.add_class_arguments(found, fail_untyped=False)
    else:
        parser.add_function_arguments(found, fail_untyped=False)
    return parser


def settings_of(class_path: str) -> set[str]:
    """Names of a data set class's settings; none of a class that is not there."""
    found = imported(class_path if "." in class_path else f"pne_seg.data.{class_path}")
    return set() if found is None else {action.dest for action in parameters_of(found)._actions}


class _Walk:
    """What one walk over the settings finds.

    Attributes:
        keys: every valid key, those of the classes in the slots included.
        unknown: keys of the settings that are not valid.
        checks: describe what is wrong with a value, or return None.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys: set[str] = set()
        self.unknown: list[str] = []
        self.checks: list[Callable[[], str | None]] = []

    def visit_group(self, given: Mapping[str, Any], parser: ArgumentParser, slot: str = "") -> None:
        """Compare settings with a parser's.

        Args:
            given: settings by name.
            parser: of the command, or of the class in a slot.
            slot: the slot's key, with a dot behind it.
        """
        actions = {action.dest: action for action in parser._actions}
        names = {
            name for name in actions if name.rpartition(".")[2] not in ("help", "print_config")
        }
        self.keys |= {f"{slot}{name}" for name in names}

        def visit(given: Mapping[str, Any], group: str) -> None:
            for name, value in given.items():
                inner = f"{group}{name}"
                is_group = not hasattr(actions.get(inner), "_typehint")
                is_group = is_group and any(known.startswith(f"{inner}.") for known in actions)
                if is_group and isinstance(value, dict):
                    visit(value, f"{inner}.")
                elif inner in actions:
                    self._visit_action(f"{slot}{inner}", value, actions[inner])
                else:
                    self.unknown.append(_deepest(f"{slot}{inner}", value))

        visit(given, "")

    def _visit_action(self, key: str, value: Any, action: Any) -> None:
        source = getattr(action, "source", None)
        if source is not None:  # a link: its target is set from what was built
            self.checks.append(
                lambda: f"--{key} follows from the data ({source[0][0]}); it cannot be set."
            )
        elif (kind := getattr(action, "_typehint", None)) is not None:
            self._visit_value(key, value, kind, action.default)

    def _visit_value(self, key: str, value: Any, kind: Any, default: Any = None) -> None:
        classes = _classes(kind)
        parts = [kind, *_parts(kind)]
        if isinstance(value, dict) and (classes or "class_path" in value):
            named = value.get("class_path", _class_path(default))
            found = classes[0] if named is None else self._resolve(key, str(named), classes)
            if found is not None:
                self._visit_class(key, value, found, classes)
        elif isinstance(value, dict) and (inner := _inner(parts, Mapping)):
            for name, content in value.items():
                self._visit_value(f"{key}.{name}", content, inner[-1])
        elif isinstance(value, list) and (inner := _inner(parts, Sequence)):
            for content in value:
                self._visit_value(key, content, inner[0])
        elif isinstance(value, str) and _takes_only_classes(kind) and not _fits(value, kind):
            if (found := self._resolve(key, value, classes)) is not None:
                self._visit_class(key, {}, found, classes)
        else:
            self.checks.append(lambda: self._describe_value(key, value, kind))

    def _visit_class(self, key: str, value: dict[str, Any], found: Any, slot: list[type]) -> None:
        if isinstance(found, type) and not issubclass(found, tuple(slot) or object):
            expected = " or ".join(one.__name__ for one in slot)
            self.checks.append(
                lambda: f"--{key} {found.__name__}: expected {expected}.{self.settings.place(key)}"
            )
        try:
            parser = parameters_of(found)
        except Exception:  # signatures of third-party code; the parser's own report remains
            return
        init_args = value.get("init_args")
        given = dict(init_args) if isinstance(init_args, dict) else {}
        given |= {name: part for name, part in value.items() if name not in _SPEC}  # overrides
        self.visit_group(given, parser, f"{key}.")

    def _resolve(self, key: str, name: str, classes: list[type]) -> Any:
        """The class that a slot names; where there is none, a check that says so."""
        known = {one.__name__: one for base in classes for one in _concrete(base)}
        if name in known:
            return known[name]
        reason = f"--{key} {name}: no class of that name."
        if "." not in name:
            near = nearest(name, sorted(known))
            hint = f"\n  The nearest is {near}." if near else ""
            if 0 < len(known) <= 12:
                hint += f" There are {', '.join(sorted(known))}."
            reason += hint or "\n  Give the full path, as in package.module.Class."
        else:
            try:
                return self.settings.imports.resolve(name, key)
            except ModuleNotFoundError as error:
                reason = (
                    f"--{key} {name} is not to be found here (No module named {error.name!r}).\n"
                    "  Start where Python finds its file, or install its package."
                )
            except (ImportError, AttributeError) as error:
                if isinstance(error, UserError):
                    raise
                module, _, last = name.rpartition(".")
                there = vars(sys.modules[module]) if module in sys.modules else {}
                near = nearest(last, [name for name, one in there.items() if isinstance(one, type)])
                reason += f"\n  The nearest is {module}.{near}." if near else ""
        self.checks.append(lambda: reason + self.settings.place(key))
        return None

    def _describe_value(self, key: str, value: Any, kind: Any) -> str | None:
        if _fits(value, kind):
            return None
        if refused := self.settings.imports.refused_in(value, key):
            raise refused
        expected = _expected(value, kind)
        return f"--{key} {str(value)[:300]}: expected {expected}.{self.settings.place(key)}"


_SPEC = ("class_path", "init_args", "dict_kwargs")


def _deepest(key: str, value: Any) -> str:
    """The first setting within an unknown key."""
    while isinstance(value, dict) and value:
        name, value = next((item for item in value.items() if item[0] != "init_args"), ("", None))
        key += f".{name}" if name else ""
    return key


def _parts(kind: Any) -> list[Any]:
    """The members of a union, of unions within it too."""
    if get_origin(kind) not in (Union, types.UnionType):
        return [kind]
    return [part for member in get_args(kind) for part in _parts(member)]


def _inner(parts: list[Any], container: type) -> tuple[Any, ...]:
    """What the container among the parts holds."""
    for part in parts:
        origin = get_origin(part)
        if isinstance(origin, type) and issubclass(origin, container):
            return get_args(part)
    return ()


def _classes(kind: Any) -> list[type]:
    """The classes that a slot takes, or that a callable in it returns."""
    found: list[type] = []
    for part in _parts(kind):
        if get_origin(part) is Callable:
            found += _classes(get_args(part)[-1])
        elif isinstance(part, type) and get_origin(part) is None and part.__module__ not in _PLAIN:
            found.append(part)
    return found


def _takes_only_classes(kind: Any) -> bool:
    parts = [part for part in _parts(kind) if part is not type(None)]
    return bool(parts) and all(map(_classes, parts))


_PLAIN = ("builtins", "datetime", "os", "pathlib", "jsonargparse.typing")
"""Modules whose classes are values: a setting gives them as text or numbers."""


def _concrete(base: type) -> set[type]:
    """Public classes of a kind without abstract methods, as far as they are imported."""
    pending, found = [base], set()
    while pending:
        one = pending.pop()
        pending.extend(type.__subclasses__(one))
        methods = (getattr(one, name, None) for name in dir(one))
        if not any(getattr(method, "__isabstractmethod__", False) for method in methods):
            found.add(one)
    return {one for one in found if not one.__name__.startswith("_")}


def _class_path(default: Any) -> str | None:
    """The class of a slot's default."""
    named = default.get("class_path") if hasattr(default, "get") else None
    return named if isinstance(named, str) and imported(named) is not None else None


def _fits(value: Any, kind: Any) -> bool:
    try:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--value", type=kind)
    except Exception:  # a type that only the class itself can check
        return True
    try:
        parser.parse_object({"value": value})
    except ArgumentError:
        return False
    return True


def _expected(value: Any, kind: Any) -> str:
    parts = [part for part in _parts(kind) if part is not type(None)]
    is_number = isinstance(value, int | float) or str(value).replace(".", "").isdecimal()
    if is_number and (inner := _inner(parts, tuple) or _inner(parts, Sequence)):
        length = len(inner) if Ellipsis not in inner else 1
        return f"a list such as [{', '.join([str(value)] * length)}]"
    return " or ".join(dict.fromkeys(map(_type_name, parts)))


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    inner = [_type_name(part) for part in get_args(kind) if isinstance(part, type)]
    name = getattr(get_origin(kind) or kind, "__name__", str(kind))
    return f"{name} of {', '.join(dict.fromkeys(inner))}" if inner else str(name)
