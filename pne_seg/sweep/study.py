"""The queue of a sweep: its tasks as trials of an Optuna study, for one or many workers.

A task is a cell, or in a search an arm with all its seeds. Its trial's `user_attrs` name it.
Optuna's heartbeat finds workers that died, and puts their tasks back into the queue.
"""

import datetime
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, Trial, TrialState

import pne_seg
from pne_seg.errors import UserError
from pne_seg.runs import RUNS
from pne_seg.sweep.cells import ArmSettings, Cell, CellError, CellStoppedError, Worker, run_cell
from pne_seg.sweep.storage import open_study

HEARTBEAT = 10
"""Seconds between signs of life of a worker; its tasks are taken over after three times that."""

Task = Callable[[Trial, Worker], float]
"""Does a task and returns its mIoU, or raises `CellError` or `CellStoppedError`."""

_POLL = 0.5
_UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Sweep:
    """What a sweep consists of; the first arm is the baseline.

    `configs` and `overrides` are those of all cells, as on the command line. `storage` is an
    SQLAlchemy URL; a file in the study's folder if None.
    """

    name: str
    root: Path
    arms: Sequence[ArmSettings]
    seeds: Sequence[int]
    configs: Sequence[Path]
    overrides: Sequence[str]
    storage: str | None = None

    @property
    def folder(self) -> Path:
        """Where the study's cells and its tables lie."""
        return self.root / RUNS / self.name

    @property
    def url(self) -> str:
        """The database of the queue."""
        return self.storage or f"sqlite:///{(self.folder / 'study.db').absolute()}"

    @property
    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that pairs are complete early."""
        return [Cell(self.name, arm, seed) for seed in self.seeds for arm in self.arms]

    def cells_of(self, arm: ArmSettings) -> list[Cell]:
        """Return the cells of an arm."""
        return [Cell(self.name, arm, seed) for seed in self.seeds]

    def describe(self) -> list[str]:
        """Return lines on what would be trained."""
        lines = [" ".join([cell.run_name, *cell.arm.arguments]) for cell in self.cells]
        return [*lines, f"{len(lines)} cells."]

    @property
    def config_arguments(self) -> list[str]:
        """The configs of all cells, as the command line takes them."""
        return [part for path in self.configs for part in ("--config", str(path))]

    def run(self, cell: Cell, worker: Worker, split: str = "test") -> float:
        """Train and test a cell; see `run_cell`."""
        quiet = ["--trainer.enable_progress_bar", "false"]
        arguments = [*self.config_arguments, *quiet, *self.overrides]
        return run_cell(cell, self.root, arguments, worker, split)

    def tasks(self) -> dict[str, Task]:
        """Return the tasks by their keys, in their order."""

        def task(cell: Cell) -> Task:
            return lambda _, worker: self.run(cell, worker)

        return {cell.key: task(cell) for cell in self.cells}

    def options(self) -> dict[str, Any]:
        """Return the options of `optuna.create_study`, such as a sampler."""
        return {}

    def definition(self) -> dict[str, Any]:
        """Return what must not change under one study's name."""
        return {
            "overrides": list(self.overrides),
            "configs": {path.name: _digest([path]) for path in self.configs},
        }


@dataclass(frozen=True)
class TaskState:
    """The latest trial of a task."""

    key: str
    state: str  # new, waiting, running, done, pruned, failed or stopped
    value: float | None = None  # mIoU if it is done or pruned
    error: str = ""
    seconds: float = 0.0  # so far
    params: Mapping[str, Any] = field(default_factory=dict)  # what a search chose, by setting
    seeds: Mapping[int, float] = field(default_factory=dict)  # validation mIoU of those done


