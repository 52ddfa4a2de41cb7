"""Fold config files and command-line overrides into one configuration, before it is parsed.

jsonargparse keeps init_args across a change of class wherever the new class knows the name, so
that one loss's weight and temperature silently become another's; and a key under a slot set to
null silently brings the slot back. Here a slot whose class changes starts afresh, and a key under
null is refused.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pne_seg.errors import UserError
from pne_seg.imports import Imports, imported
from pne_seg.settings_files import check_yaml, line_of, parse_yaml, read_yaml

Config = dict[str, Any]


@dataclass
class Override:
    """One `--key value` of the command line; `value` is None for a flag, such as `--help`."""

    key: str
    value: str | None

    @property
    def tokens(self) -> list[str]:
        """The override as arguments."""
        return [f"--{self.key}"] if self.value is None else [f"--{self.key}={self.value}"]


_OWN = Imports(own=True, setting="--{}", fix="add --allow {}")


@dataclass
class Settings:
    """A command line taken apart.

    Attributes:
        files: the `--config` files, left to right.
        overrides: everything else, left to right; they win over every file.
        config: the files merged.
        imports: what files and overrides may name.
    """

    files: list[Path] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    config: Config = field(default_factory=dict)
    imports: Imports = _OWN

    @classmethod
    def of(cls, args: Sequence[str]) -> "Settings":
        """Take the arguments after the verb apart; `load` then reads the files.

        Raises:
            UserError: an argument that belongs to no key, `--config` without a file, `--allow`
                without a module, or a value beyond all bounds.
        """
        settings = cls()
        for override in _overrides(args):
            check_yaml(override.value or "", f"The value of --{override.key}")
            if override.key == "allow":
                settings._allow(override.value or "")
            elif override.key in ("config", "c"):
                if override.value is None:
                    raise UserError("--config needs a file.")
                settings.files.append(Path(override.value))
            else:
                settings.overrides.append(override)
        return settings

    def load(self) -> None:
        """Read and merge the files, then drop from the result what the overrides replace.

        Raises:
            UserError: a file is missing or malformed, a key stands under a slot that is null, or
                a file sets `allow`.
        """
        for path in self.files:
            self.config = merge(self.config, read_config(path), str(path))
        if self.config.pop("allow", None) is not None:
            raise UserError("A config cannot allow imports. Give --allow on the command line.")
        self.overrides = _resolve_slots(self.config, self.overrides)

    def pop(self, key: str) -> str | None:
        """Take an override out; the last one where it is given several times."""
        values = [override.value for override in self.overrides if override.key == key]
        self.overrides = [override for override in self.overrides if override.key != key]
        return values[-1] if values else None

    def get(self, key: str) -> Any:
        """What files and overrides say of a dotted key, None where they do not mention it.

        `init_args` may be left out of the key.
        """
        for override in reversed(self.overrides):
            given = _plain(override.key)
            if override.value is None or not _within(key, given):
                continue
            value = _parse(override)
            if key == given:
                return value
            if isinstance(value, dict):
                return _look_up(value, key.removeprefix(f"{given}."))
        return _look_up(self.config, key)

    def tree(self) -> Config:
        """Files and overrides in one, as far as their keys and classes go.

        An override's value is a text unless it is a list or a mapping; what overrides set of a
        class stands beside its `class_path`.
        """
        tree = copy.deepcopy(self.config)
        for override in self.overrides:
            if override.value is None:
                continue
            *parents, last = _plain(override.key).split(".")
            node = tree
            for name in parents:
                inner, found = node.get("init_args"), node.get(name)
                if name not in node and isinstance(inner, dict) and name in inner:
                    node, found = inner, inner[name]
                if not isinstance(found, dict):
                    found = {} if found is None else {"class_path": found}
                node[name] = node = found
            value = _parse(override) if override.value[:1] in ("{", "[") else override.value
            old = node.get(last)
            if isinstance(old, dict) and not isinstance(value, list):
                value = {**old, **(value if isinstance(value, dict) else {"class_path": value})}
            node[last] = value
        return tree

    def place(self, key: str) -> str:
        """A line that says where a setting stands; empty for one of the command line.

        Args:
            key: dotted, `init_args` may be left out of it.
        """
        if any(_within(key, _plain(override.key)) for override in self.overrides):
            return ""
        for file in reversed(self.files):
            if (line := line_of(file, key.split("."))) is not None:
                return f"\n  It stands in {file}, line {line}."
        return ""

    def enforced(self) -> AbstractContextManager[None]:
        """Have jsonargparse refuse what the settings may not name."""
        values = [override.value for override in self.overrides if override.value is not None]
        return self.imports.enforced(self.config, values)

    def _allow(self, given: str) -> None:
        names = [name.strip(" '\"") for name in given.strip("[] ").split(",")]
        if not all(names):
            raise UserError("--allow needs the name of a module or package.")
        self.imports = replace(self.imports, allow=(*self.imports.allow, *names))

    def arguments(self) -> list[str]:
        """The folded command line, for the parser."""
        config = ["--config", yaml.safe_dump(self.config, sort_keys=False)] if self.config else []
        return config + [token for override in self.overrides for token in override.tokens]


def read_config(path: Path) -> Config:
    """Read one YAML file.

    Raises:
        UserError: it is missing, not YAML, or not a mapping; the file and the line are named.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        others = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.name else []
        known = f" There are {', '.join(others[:8])}." if others else ""
        raise UserError(f"--config {path}: {error.strerror}.{known}") from error
    except UserError as error:
        raise UserError(f"--config {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(
            f"--config {path} must hold 'key: value' lines, not a {type(content).__name__}."
        )
    return content


