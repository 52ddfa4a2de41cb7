"""Which arms a sweep compares: a grid of settings, or named sets of overrides in a file."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pne_seg.errors import UserError
from pne_seg.runs import check_name
from pne_seg.settings_files import read_yaml


@dataclass(frozen=True)
class ArmSettings:
    """An arm before it is trained.

    Attributes:
        name: of its folder, and in tables.
        overrides: settings laid over the sweep's, with their values as on the command line.
    """

    name: str
    overrides: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> list[str]:
        """The overrides as the command line takes them."""
        return [part for key, value in self.overrides for part in (f"--{key}", value)]


def grid(sets: Sequence[str]) -> list[ArmSettings]:
    """Return every combination of settings; the first one is the baseline.

    Args:
        sets: `KEY=v1,v2`; commas within brackets, braces and quotes belong to a value.

    Raises:
        UserError: one has no key or no value, or a key stands twice.
    """
    axes: dict[str, list[str]] = {}
    for given in sets:
        key, equals, values = given.partition("=")
        key = key.strip().removeprefix("--")
        if not key or not equals or not values.strip():
            raise UserError(f"--set {given}: expected KEY=V1,V2, as model.contrast.weight=0.5,1.")
        if key in axes:
            raise UserError(f"--set {key} is given twice. Give all its values in one.")
        axes[key] = _split(values)
    names = short_names(list(axes))
    arms = []
    for chosen in itertools.product(*axes.values()):
        overrides = tuple(zip(axes, chosen, strict=True))
        name = ",".join(f"{names[key]}={value}" for key, value in overrides) or "all"
        arms.append(ArmSettings(_folder_name(name), overrides))
    return _checked(arms)


def read_arms(file: Path) -> list[ArmSettings]:
    """Read arms by name, each a mapping of settings; the one with `baseline: true` comes first.

    Raises:
        UserError: the file is not such YAML, or not exactly one arm is the baseline.
    """
    content = read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file}: expected arms by name, each with its settings (or {{}}).")
    baselines, arms = [], []
    for name, settings in content.items():
        settings = {} if settings is None else settings
        if not isinstance(settings, dict):
            raise UserError(
                f"{file}: {name} is {settings}, expected 'setting: value' lines or {{}}."
            )
        if settings.get("baseline") is True:
            baselines.append(str(name))
        overrides = [(str(k), as_argument(v)) for k, v in settings.items() if k != "baseline"]
        arms.append(ArmSettings(str(name), tuple(overrides)))
    if len(baselines) != 1:
        found = f"{', '.join(baselines)} do" if baselines else "none does"
        raise UserError(f"{file}: one arm has 'baseline: true'; here {found}.")
    return _checked(sorted(arms, key=lambda arm: arm.name != baselines[0]))


def as_argument(value: Any) -> str:
    """Return a setting's value as the command line takes it."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def short_names(keys: list[str]) -> dict[str, str]:
    """Name each key by as few of its last parts as tell it from the others."""
    names = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            name = ".".join(parts[-count:])
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        names[key] = name
    return names


def _checked(arms: list[ArmSettings]) -> list[ArmSettings]:
    for arm in arms:
        check_name(arm.name)
    names = [arm.name for arm in arms]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"Two arms would be called {', '.join(sorted(twice))}. Leave one out.")
    return arms


def _split(values: str) -> list[str]:
    """Split at commas outside brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in values:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _folder_name(name: str) -> str:
    return "".join("-" if character in '/\\:*?"<>|' else character for character in name)
