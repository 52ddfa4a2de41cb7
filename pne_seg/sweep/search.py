"""A search: Optuna chooses arms from ranges of settings, by validation mIoU over paired seeds.

The test split takes no part, or the figures of the arm that is chosen would be of no use.
"""

import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.settings_files import read_yaml
from pne_seg.sweep.arms import ArmSettings, as_argument
from pne_seg.sweep.cells import Cell, Worker, run_cell
from pne_seg.sweep.study import Queue, Sweep, Task, TaskState

BASELINE = "baseline"
"""The arm without a setting of the search."""

Range = FloatDistribution | IntDistribution | CategoricalDistribution


@dataclass(frozen=True)
class Search(Sweep):
    """A sweep whose arms are the baseline and `trial0`, `trial1`, …, each with all seeds.

    Attributes:
        space: ranges by setting.
        num_trials: arms beside the baseline.
    """

    space: Mapping[str, Range] = field(default_factory=dict)
    num_trials: int = 0

    def definition(self) -> dict[str, Any]:
        """Return what must not change under one study's name."""
        ranges = {name: str(found) for name, found in self.space.items()}
        return super().definition() | {"search": ranges, "seeds": list(self.seeds)}

    def queue(self) -> Queue:
        """Return the queue, whose tasks are arms.

        Raises:
            UserError: the study's settings changed, or its storage cannot be reached.
        """
        keys = [BASELINE, *(f"trial{number}" for number in range(self.num_trials))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(constant_liar=True)
            pruner = optuna.pruners.WilcoxonPruner()
        tasks = {key: self._task(key) for key in keys}
        return Queue(self, tasks, sampler=sampler, pruner=pruner)

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
        return [Cell(self.name, arm, seed) for arm in arms for seed in self.seeds]

    def write_best(self, states: Sequence[TaskState]) -> Path | None:
        """Write the baseline and the best arm as a file for `--arms`; None if no arm is done."""
        done = [s for s in states if s.state == "done" and s.key != BASELINE]
        if not done:
            return None
        best = max(done, key=lambda state: state.value or 0)
        arms = {BASELINE: {"baseline": True}, best.key: dict(best.params)}
        file = self.folder / "best.yaml"
        text = yaml.safe_dump(arms, sort_keys=False, allow_unicode=True)
        write_bytes_atomically(file, text.encode())
        return file

    def _task(self, key: str) -> Task:
        def run(trial: Trial, worker: Worker) -> float:
            space = {} if key == BASELINE else self.space
            arm = self.arm(key, {name: _suggest(trial, name, space[name]) for name in space})
            values: list[float] = []
            for seed in self.seeds:
                cell = Cell(self.name, arm, seed)
                values.append(run_cell(cell, self.root, self.arguments, worker, split="val"))
                trial.report(values[-1], seed)
                if key != BASELINE and len(values) < len(self.seeds) and trial.should_prune():
                    trial.set_user_attr("pruned", True)
                    break
            return statistics.fmean(values)  # of a pruned arm too: Optuna's advice for this pruner

        return run


def read_space(file: Path) -> dict[str, Range]:
    """Read ranges by setting: `[a, b]` for choices, `{low: 0.1, high: 5, log: true}` for numbers.

    Numbers are whole if `low`, `high` and `step` are.

    Raises:
        UserError: the file is not such YAML, or a range is empty.
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
    try:
        if all(isinstance(number, int) for number in numbers):
            return IntDistribution(**given)
        return FloatDistribution(**given)
    except ValueError as error:
        raise UserError(f"{where} is {given}: {error}") from error


def _suggest(trial: Trial, name: str, given: Range) -> Any:
    if isinstance(given, CategoricalDistribution):
        return trial.suggest_categorical(name, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
    return trial.suggest_float(name, given.low, given.high, step=given.step, log=given.log)
