"""The argument parser, whose errors name the key and the nearest valid one in a few lines.

jsonargparse says what is wrong in a report of many lines that changes with its version. So nothing
is read from that report: each setting is looked up in the parser and in the class that takes it.
"""

import dataclasses
import inspect
import sys
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from pne_seg.cli.merging import SLOT_KEYS
from pne_seg.cli.mistyped import deepest, unknown_key, without_class
from pne_seg.cli.setting_types import (
    concrete_classes,
    expected_value,
    fits,
    inner_types,
    parts,
    slot_classes,
    takes_list,
)
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError, nearest
from pne_seg.imports import imported
from pne_seg.settings_files import parse_yaml, read_yaml


class Parser(ArgumentParser):
    """A parser without abbreviations that raises `UserError` instead of printing the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})

    def parse(self, settings: Settings) -> Namespace:
        """Parse settings; what they may not name is neither imported nor left in them."""
        with settings.enforced():
            try:
                config: Namespace = self.parse_args(settings.arguments())
            except ArgumentError as error:
                raise UserError(_find_mistake(self, settings) or _beginning(error)) from error
            settings.imports.check(config)
        return config


def _beginning(error: ArgumentError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join(line[:300] for line in lines[:4])


def _find_mistake(parser: ArgumentParser, settings: Settings) -> str | None:
    """Describe the first setting that the parser refuses, an unknown key before a bad value."""
    if reason := _function_as_network(settings):
        return reason
    walk = _Walk(settings)
    walk.compare(settings.tree(), parser)
    if walk.unknown:
        return unknown_key(walk.unknown[0], walk.keys, settings)
    if walk.refused:
        return walk.refused[0]
    required = [action.dest for action in parser._actions if action.required]
    required += sorted(parser._extra_required_keys)  # classes in slots
    missing = [key for key in required if settings.get(key) is None] or walk.missing
    if missing:
        return f"Missing: {', '.join(missing)}. Give a --config file that sets it, or --KEY VALUE."
    return None


def _function_as_network(settings: Settings) -> str | None:
    """Return how to fix a network that is a function, None if it is a class."""
    network = settings.get("model.network")
    name = network.get("class_path") if isinstance(network, dict) else network
    try:
        found = settings.imports.resolve(str(name), "model.network")
    except (ImportError, AttributeError, ValueError):
        return None  # reported with the other settings
    if not inspect.isfunction(found):
        return None
    if found.__module__.startswith("torchvision.models.segmentation."):
        fix = (
            "Give --model.network pne_seg.networks.TorchvisionNetwork "
            f"--model.network.name {found.__name__}"
        )
    else:
        fix = (
            "Call it in an nn.Module of yours that takes `classes` and whose forward returns "
            "logits, and name that class."
        )
    place = settings.place("model.network")
    return f"--model.network {name} is a function; expected a class.{place}\n  {fix}"


def settings_of(class_path: str) -> set[str]:
    """Return the names of a data set class's settings; none of a class that is not there."""
    found = imported(class_path if "." in class_path else f"pne_seg.data.{class_path}")
    return set() if found is None else {action.dest for action in settings_parser(found)._actions}


