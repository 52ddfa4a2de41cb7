"""The queue of a sweep: its cells as trials of an Optuna study, for one or many workers.

A cell is a trial whose `user_attrs` name it. Optuna's heartbeat finds workers that died, and puts
their cells back into the queue.
"""

import hashlib
import json
import re
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

import pne_seg
from pne_seg.errors import UserError
from pne_seg.runs import RUNS
from pne_seg.sweep.arms import ArmSettings
from pne_seg.sweep.cells import Cell, CellError, CellStoppedError, run_cell

HEARTBEAT = 10
"""Seconds between signs of life of a worker; its cells are taken over after three times that."""

_POLL = 0.5
_SQLITE = {"connect_args": {"timeout": 60}}  # seconds to wait for another worker's write
_UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Sweep:
    """What a sweep consists of.

    Attributes:
        name: of the study, and of its folder in `runs/`.
        root: the folder that `runs/` lies in.
        arms: the first one is the baseline.
        seeds: of every arm.
        configs: the `--config` files of all cells.
        overrides: settings of all cells, as on the command line.
        storage: an SQLAlchemy URL; a file in the study's folder if None.
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
    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that pairs are complete early."""
        return [Cell(self.name, arm, seed) for seed in self.seeds for arm in self.arms]

    @property
    def arguments(self) -> list[str]:
        """The settings of all cells, as the command line takes them."""
        files = [part for path in self.configs for part in ("--config", str(path))]
        return [*files, "--trainer.enable_progress_bar", "false", *self.overrides]

    def definition(self) -> dict[str, Any]:
        """Return what must not change under one study's name."""
        return {
            "overrides": list(self.overrides),
            "configs": {path.name: _digest([path]) for path in self.configs},
        }


@dataclass(frozen=True)
class CellState:
    """The latest trial of a cell.

    Attributes:
        cell: which.
        state: `waiting`, `running`, `done`, `failed` or `stopped`.
        value: test mIoU of a cell that is done.
        error: why it failed.
        seconds: it took; of one that runs, so far.
    """

    cell: Cell
    state: str
    value: float | None = None
    error: str = ""
    seconds: float = 0.0


