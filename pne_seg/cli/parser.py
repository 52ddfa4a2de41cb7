"""The argument parser, and its errors: a few lines that name the key and the nearest valid one."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.imports import Imports, imported

ALLOW_HELP = (
    "Module or package that settings may name classes and functions of, beside those of this "
    "project (and, in a config of your own, your modules); it may be given several times."
)
INTERNAL = frozenset({"data.input", "data.description"})
"""Settings that are not the user's: `predict --input` makes them."""


class Parser(LightningArgumentParser):
    """LightningCLI's parser without abbreviations, raising `UserError` in place of a usage wall."""

    folded: dict[str, Any]
    """The merged config files, which say which class fills which slot."""
    imports: Imports
    """What the settings may name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.folded, self.imports = {}, Imports()

    def parse(self, settings: Settings) -> Namespace:
        """Parse settings; what they may not name is neither imported nor left in them.

        Raises:
            UserError: a mistake in the settings.
        """
        self.folded, self.imports = settings.config, settings.imports
        with settings.enforced():
            config: Namespace = self.parse_args(settings.arguments())
            settings.imports.check(config)
        return config

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the mistake in a few lines.

        Raises:
            UserError: always.
        """
        if not self.exit_on_error:  # a parser within this one, whose report goes into its own
            super().error(message, ex)
        raise UserError(explain(message, self)) from ex


