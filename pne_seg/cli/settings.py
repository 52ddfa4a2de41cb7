"""Config files and command-line overrides as one tree of settings.

An override is merged like one more file (`pne_seg.cli.merging`).
"""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pne_seg.cli import program
from pne_seg.cli.merging import Config, merge
from pne_seg.errors import UserError
from pne_seg.files import expanded
from pne_seg.imports import Imports
from pne_seg.settings_files import check_yaml, line_of, parse_yaml, read_yaml
from pne_seg.shipped_configs import find_config, shipped_configs

_OWN = Imports(own=True, setting="--{}", fix="add --allow {}")


@dataclass
class Override:
    """One `--key value` of the command line; `value` is None if none follows the key."""

    key: str
    value: str | None

    @property
    def is_action(self) -> bool:
        """Whether it asks the parser to print something."""
        return self.value is None or self.key.rpartition(".")[2] in ("help", "print_config")

    @property
    def tokens(self) -> list[str]:
        """The override as arguments."""
        return [f"--{self.key}"] if self.value is None else [f"--{self.key}={self.value}"]

    def expanded(self) -> Config:
        """Nest the override as in a file; texts stay as typed, for the parser to read by type."""
        value: Any = None if self.value == "null" else self.value
        # `{split}2017` is a path.
        if isinstance(value, str) and value.startswith("{") and not value.startswith("{split}"):
            value = _with_paths(parse_yaml(value, f"--{self.key} {value}"))
        for name in reversed(self.key.split(".")):
            value = {name: value}
        return dict(value)


@dataclass
class Settings:
    """The settings of a command, files and overrides each from left to right."""

    files: list[Path] = field(default_factory=list)
    overrides: list[Override] = field(default_factory=list)
    config: Config = field(default_factory=dict)
    """The files merged, once they are loaded."""
    imports: Imports = _OWN

    @classmethod
    def of(cls, args: Sequence[str]) -> "Settings":
        """Take the arguments after the verb apart; `load` then reads the files."""
        settings = cls()
        for override in _overrides(args):
            value = override.value or ""
            check_yaml(value, f"The value of --{override.key}")
            if override.key == "allow":
                names = [name.strip(" '\"") for name in value.strip("[] ").split(",")]
                if not all(names):
                    raise UserError("--allow needs the name of a module or package.")
                allow = (*settings.imports.allow, *names)
                settings.imports = replace(settings.imports, allow=allow)
            elif override.key not in ("config", "c"):
                settings.overrides.append(override)
            elif override.value is None:
                raise UserError("--config needs a file.")
            else:
                settings.files.append(find_config(value))
        return settings

    def load(self) -> None:
        """Read and merge the files, and check that the overrides can be laid over them."""
        for path in self.files:
            self.config = merge(self.config, read_config(path), str(path))
        if self.config.pop("allow", None) is not None:
            raise UserError("A config cannot allow imports. Give --allow on the command line.")
        self.tree()

    @property
    def root(self) -> Path:
        """The folder that holds `runs`."""
        return Path(self.get("trainer.default_root_dir") or ".")

    def tree(self) -> Config:
        """Return files and overrides, merged."""
        tree = self.config
        for override in _classes_first(self.overrides):
            if not override.is_action:
                tree = merge(tree, override.expanded(), f"--{_plain(override.key)}")
        return tree

    def get(self, key: str) -> Any:
        """Return a setting, `init_args` left out of its key; what an override says is a text."""
        node: Any = self.tree()
        for name in key.split("."):
            if isinstance(node, dict) and not {name, f"{name}+"} & node.keys():
                node = node.get("init_args")
            node = node.get(name, node.get(f"{name}+")) if isinstance(node, dict) else None
        return node

    def pop(self, key: str) -> str | None:
        """Take an override out; the last one if it is given several times."""
        values = [override.value for override in self.overrides if override.key == key]
        self.overrides = [override for override in self.overrides if override.key != key]
        return values[-1] if values else None

    def place(self, key: str) -> str:
        """Return a line that names file and line of a setting; empty for one typed as a flag."""
        typed = [_plain(override.key).removesuffix("+") for override in self.overrides]
        files = [] if any(f"{key}.".startswith(f"{given}.") for given in typed) else self.files
        for file in reversed(files):
            if (line := line_of(file, key.split("."))) is not None:
                return f"\n  It stands in {file}, line {line}."
        return ""

    def enforced(self) -> AbstractContextManager[None]:
        """Have jsonargparse refuse what the settings may not name."""
        return self.imports.enforced(self.config, [override.value for override in self.overrides])

    def arguments(self) -> list[str]:
        """Return the settings as the parser's arguments."""
        tree = self.tree()
        config = ["--config", yaml.dump(tree, Dumper=_Quoting, sort_keys=False)] if tree else []
        actions = [override for override in self.overrides if override.is_action]
        return config + [token for override in actions for token in override.tokens]


