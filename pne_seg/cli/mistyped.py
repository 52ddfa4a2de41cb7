"""Answer a mistyped key of this project's classes at once, before PyTorch and Lightning load.

Only keys that the source files rule out are reported here. The parser (`parser.py`) checks all of
them, with the same message.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pne_seg.cli.arguments import GROUPS, SLOTS
from pne_seg.cli.merging import SLOT_KEYS
from pne_seg.cli.settings import Settings
from pne_seg.cli.signatures import arguments, dataclass_in
from pne_seg.errors import UserError, unknown_setting

INTERNAL = frozenset({"data.input", "data.description"})
"""Settings that are not the user's: `predict --input` makes them."""
_NEEDS_CLASS = {*SLOTS} - {"data", "ema", "trainer.logger"}
"""Slots without a default class; without data, the parser says that these are missing."""
_PACKAGES = ("pne_seg.", "torch.", "lightning.")
"""Packages whose classes are read; others may define theirs in any way."""


def check_keys(settings: Settings, top: set[str]) -> None:
    """Report a key that a command does not have, whose keys begin with those of `top`.

    `settings` must be loaded.
    """
    walk = _Walk(top)
    walk.compare_top(settings.tree())
    if walk.unknown:
        raise UserError(unknown_key(walk.unknown[0], walk.keys, settings))
    for key, setting in walk.without_class.items():
        raise UserError(f"--{setting} {without_class(key)}{settings.place(setting)}")


def without_class(key: str) -> str:
    """Return what is wrong with a setting in a slot whose class is not given."""
    listed = f" `--{key} --help` lists classes." if key in SLOTS else ""
    return (
        f"is set, but the class that it belongs to is not. Give that too, as --{key} CLASS or in "
        f"a --config.{listed}"
    )


def unknown_key(key: str, known: Iterable[str], settings: Settings) -> str:
    """Return the message on a key that is not among the known ones."""
    candidates = [f"--{one}" for one in {*known} - INTERNAL]
    return unknown_setting(f"--{key}", candidates) + settings.place(key)


def deepest(key: str, value: Any) -> str:
    """Return the first setting within an unknown key."""
    while isinstance(value, dict) and value:
        name, value = next((item for item in value.items() if item[0] != "init_args"), ("", None))
        key += f".{name}" if name else ""
    return key


def class_of(key: str, named: str) -> str | None:
    """Return the path of the class that a slot names, None if only an import finds it."""
    path = named if "." in named else f"{SLOTS[key]}.{named}" if key in SLOTS else ""
    return path if path.startswith(_PACKAGES) else None


class _Walk:
    """What one walk over the settings finds."""

    def __init__(self, top: set[str]) -> None:
        self.top = top
        self.keys = {*top}
        for group in top & set(GROUPS):
            self.keys |= {f"{group}.{name}" for name in arguments(GROUPS[group]) or ()}
        self.unknown: list[str] = []
        self.without_class: dict[str, str] = {}  # settings in them, by slot

    def compare_top(self, given: Mapping[str, Any]) -> None:
        for key, value in given.items():
            if str(key).removesuffix("+") not in self.top:
                self.unknown.append(deepest(key, value))
            elif key in GROUPS and isinstance(value, dict):
                self._compare(key, value, GROUPS[key])
            elif key == "data":
                self._check_slot(key, value)

    def _compare(self, group: str, given: Mapping[str, Any], path: str) -> None:
        """Compare settings with the arguments of a class."""
        known = arguments(path)
        if known is None:
            return
        self.keys |= {f"{group}.{name}" for name in known}
        for name, value in given.items():
            key = f"{group}.{name}"
            argument = known.get(str(name).removesuffix("+"))  # which extends a list
            if argument is None:
                self.unknown.append(deepest(key, value))
            else:
                self._check_slot(key, value, dataclass_in(argument.kind, path))

    def _check_slot(self, key: str, value: Any, default: str | None = None) -> None:
        if isinstance(value, str):
            value = {"class_path": value} if key in SLOTS else None
        if not isinstance(value, dict):
            return
        named = value.get("class_path")
        path = default if named is None else class_of(key, str(named))
        if named is None and default is None and key in _NEEDS_CLASS and value:
            self.without_class[key] = deepest(key, value)
        if path is not None:
            inner = value.get("init_args")
            given = {name: part for name, part in value.items() if name not in SLOT_KEYS}
            self._compare(key, {**(inner if isinstance(inner, dict) else {}), **given}, path)