def fail(message: str) -> NoReturn:
    """Print an error and leave with exit code 2."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def explain(message: str, parser: Parser) -> str:
    """Turn jsonargparse's report into at most five lines.

    Args:
        message: as given to `ArgumentParser.error`.
        parser: the parser that knows the keys.
    """
    # A mistake in a file is explained once, then reported again as one of the option `--config`.
    message = message.removeprefix('Parser key "config": ')
    keys = re.findall(r'Parser key "([^"]+)"', message)
    slot = ".".join(keys).replace(".init_args", "")
    if refusal := parser.imports.explain(message, (keys or [""])[0]):
        return str(refusal)
    if found := re.search(r"unrecognized arguments: --([^ =]+)", message):
        return _unknown_key(found[1], parser)
    if found := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return _unknown_key(f"{found[1]}.{found[2]}", parser)
    if found := re.search(r"Option '([^']+)' is not accepted", message):
        where = re.findall(r"class_path[= ]'([^']+)'", message)
        key = f"{slot}.{found[1]}" if slot else found[1]
        return _unknown_key(key, parser, {slot: where[-1]} if where else {})  # the innermost
    if found := re.search(r"Linked \"([^\"]+)\" must be given via \"([^\"]+)\"", message):
        return f"--{found[1]} follows from the data ({found[2]}); it cannot be set."
    if found := re.search(r"argument ([\w.]+) --> ([\w.]+): ", message):
        return f"--{found[2]} follows from the data ({found[1]}); it cannot be set."
    if found := re.search(r"the following arguments are required: (.+)", message):
        return f"Missing: {found[1]}. Give a --config file that sets it, or --KEY VALUE."
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        return _unknown_member(slot, found[1], found[2])
    if found := re.search(r"No module named '[^']+'", message):
        return _unknown_module(slot, found[0], message) if slot else message
    takes_values = re.search(r"Expected a <class '(bool|float|int|str)'>", message)
    if not takes_values and (
        found := re.search(r"Expected a dot import path string: (\S+)", message)
    ):
        return _unknown_class(slot, found[1], message)
    return _bad_value(slot, message)


def _unknown_key(key: str, parser: Parser, classes: dict[str, str] | None = None) -> str:
    shown = key.replace(".init_args", "")
    near = nearest(shown, known_keys(parser, classes or {}))
    return f"There is no setting --{shown}." + (
        f"\n  The nearest is --{near}." if near else "\n  `--help` lists the settings."
    )


def _unknown_member(slot: str, module: str, name: str) -> str:
    found = vars(sys.modules[module]) if module in sys.modules else {}
    near = nearest(name, (key for key, value in found.items() if isinstance(value, type)))
    hint = f"\n  The nearest is {module}.{near}." if near else ""
    return f"--{slot} {module}.{name}: no class of that name.{hint}"


def _unknown_module(slot: str, said: str, message: str) -> str:
    classes = re.findall(r"class_path[= ]'([^']+)'", message)
    name = f" {classes[-1]}" if classes else ""
    return (
        f"--{slot}{name} is not to be found here ({said}).\n"
        "  Start where Python finds its file, or install its package."
    )


def _unknown_class(slot: str, name: str, message: str) -> str:
    names = sorted(set().union(*map(_subclass_names, _bases(message))))
    near = nearest(name, names)
    known = f" There are {', '.join(names)}." if 0 < len(names) <= 12 else ""
    return (
        f"--{slot} {name}: no class of that name."
        + (f"\n  The nearest is {near}." if near else "")
        + (known or "\n  Give the full path, as in package.module.Class.")
    )


def _bases(message: str) -> list[str]:
    """The classes that a slot takes: named as such, or as what a callable in it returns."""
    returned = " ".join(re.findall(r"Callable\[\[[^]]*\], ([^\n]+)", message))
    named = re.findall(r"<class '((?:\w+\.)+\w+)'>", message)
    found = [*named, *re.findall(r"(?:\w+\.)+\w+", returned)]
    return [name for name in dict.fromkeys(found) if not name.startswith("typing.")]


def _bad_value(slot: str, message: str) -> str:
    expected = list(
        dict.fromkeys(re.findall(r"Expected an? ([^\n]+?)(?:\. Got value|\n|$)", message))
    )
    expected = [
        _type_name(text)
        for text in expected
        if not text.startswith(("path but", "dot import path"))
        and ("NoneType" not in text or len(expected) == 1)
    ]
    given = re.search(r"G(?:ot|iven) value: (.+?)(?:\. Got value|\n|$)", message)
    if slot and expected and given:
        if expected in (["tuple"], ["list"]):
            expected = [_list_of(given[1], message)]
        return f"--{slot} {given[1][:300]}: expected {' or '.join(expected)}."
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return "\n  ".join(line[:300] for line in lines[:4])


def _type_name(text: str) -> str:
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    return re.sub(r"typing\.Literal\[(.+)\]", r"one of \1", text)


def _list_of(value: str, message: str) -> str:
    """The form of a list, for who gave one number."""
    if not re.fullmatch(r"-?[\d.]+", value):
        return "a list in brackets"
    length = next((kinds.count(",") + 1 for kinds in re.findall(r"tuple\[([^].]+)\]", message)), 1)
    return f"a list such as [{', '.join([value] * length)}]"


def nearest(key: str, candidates: Iterable[str]) -> str | None:
    """The candidate that is spelt most like `key`, None where none comes near."""
    close = difflib.get_close_matches(key, list(candidates), n=1, cutoff=0.5)
    return close[0] if close else None


def known_keys(parser: Parser, classes: dict[str, str]) -> set[str]:
    """Every key the parser takes, those of the classes that fill the slots included.

    Args:
        parser: the parser.
        classes: further class paths by slot.
    """
    keys = {
        action.dest for action in parser._actions if action.dest not in ("help", "print_config")
    }
    for slot, class_path in {**dict(_filled_slots(parser.folded)), **classes}.items():
        keys |= {f"{slot}.{name}" for name in settings_of(class_path)}
    return keys - INTERNAL


def _filled_slots(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, dict):
            if "class_path" in value:
                yield f"{prefix}{key}", str(value["class_path"])
                yield from _filled_slots(value.get("init_args") or {}, f"{prefix}{key}.")
            else:
                yield from _filled_slots(value, f"{prefix}{key}.")


def settings_of(class_path: str) -> list[str]:
    """Names of a class's settings, those that it forwards by **kwargs included."""
    found = imported(class_path if "." in class_path else f"{_home_of(class_path)}.{class_path}")
    try:
        parser = ArgumentParser(exit_on_error=False)
        return list(parser.add_class_arguments(found, fail_untyped=False))
    except Exception:  # suggestions are a courtesy: they must not hide the error at hand
        return []


def _home_of(name: str) -> str:
    """The package that exports a class known by its name alone."""
    homes = ("pne_seg.data", "pne_seg", "torch.optim", "torch.optim.lr_scheduler")
    return next((home for home in homes if imported(f"{home}.{name}") is not None), "pne_seg")


def _subclass_names(class_path: str) -> set[str]:
    base = imported(class_path)
    pending, names = [base] if isinstance(base, type) else [], set()
    while pending:
        found = pending.pop()
        pending.extend(found.__subclasses__())
        methods = (getattr(found, attribute, None) for attribute in dir(found))
        if not any(getattr(method, "__isabstractmethod__", False) for method in methods):
            names.add(found.__name__)
    return {name for name in names if not name.startswith("_")}
