"""One cell of a sweep, an arm with a seed: train it, test it, resume it where it was stopped."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO

from pne_seg.runs import METRICS, RUNS, Run, runs_newest_first
from pne_seg.sweep.results import validation_curve

LOG = "log.txt"
_POLL = 0.2  # seconds between looks at a process
_RUNNING: set["subprocess.Popen[bytes]"] = set()
_STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}
_TESTED = Path("test", "best", METRICS)


@dataclass(frozen=True)
class ArmSettings:
    """An arm before it is trained: its name, and settings laid over the sweep's."""

    name: str
    overrides: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> list[str]:
        """The overrides as the command line takes them."""
        return [part for key, value in self.overrides for part in (f"--{key}", value)]


@dataclass(frozen=True)
class Worker:
    """Runs cells one after the other, with further environment variables.

    Once `stop` is set, its cell ends after its present step.
    """

    stop: Event
    environment: Mapping[str, str] = field(default_factory=dict)


class CellError(Exception):
    """A command of a cell failed; the message holds its last lines."""


class CellStoppedError(Exception):
    """A cell was stopped from outside; it resumes from its last checkpoint."""


@dataclass(frozen=True)
class Cell:
    """An arm of a study with a seed."""

    study: str
    arm: ArmSettings
    seed: int

    @property
    def key(self) -> str:
        """What tells it from the study's other cells."""
        return f"{self.arm.name}/seed{self.seed}"

    @property
    def run_name(self) -> str:
        """The name of its runs: one for each time it was started."""
        return f"{self.study}/{self.key}"

    def runs(self, root: Path) -> list[Run]:
        """Return its runs, the newest first."""
        return runs_newest_first(root, self.run_name)

    def finished(self, root: Path) -> Run | None:
        """Return the run that was trained to its end, if there is one."""
        return next((run for run in self.runs(root) if (run.folder / METRICS).is_file()), None)

    def latest_miou(self, root: Path) -> float | None:
        """Return the latest validation mIoU that its newest run has logged."""
        curve = validation_curve([run.folder for run in self.runs(root)][:1])
        return curve[max(curve)] if curve else None


def run_cell(
    cell: Cell, root: Path, arguments: Sequence[str], worker: Worker, split: str = "test"
) -> float:
    """Train and test a cell as far as that is not done; return the mIoU of its best epoch.

    Each command is a process of its own and writes to `log.txt` in the cell's folder. The folder is
    locked, by the process too: one that outlives its sweep is waited for, not joined by another.
    With the split `val` the cell is not tested.
    """
    folder = root / RUNS / cell.run_name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock", worker.stop) as lock, (folder / LOG).open("a") as log:
        if cell.finished(root) is None:
            fit = ["fit", *arguments, *cell.arm.arguments, "--seed_everything", str(cell.seed)]
            fit += ["--name", cell.run_name]
            begin = not any(run.is_resumable for run in cell.runs(root))
            if not begin:
                try:
                    _command([*fit, "--ckpt_path", "last"], log, lock, worker)
                except CellError:  # as after a kill behind the last step
                    log.write("The training could not be resumed, and starts again.\n")
                    begin = True
            if begin:
                _command(fit, log, lock, worker)
        run = cell.finished(root)
        if run is None:
            raise CellError(f"the training ended without {METRICS}; see {folder / LOG}")
        file = run.folder / (_TESTED if split == "test" else METRICS)
        if not file.is_file():
            _command(["test", "--run", str(run.folder)], log, lock, worker)
        miou = json.loads(file.read_text())[f"{split}/mIoU"]
    if miou is None:
        raise CellError(f"{file} has no mIoU: no class occurs in the labels")
    return float(miou)


def make_workers(jobs: int, stop: Event) -> list[Worker]:
    """Return workers that share the machine's GPUs out among them, if there are several."""
    import torch

    gpus = torch.cuda.device_count()
    if jobs == 1 or gpus < 2:
        return [Worker(stop)] * jobs
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(index) for index in range(gpus)]
    # More jobs than GPUs go round; fewer have several each.
    shares = [devices[job % gpus :: jobs] for job in range(jobs)]
    return [Worker(stop, {"CUDA_VISIBLE_DEVICES": ",".join(share)}) for share in shares]


def kill_running() -> None:
    """End the commands of all cells of this process at once."""
    for process in list(_RUNNING):
        process.kill()


def _command(arguments: Sequence[str], log: IO[str], lock: int, worker: Worker) -> None:
    log.write(f"\n== {arguments[0]} {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    log.flush()
    begin = log.tell()
    process = subprocess.Popen(
        [sys.executable, "-c", "from pne_seg.cli import console; console()", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],  # held as long as the process lives
        env=os.environ | worker.environment,
        start_new_session=True,  # Ctrl+C reaches the sweep, which passes it on
    )
    _RUNNING.add(process)
    asked = False
    while (code := process.poll()) is None:
        if asked:
            time.sleep(_POLL)
        elif asked := worker.stop.wait(_POLL):
            process.send_signal(signal.SIGTERM)
    _RUNNING.discard(process)
    if code == 0:
        return
    if asked or code in _STOPPED:
        raise CellStoppedError(f"stopped ({arguments[0]})")
    with Path(log.name).open(errors="replace") as written:
        written.seek(begin)
        lines = [line.strip() for line in written.read().splitlines() if line.strip()]
    raise CellError(f"{arguments[0]} ended with code {code}: {' / '.join(lines[-3:])}")


@contextlib.contextmanager
def _locked(path: Path, stop: Event) -> Iterator[int]:
    """Hold a file's lock, waiting for whoever has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(_POLL):
                    raise CellStoppedError("stopped while another process held the cell") from None
        yield descriptor
    finally:
        os.close(descriptor)
