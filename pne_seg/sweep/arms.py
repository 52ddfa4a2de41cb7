"""Which arms a sweep compares: a grid of settings, named sets of them in a file, or a search.

A search lets Optuna choose arms from ranges of settings, by validation mIoU over paired seeds. The
test split takes no part, or the figures of the arm that is chosen would be of no use.
"""

import functools
import itertools
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import Trial

from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.runs import check_name
from pne_seg.settings_files import read_yaml
from pne_seg.sweep.cells import ArmSettings, Cell, Worker
from pne_seg.sweep.study import Sweep, Task, TaskState

BASELINE = "baseline"
"""The arm of a search without any of its settings."""

Range = FloatDistribution | IntDistribution | CategoricalDistribution


def grid(sets: Sequence[str]) -> list[ArmSettings]:
    """Return every combination of settings `KEY=v1,v2`; the first one is the baseline."""
    axes: dict[str, list[str]] = {}
    for given in sets:
        key, equals, values = given.partition("=")
        key = key.strip().removeprefix("--")
        if not key or not equals or not values.strip():
            raise UserError(f"{given}: expected KEY=V1,V2, as model.contrast.weight=0.5,1.")
        if key in axes:
            raise UserError(f"{key} is given twice. Give all its values in one.")
        axes[key] = _split(values)
    names = short_names(list(axes))
    arms = []
    for chosen in itertools.product(*axes.values()):
        overrides = tuple(zip(axes, chosen, strict=True))
        name = ",".join(f"{names[key]}={value}" for key, value in overrides) or "all"
        folder = "".join("-" if character in '/\\:*?"<>|' else character for character in name)
        arms.append(ArmSettings(folder, overrides))
    return _checked(arms)


def read_arms(file: Path) -> list[ArmSettings]:
    """Read arms by name, each a mapping of settings; the one with `baseline: true` comes first."""
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


@dataclass(frozen=True)
class Search(Sweep):
    """A sweep whose tasks are arms with all seeds: the baseline and the trials."""

    space: Mapping[str, Range] = field(default_factory=dict)
    num_trials: int = 0

    def definition(self) -> dict[str, Any]:
        """Return what must not change under one study's name."""
        ranges = {name: str(found) for name, found in self.space.items()}
        return super().definition() | {"search": ranges, "seeds": list(self.seeds)}

    def describe(self) -> list[str]:
        """Return lines on the ranges, and how much would be trained."""
        lines = [f"{name}: {describe_range(given)}" for name, given in self.space.items()]
        most = (self.num_trials + 1) * len(self.seeds)
        arms = f"{self.num_trials} arms and the baseline, {len(self.seeds)} seeds"
        return [*lines, f"{arms}: {most} cells at most."]

    def options(self) -> dict[str, Any]:
        """Return the sampler, and the pruner of arms that are worse than the best beyond doubt."""
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            sampler = optuna.samplers.TPESampler(constant_liar=True)
            return {"sampler": sampler, "pruner": optuna.pruners.WilcoxonPruner()}

    def tasks(self) -> dict[str, Task]:
        """Return the tasks by the names of their arms."""
        keys = [BASELINE, *(f"trial{number}" for number in range(self.num_trials))]
        return {key: functools.partial(self._run_arm, key) for key in keys}

    def _run_arm(self, key: str, trial: Trial, worker: Worker) -> float:
        space = {} if key == BASELINE else self.space
        arm = self.arm(key, {name: _suggest(trial, name, space[name]) for name in space})
        values: list[float] = []
        for cell in self.cells_of(arm):
            values.append(self.run(cell, worker, split="val"))
            trial.report(values[-1], cell.seed)
            if key != BASELINE and len(values) < len(self.seeds) and trial.should_prune():
                trial.set_user_attr("pruned", True)
                break
        return statistics.fmean(values)  # of a pruned arm too: Optuna's advice for this pruner

    def arm(self, key: str, params: Mapping[str, Any]) -> ArmSettings:
        """Return the arm of a task with what was chosen for it."""
        chosen = [(name, as_argument(params[name])) for name in self.space if name in params]
        return ArmSettings(key, tuple(chosen))

    def trained_cells(self, states: Sequence[TaskState], count: int) -> list[Cell]:
        """Return the cells of the baseline and of the best arms that have all seeds."""
        done = [state for state in states if state.state == "done"]
        ranked = sorted(done, key=lambda state: (state.key != BASELINE, -(state.value or 0)))
        if not ranked or ranked[0].key != BASELINE:
            return []
        arms = [self.arm(state.key, state.params) for state in ranked[: count + 1]]
        return [cell for arm in arms for cell in self.cells_of(arm)]

    def write_best(self, states: Sequence[TaskState]) -> Path | None:
        """Write the baseline and the best arm for `read_arms`; None if the baseline is as good."""
        values = {state.key: state.value or 0.0 for state in states if state.state == "done"}
        best = max(states, key=lambda state: (values.get(state.key, -1.0), state.key == BASELINE))
        if best.key == BASELINE or best.key not in values:
            return None
        arms = {BASELINE: {"baseline": True}, best.key: dict(best.params)}
        file = self.folder / "best.yaml"
        text = yaml.safe_dump(arms, sort_keys=False, allow_unicode=True)
        write_bytes_atomically(file, text.encode())
        return file


def read_space(file: Path) -> dict[str, Range]:
    """Read ranges by setting: `[a, b]` for choices, `{low: 0.1, high: 5, log: true}` for numbers.

    Numbers are whole if `low`, `high` and `step` are.
    """
    content = read_yaml(file)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file}: expected ranges by setting, as model.contrast.weight: [0.5, 1].")
    return {str(name): _range(f"{file}: {name}", given) for name, given in content.items()}


def _range(where: str, given: Any) -> Range:
    expected = "Expected choices, [0.5, 1], or a range, {low: 0.1, high: 5, log: true}."
    if isinstance(given, list):
        if not given or not all(isinstance(choice, str | int | float | None) for choice in given):
            raise UserError(f"{where} is {given}. {expected} A choice is a word or a number.")
        return CategoricalDistribution(given)
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys():
        raise UserError(f"{where} is {given}. {expected}")
    if unknown := given.keys() - {"low", "high", "log", "step"}:
        raise UserError(f"{where} has {', '.join(map(str, unknown))}. {expected}")
    numbers = [given[key] for key in ("low", "high", "step") if given.get(key) is not None]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
        raise UserError(f"{where} is {given}, not all of it numbers. {expected}")
    whole = all(isinstance(number, int) for number in numbers)
    try:
        return IntDistribution(**given) if whole else FloatDistribution(**given)
    except ValueError as error:
        raise UserError(f"{where} is {given}: {error}") from error


def describe_range(given: Range) -> str:
    """Write a range as `1e-05 … 0.001 (log)`, choices as `PNE, null`."""
    if isinstance(given, CategoricalDistribution):
        return ", ".join(map(as_argument, given.choices))
    notes = [f"step {given.step:g}"] if given.step not in (None, 1) else []
    notes += ["log"] if given.log else []
    return f"{given.low:g} … {given.high:g}" + (f" ({', '.join(notes)})" if notes else "")


def _suggest(trial: Trial, name: str, given: Range) -> Any:
    if isinstance(given, CategoricalDistribution):
        return trial.suggest_categorical(name, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
    return trial.suggest_float(name, given.low, given.high, step=given.step, log=given.log)