class _Walk:
    """What one walk over the settings finds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys: set[str] = set()  # all valid ones, including those of the classes in the slots
        self.unknown: list[str] = []  # keys of the settings that are not valid
        self.refused: list[str] = []  # what is wrong with values
        self.missing: list[str] = []  # settings without which a loss cannot be built

    def compare(
        self, given: Mapping[str, Any], parser: ArgumentParser, slot: str = "", group: str = ""
    ) -> None:
        """Compare settings with the parser of the command, or of the class in a slot."""
        actions = {
            action.dest: action
            for action in parser._actions
            if action.dest.rpartition(".")[2] not in ("help", "print_config")
        }
        self.keys |= {f"{slot}{key}" for key in actions}
        for name, value in given.items():
            key = f"{group}{name}"
            appends = key not in actions and key.endswith("+")
            key = key.removesuffix("+") if appends else key
            kind = getattr(actions.get(key), "_typehint", None)
            is_group = kind is None and any(known.startswith(f"{key}.") for known in actions)
            if is_group and isinstance(value, dict):
                self.compare(value, parser, slot, f"{key}.")
            elif key not in actions:
                self.unknown.append(deepest(f"{slot}{key}", value))
            elif appends and not takes_list(kind):
                self._refuse(f"{slot}{key}", "is no list that + could append to: give all of it.")
            elif kind is not None:
                self._check(f"{slot}{key}", value, kind, actions[key].default)

    def _check(self, key: str, value: Any, kind: Any, default: Any = None) -> None:
        if isinstance(value, str) and value.startswith("["):
            value = parse_yaml(value, f"--{key} {value}")
        classes = slot_classes(kind)
        if isinstance(value, dict) and (classes or "class_path" in value):
            init_args = value.get("init_args")
            given = dict(init_args) if isinstance(init_args, dict) else {}
            given |= {name: part for name, part in value.items() if name not in SLOT_KEYS}
            named = value.get("class_path", _class_path(default))
            is_default = named is None and classes
            found = classes[0] if is_default else self._resolve(key, str(named), classes)
            if is_default and given and not _takes(found, given):
                self._refuse(f"{key}.{next(iter(given))}", without_class(key))
            else:
                self._check_class(key, given, found, classes)
        elif isinstance(value, dict) and (inner := inner_types(kind, Mapping)):
            for name, content in value.items():
                self._check(f"{key}.{name}", content, inner[-1])
        elif isinstance(value, list) and (inner := inner_types(kind, Sequence)):
            for content in value:
                self._check(key, content, inner[0])
        elif fits(value, kind):
            return
        elif isinstance(value, str) and all(map(slot_classes, parts(kind))):
            self._check_class(key, {}, self._resolve(key, value, classes), classes)
        elif refusal := self.settings.imports.refused_in(value, key):
            self.refused.append(str(refusal))
        else:
            self._refuse(key, f"{str(value)[:300]}: expected {expected_value(value, kind)}.")

    def _check_class(
        self, key: str, given: dict[str, Any], found: Any, classes: list[type]
    ) -> None:
        if isinstance(found, type) and not issubclass(found, tuple(classes) or object):
            expected = " or ".join(one.__name__ for one in classes)
            self._refuse(key, f"{found.__name__}: expected {expected}.")
        if found is None:
            return
        try:
            parser = settings_parser(found)
        except Exception:  # signatures of third-party code; the parser's own report remains
            return
        self.compare(given, parser, f"{key}.")
        from torch import nn  # not for help, which needs no class

        if issubclass(found, nn.Module) and key != "model.network":  # the data decide some of that
            needed = [action.dest for action in parser._actions if action.required]
            self.missing += [f"{key}.{name}" for name in needed if name not in given]

    def _resolve(self, key: str, name: str, classes: list[type]) -> Any:
        """Return the class that a slot names, None if there is none."""
        if Path(name).is_file():
            read_yaml(Path(name))  # refused for what is in it
        found = list(dict.fromkeys(one for base in classes for one in concrete_classes(base)))
        known = {one.__name__: one for one in found}
        if len(same := [one for one in found if one.__name__ == name]) > 1:
            meant = next((one for one in same if one in classes), same[0])
            path = f"{meant.__module__}.{name}"
            self._refuse(key, f"{name}: several classes have that name. Give the full {path}.")
            return None
        if name in known:
            return known[name]
        reason = f"{name}: no class of that name."
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
                    f"{name} cannot be found here (No module named {error.name!r}).\n"
                    "  Start where Python finds its file, or install its package."
                )
            except UserError as error:
                self.refused.append(str(error))
                return None
            except (ImportError, AttributeError):
                module, _, last = name.rpartition(".")
                there = vars(sys.modules[module]) if module in sys.modules else {}
                near = nearest(last, [name for name, one in there.items() if isinstance(one, type)])
                reason += f"\n  The nearest is {module}.{near}." if near else ""
        self._refuse(key, reason)
        return None

    def _refuse(self, key: str, reason: str) -> None:
        self.refused.append(f"--{key} {reason}{self.settings.place(key)}")


def settings_parser(found: Any) -> ArgumentParser:
    """Return a parser of a class's or function's settings, those forwarded by **kwargs too."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(found, type) else parser.add_function_arguments
    add(found, fail_untyped=False)
    return parser


def _takes(found: type, given: Mapping[str, Any]) -> bool:
    """Return whether a slot's own class could be built from settings: is no base of others."""
    known = {action.dest for action in settings_parser(found)._actions}
    return dataclasses.is_dataclass(found) or (
        found in concrete_classes(found) and given.keys() <= known
    )


def _class_path(default: Any) -> str | None:
    """Return the class of a slot's default."""
    named = default.get("class_path") if hasattr(default, "get") else None
    return named if isinstance(named, str) and imported(named) is not None else None