class _Quoting(yaml.SafeDumper):
    """Quotes every text: the parser's YAML has more numbers than PyYAML's, such as 1e3."""


_Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def read_config(path: Path) -> Config:
    """Read one YAML file."""
    try:
        content = read_yaml(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            raise UserError(f"--config {path}: {error.strerror}.") from error
        raise UserError(
            f"--config {path}: No such file, and no shipped config of that name.{_nearest(path)} "
            f"`{program()} configs` lists the shipped ones."
        ) from error
    except UserError as error:
        raise UserError(f"--config {error}") from error
    if content is not None and not isinstance(content, dict):
        raise UserError(
            f"--config {path} must hold 'key: value' lines, not a {type(content).__name__}."
        )
    return _with_paths(content or {})


def _with_paths(config: Config) -> Config:
    """Fill in what paths begin with; texts in lists, such as names of classes, are none."""
    return {
        key: expanded(value) if isinstance(value, str) else _in_nested(value)
        for key, value in config.items()
    }


def _in_nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_nested(one) for one in value]
    return _with_paths(value) if isinstance(value, dict) else value


def _nearest(path: Path) -> str:
    """Name the configs, shipped or in the same folder, that are spelled most like a missing one."""
    known = {name.rpartition("/")[2]: name for name in shipped_configs()}
    known |= {file.stem: str(file) for file in path.parent.glob("*.yaml")}
    near = [known[name] for name in difflib.get_close_matches(path.stem, known)]
    return f"\n  The nearest: {', '.join(near)}." if near else ""


def _classes_first(overrides: Sequence[Override]) -> list[Override]:
    """Move the first override that names a slot's class ahead of the slot's settings before it."""
    ordered: list[Override] = []
    for override in overrides:
        place, slot = len(ordered), _slot(override)
        slots = [_slot(one) for one in ordered]
        is_name = not (override.value or "null").startswith(("null", "{", "["))
        if is_name and slot not in slots:
            before = (i for i, one in enumerate(slots) if one.startswith(f"{slot}."))
            place = next(before, place)
        ordered.insert(place, override)
    return ordered


def _slot(override: Override) -> str:
    return _plain(override.key).removesuffix(".class_path")


def _plain(key: str) -> str:
    return key.replace(".init_args", "")


def _overrides(args: Sequence[str]) -> Iterator[Override]:
    rest = list(args)
    while rest:
        token = rest.pop(0)
        if not _is_key(token):
            raise UserError(f"{token!r} belongs to no key; settings are given as --key value.")
        key, has_value, value = token.lstrip("-").partition("=")
        if not has_value and rest and not _is_key(rest[0]):
            has_value, value = "=", rest.pop(0)
        if not value.startswith(("[", "{")):  # no list or mapping, but perhaps a path
            value = expanded(value)
        yield Override("help" if key == "h" else key, value if has_value else None)


def _is_key(token: str) -> bool:
    return token.startswith("--") or token in ("-c", "-h")