_VALUES = ("classes",)
"""Keys whose mappings are one value: another replaces it, and is not laid over it."""


def merge(base: Config, new: Config, source: str, prefix: str = "") -> Config:
    """Merge `new` over `base`: mappings key by key, other values replaced, a new class afresh.

    Raises:
        UserError: `new` sets a key under a slot that `base` has as null.
    """
    merged = dict(base)
    for key, value in new.items():
        name = f"{prefix}{key}"
        old = base.get(key)
        if isinstance(value, dict) and key in base and old is None and "class_path" not in value:
            raise UserError(_under_null(f"{name}.{next(iter(value), '')}", name, source))
        if isinstance(old, str) and isinstance(value, dict) and "class_path" not in value:
            old = {"class_path": old}
        if isinstance(value, str) and isinstance(old, dict) and "class_path" in old:
            value = {"class_path": value}
        if (
            key in _VALUES
            or not (isinstance(old, dict) and isinstance(value, dict))
            or _changes_class(old, value)
        ):
            merged[key] = value
        else:
            merged[key] = merge(old, value, source, f"{name}.")
    return merged


def _under_null(key: str, slot: str, source: str) -> str:
    return (
        f"{source}: '{key}' is set while '{slot}' is null, which switches it off. "
        f"Leave the key out, or give the class first (--{slot} CLASS)."
    )


def _overrides(args: Sequence[str]) -> Iterator[Override]:
    pending: Override | None = None
    for token in args:
        if token.startswith("--") or token in ("-c", "-h"):
            if pending is not None:
                yield pending
            key, has_value, value = token.lstrip("-").partition("=")
            pending = Override("help" if key == "h" else key, value if has_value else None)
            if has_value:
                yield pending
                pending = None
        elif pending is not None:
            yield Override(pending.key, token)
            pending = None
        else:
            raise UserError(f"{token!r} belongs to no key; settings are given as --key value.")
    if pending is not None:
        yield pending


def _resolve_slots(config: Config, overrides: list[Override]) -> list[Override]:
    """Remove what a change of class makes void, from the config and from earlier overrides."""
    kept: list[Override] = []
    switched_off: set[str] = set()
    for override in overrides:
        slot = override.key.removesuffix(".class_path")
        off = _null_ancestor(config, slot)
        off = off or next((other for other in switched_off if slot.startswith(f"{other}.")), None)
        if off is not None:
            raise UserError(_under_null(override.key, off, f"--{override.key}"))
        named = _class_of(override)
        if override.value == "null":
            switched_off.add(slot)
        else:
            switched_off.discard(slot)
        if override.value == "null" or (named and _replaces(named, slot, config, kept)):
            kept = [earlier for earlier in kept if not _within(earlier.key, slot)]
            parent = _parent(config, slot)
            if parent is not None:
                parent.pop(slot.rpartition(".")[2], None)
        kept.append(override)
    return kept


def _replaces(named: str, slot: str, config: Config, earlier: list[Override]) -> bool:
    """Whether a class (or a plain value) takes the place of what the slot held so far."""
    for override in reversed(earlier):
        if override.key.removesuffix(".class_path") == slot:
            return not same_class(_class_of(override) or "", named)
    old = _look_up(config, slot)
    if isinstance(old, dict) and "class_path" not in old:
        return False  # a group of settings: what is named is a file for it
    return not same_class(str(old["class_path"] if isinstance(old, dict) else old), named)


def _look_up(config: Config, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        if isinstance(node, dict) and part not in node:
            node = node.get("init_args")
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _null_ancestor(config: Config, key: str) -> str | None:
    """The part of a dotted key that the config sets to null, if any."""
    node: Any = config
    parts = key.split(".")
    for depth, part in enumerate(parts[:-1], start=1):
        if not isinstance(node, dict):
            return None
        if part not in node:
            node = node.get("init_args")
            if not isinstance(node, dict) or part not in node:
                return None
        node = node[part]
        if node is None:
            return ".".join(parts[:depth])
    return None


def _parent(config: Config, slot: str) -> Config | None:
    """The mapping that holds a dotted slot; `init_args` may be left out of the slot."""
    node: Any = config
    for part in slot.split(".")[:-1]:
        if isinstance(node, dict) and part not in node:
            node = node.get("init_args")
        node = node.get(part) if isinstance(node, dict) else None
    leaf = slot.rpartition(".")[2]
    if isinstance(node, dict) and leaf not in node and isinstance(node.get("init_args"), dict):
        node = node["init_args"]
    return node if isinstance(node, dict) else None


def _within(key: str, slot: str) -> bool:
    return key == slot or key.startswith(f"{slot}.")


def _plain(key: str) -> str:
    return key.replace(".init_args", "")


def _parse(override: Override) -> Any:
    return parse_yaml(override.value or "", f"--{override.key} {override.value}")


def _class_of(override: Override) -> str | None:
    """The class that an override's value names, if it can name one."""
    value = override.value
    if value is None or value == "null":
        return None
    if value.startswith("{"):
        spec = _parse(override)
        return str(spec["class_path"]) if isinstance(spec, dict) and "class_path" in spec else None
    return value if value.replace(".", "").replace("_", "").isalnum() else None


def _changes_class(old: Config, new: Config) -> bool:
    if "class_path" not in new or "class_path" not in old:
        return False
    return not same_class(str(old["class_path"]), str(new["class_path"]))


def same_class(one: str, other: str) -> bool:
    """Whether two class paths, in full or by the class's name alone, mean the same class."""
    if "." in one and "." in other and one != other:
        found = imported(one)
        return found is not None and found is imported(other)
    return one.rpartition(".")[2] == other.rpartition(".")[2]