class Queue:
    """The study of a sweep in its storage.

    Args:
        sweep: what it consists of.

    Raises:
        UserError: the study's settings changed, or its storage cannot be reached.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        sweep.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        url = sweep.storage or f"sqlite:///{(sweep.folder / 'study.db').absolute()}"
        self._lock = FileLock(sweep.folder / ".study.lock")
        with self._lock:  # two workers that make the tables at once would fail
            self.study = _open_study(url, sweep.name)
            self._check_definition()

    def _check_definition(self) -> None:
        definition = self.sweep.definition()
        known = self.study.user_attrs.get("definition")
        if known is None:
            self.study.set_user_attr("definition", definition)
        elif known != definition:
            changed = [key for key in definition if known.get(key) != definition[key]]
            raise UserError(
                f"{self.sweep.name}: {' and '.join(changed)} changed since the study began "
                f"({known[changed[0]]} then, {definition[changed[0]]} now). Its cells would be of "
                "two kinds: give the new ones another --name."
            )
        for arm in self.sweep.arms:
            overrides = [list(pair) for pair in arm.overrides]
            known_arm = self.study.user_attrs.get(f"arm {arm.name}")
            if known_arm is None:
                self.study.set_user_attr(f"arm {arm.name}", overrides)
            elif known_arm != overrides:
                raise UserError(
                    f"{self.sweep.name}: the arm {arm.name} had {known_arm} and has {overrides} "
                    "now. Give it another name."
                )

    def fill(self, retry_failed: bool) -> None:
        """Enqueue cells that are not in the queue, were stopped, or failed if these are retried."""
        again = {"stopped", "failed"} if retry_failed else {"stopped"}
        with self._lock:
            for state in self.states():
                if state.state in again or state.state == "new":
                    self.study.enqueue_trial({}, user_attrs={"cell": state.cell.key})

    def states(self) -> list[CellState]:
        """Return the state of every cell of the sweep."""
        latest: dict[str, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.PRUNED:  # not this cell's turn
                continue
            latest[trial.user_attrs.get("cell", "")] = trial
        return [_state(cell, latest.get(cell.key)) for cell in self.sweep.cells]

    def code_versions(self) -> list[str]:
        """Return the versions of this package that cells were run by."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted({trial.user_attrs.get("code", "") for trial in trials})

    def work(self, jobs: int, stop: threading.Event, finished: Callable[[CellState], None]) -> None:
        """Run cells until none is left, here or at other workers, or `stop` is set.

        Args:
            jobs: cells at a time.
            stop: set to have all cells stop after their present step.
            finished: called after each cell.
        """
        cells = {cell.key: cell for cell in self.sweep.cells}
        with ThreadPoolExecutor(jobs) as threads:
            for worker in [threads.submit(self._work, cells, stop, finished) for _ in range(jobs)]:
                worker.result()

    def _work(
        self,
        cells: dict[str, Cell],
        stop: threading.Event,
        finished: Callable[[CellState], None],
    ) -> None:
        def objective(trial: Trial) -> float:
            cell = cells.get(trial.user_attrs.get("cell", ""))
            # Another worker took the last cell first, or it is another sweep's, or two machines
            # filled the queue at once.
            if cell is None or self._has_earlier(trial, cell):
                raise optuna.TrialPruned
            trial.set_user_attr("code", CODE)
            try:
                value = run_cell(cell, self.sweep.root, self.sweep.arguments, stop)
            except (CellError, CellStoppedError) as error:
                stopped = isinstance(error, CellStoppedError)
                trial.set_user_attr("error", str(error))
                trial.set_user_attr("stopped", stopped)
                finished(CellState(cell, "stopped" if stopped else "failed", error=str(error)))
                raise
            finished(CellState(cell, "done", value))
            return value

        while not stop.is_set():
            trials = self.study.get_trials(deepcopy=False, states=_UNFINISHED)
            ours = [trial for trial in trials if trial.user_attrs.get("cell") in cells]
            if any(trial.state == TrialState.WAITING for trial in ours):
                self.study.optimize(objective, n_trials=1, catch=(CellError, CellStoppedError))
            elif ours:  # another worker's, which may die
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    optuna.storages.fail_stale_trials(self.study)
                stop.wait(_POLL)
            else:
                return

    def _has_earlier(self, trial: Trial, cell: Cell) -> bool:
        states = (*_UNFINISHED, TrialState.COMPLETE)
        trials = self.study.get_trials(deepcopy=False, states=states)
        cells = [other.user_attrs.get("cell") for other in trials if other.number < trial.number]
        return cell.key in cells


def _open_study(url: str, name: str) -> optuna.Study:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                engine_kwargs=_SQLITE if url.startswith("sqlite") else None,
            )
        if url.startswith("sqlite"):
            _begin_with_a_lock(storage.engine)
        return optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
    except (SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise UserError(
            f"--storage {without_password(url)}: {reason}. Expected a database that can be "
            "reached, such as sqlite:///runs/study.db or postgresql+pg8000://user@host/database."
        ) from error


def without_password(text: str) -> str:
    """Return a text, or if it is a database's address, that without its password."""
    return re.sub(r"(://[^/@\s:]*):[^@\s]*@", r"\1:***@", text)


def _begin_with_a_lock(engine: Engine) -> None:
    """Lock the file from the start of each transaction, as SQLAlchemy's documentation has it.

    SQLite locks at the first write: two workers could both read that a trial is waiting, and both
    take it.
    """

    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # or Python's driver would begin by itself

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    engine.dispose()  # connections made before


def _state(cell: Cell, trial: FrozenTrial | None) -> CellState:
    if trial is None:
        return CellState(cell, "new")
    error = trial.user_attrs.get("error", "")
    if trial.state == TrialState.COMPLETE:
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        return CellState(cell, "done", trial.value, seconds=seconds)
    if trial.state == TrialState.RUNNING:
        begun = trial.datetime_start.timestamp() if trial.datetime_start else time.time()
        return CellState(cell, "running", seconds=time.time() - begun)
    if trial.state == TrialState.WAITING:
        return CellState(cell, "waiting")
    stopped = trial.user_attrs.get("stopped") or not error
    return CellState(cell, "stopped" if stopped else "failed", error=error)


def _digest(files: Sequence[Path]) -> str:
    content = json.dumps([file.read_text(encoding="utf-8") for file in files])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


CODE = _digest(sorted(Path(pne_seg.__file__).parent.rglob("*.py")))
"""A digest of this package's source."""