class Queue:
    """The study of a sweep in its storage; it refuses settings that changed."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.tasks = sweep.tasks()
        sweep.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lock = FileLock(sweep.folder / ".study.lock")
        with self._lock:  # two workers that make the tables at once would fail
            self.study = open_study(sweep.url, sweep.name, HEARTBEAT, sweep.options())
            self._check_definition()

    def _check_definition(self) -> None:
        given = self.sweep.definition()
        for arm in self.sweep.arms:
            given[f"arm {arm.name}"] = [list(pair) for pair in arm.overrides]
        known = self.study.user_attrs
        for key, value in given.items():
            if key not in known:
                self.study.set_user_attr(key, value)
            elif known[key] != value:
                raise UserError(
                    f"{self.sweep.name}: {key} changed since the study began ({known[key]} then, "
                    f"{value} now). Its cells would be of two kinds: give it another name."
                )

    def fill(self, retry_failed: bool) -> None:
        """Enqueue tasks that are not in the queue, were stopped, or failed if these are retried."""
        again = {"new", "stopped", "failed"} if retry_failed else {"new", "stopped"}
        with self._lock:
            for state in self.states():
                if state.state in again:
                    # What a search chose stays: some of the seeds may have been trained.
                    self.study.enqueue_trial(dict(state.params), user_attrs={"task": state.key})

    def states(self) -> list[TaskState]:
        """Return the state of every task."""
        latest: dict[str, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.user_attrs.get("skipped"):
                latest[trial.user_attrs.get("task", "")] = trial
        return [_state(key, latest.get(key)) for key in self.tasks]

    def code_versions(self) -> list[str]:
        """Return the versions of this package that tasks were done by."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted({trial.user_attrs.get("code", "") for trial in trials})

    def work(self, workers: Sequence[Worker], finished: Callable[[TaskState], None]) -> None:
        """Do tasks until none is left, here or elsewhere, or the workers are stopped."""
        with ThreadPoolExecutor(len(workers)) as threads:
            for done in [threads.submit(self._work, worker, finished) for worker in workers]:
                done.result()

    def _work(self, worker: Worker, finished: Callable[[TaskState], None]) -> None:
        def objective(trial: Trial) -> float:
            key = trial.user_attrs.get("task", "")
            # Another worker took the last task first, or it is another sweep's, or two machines
            # filled the queue at once.
            if key not in self.tasks or self._has_earlier(trial, key):
                trial.set_user_attr("skipped", True)
                raise _SkippedError
            trial.set_user_attr("code", CODE)
            try:
                value = self.tasks[key](trial, worker)
            except (CellError, CellStoppedError) as error:
                stopped = isinstance(error, CellStoppedError)
                trial.set_user_attr("error", str(error))
                trial.set_user_attr("stopped", stopped)
                finished(TaskState(key, "stopped" if stopped else "failed", error=str(error)))
                raise
            finished(TaskState(key, "pruned" if trial.user_attrs.get("pruned") else "done", value))
            return value

        expected = (CellError, CellStoppedError, _SkippedError)
        while not worker.stop.is_set():
            trials = self.study.get_trials(deepcopy=False, states=_UNFINISHED)
            ours = [trial for trial in trials if trial.user_attrs.get("task") in self.tasks]
            if any(trial.state == TrialState.WAITING for trial in ours):
                self.study.optimize(objective, n_trials=1, catch=expected)
            elif ours:  # another worker's, which may die
                with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                    optuna.storages.fail_stale_trials(self.study)
                worker.stop.wait(_POLL)
            else:
                return

    def _has_earlier(self, trial: Trial, key: str) -> bool:
        states = (*_UNFINISHED, TrialState.COMPLETE)
        trials = self.study.get_trials(deepcopy=False, states=states)
        tasks = [other.user_attrs.get("task") for other in trials if other.number < trial.number]
        return key in tasks


class _SkippedError(Exception):
    """Ends a trial whose task is not to be done."""


def _state(key: str, trial: FrozenTrial | None) -> TaskState:
    if trial is None:
        return TaskState(key, "new")
    notes, seconds = trial.user_attrs, 0.0
    if trial.datetime_start is not None:
        end = trial.datetime_complete or datetime.datetime.now()
        seconds = (end - trial.datetime_start).total_seconds()
    state = trial.state.name.lower()  # waiting or running
    if trial.state == TrialState.COMPLETE:
        state = "pruned" if notes.get("pruned") else "done"
    elif trial.state == TrialState.FAIL:
        state = "failed" if notes.get("error") and not notes.get("stopped") else "stopped"
    value = trial.value if trial.state == TrialState.COMPLETE else None
    error = notes.get("error", "")
    return TaskState(key, state, value, error, seconds, trial.params, trial.intermediate_values)


def _digest(files: Sequence[Path]) -> str:
    content = json.dumps([file.read_text(encoding="utf-8") for file in files])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


CODE = _digest(sorted(Path(pne_seg.__file__).parent.rglob("*.py")))
"""A digest of this package's source."""
