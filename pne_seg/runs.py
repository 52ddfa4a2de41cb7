"""Run folders: where a run writes, and which checkpoint a later command takes."""

import csv
import os
import platform
import shlex
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pne_seg.checkpoint_file import previous_checkpoint
from pne_seg.errors import UserError
from pne_seg.settings_files import read_json

RUNS = "runs"
CONFIG = "config.yaml"
METRICS = "metrics.json"
BEST = Path("checkpoints", "best.ckpt")
LAST = Path("checkpoints", "last.ckpt")
_LONGEST_NAME = 200


class Run:
    """A run folder, `runs/<name>/<version>/`.

    Attributes:
        config: the complete configuration that the run was started with.
        environment: machine and package versions.
        best: the checkpoint with the best validation mIoU.
        last: the latest checkpoint, to resume from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / CONFIG
        self.environment = folder / "environment.txt"
        self.best = folder / BEST
        self.last = folder / LAST

    @property
    def is_resumable(self) -> bool:
        """Whether there is a latest checkpoint, or the one before it."""
        return self.last.is_file() or previous_checkpoint(self.last).is_file()

    def checkpoint(self, which: str) -> Path:
        """Return `best`, `last`, or another file of the run's checkpoints, if it exists."""
        path = self.folder / "checkpoints" / f"{which.removesuffix('.ckpt')}.ckpt"
        if not path.is_file():
            names = sorted(file.stem for file in path.parent.glob("*.ckpt"))
            found = f"; there are {', '.join(names)}." if names else ": the run saved none yet."
            raise UserError(f"{path} does not exist{found}")
        return path


def check_run_name(name: str) -> None:
    """Check that a run's name is that of a folder, or of nested folders, inside `runs`."""
    for part in name.split("/"):
        check_name(part)


def check_name(name: str) -> None:
    """Check that a name is that of a single folder inside `runs`."""
    if not name.strip() or name != name.strip() or name.endswith("."):
        reason = "is empty, or begins or ends with a space or a dot"
    elif any(character in "/\\" or not character.isprintable() for character in name):
        reason = "holds a separator or a control character"
    elif len(name.encode(errors="replace")) > _LONGEST_NAME:
        reason = f"is longer than {_LONGEST_NAME} bytes"
    else:
        return
    shown = ascii(name if len(name) <= 80 else f"{name[:80]} …")
    raise UserError(
        f"The run's name {shown} {reason}. It names a folder in {RUNS}/; give another name."
    )


def create_run(root: Path, name: str) -> Run:
    """Make the next free folder `root/runs/name/<version>`; safe if several runs start at once."""
    newest = runs_newest_first(root, name)[:1]
    version = int(newest[0].folder.name) + 1 if newest else 0
    while True:
        folder = root / RUNS / name / str(version)
        try:
            folder.mkdir(parents=True)
            return Run(folder)
        except FileExistsError:
            if not folder.is_dir():
                raise
            version += 1


def newest_run(root: Path, name: str) -> Run:
    """Return the newest run of a name that has a best checkpoint."""
    for run in runs_newest_first(root, name):
        if run.best.is_file():
            return run
    raise UserError(
        f"No checkpoint: {root / RUNS / name} holds no run with {BEST}. Train first with the same "
        "config, or name a run, a checkpoint or a source of weights."
    )


def newest_last(root: Path, name: str) -> Path:
    """Return the latest checkpoint of the newest run of a name that has one."""
    for run in runs_newest_first(root, name):
        if run.is_resumable:
            return run.last
    raise UserError(
        f"Nothing to resume: {root / RUNS / name} holds no run with {LAST}. Start from the "
        "beginning, or give a checkpoint's file."
    )


def runs_newest_first(root: Path, name: str) -> list[Run]:
    """Return the runs of a name, whatever they hold."""
    check_run_name(name)
    parent = root / RUNS / name
    children = parent.iterdir() if parent.is_dir() else ()
    versions = (int(child.name) for child in children if child.name.isdecimal())
    return [Run(parent / str(version)) for version in sorted(versions, reverse=True)]


def open_run(folder: Path) -> Run:
    """Return the run in a folder, which holds a `config.yaml`."""
    run = Run(folder)
    if not run.config.is_file():
        raise UserError(
            f"{folder}: no {CONFIG} there. Give a run's folder, {RUNS}/<name>/<version>."
        )
    return run


def run_of_checkpoint(path: Path) -> Run | None:
    """Return the run that a checkpoint file belongs to, if any."""
    run = Run(path.resolve().parent.parent)
    return run if run.config.is_file() else None


def read_metrics(file: Path) -> dict[str, Any]:
    """Read a `metrics.json`."""
    try:
        metrics = read_json(file)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}). Remove it, or evaluate again.") from error
    return metrics if isinstance(metrics, dict) else {}


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the logged values, (steps, value) by name, of the `metrics.csv` in a folder, if any.

    Lightning's loggers number a step from 0; here it is the number of steps taken with it, as in
    checkpoints, `metrics.json` and tables.
    """
    history: dict[str, list[tuple[int, float]]] = defaultdict(list)
    file = folder / "metrics.csv"
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            for row in csv.DictReader(opened):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        history[name].append((int(row["step"]) + 1, float(value)))
    return history


@dataclass(frozen=True)
class Evaluated:
    """Weights that a command uses, and the folder where it keeps the results, under a name.

    `source` is that of weights from elsewhere, as given; None for a checkpoint.
    """

    file: Path
    folder: Path
    name: str
    source: str | None = None

    @classmethod
    def of_checkpoint(cls, file: Path) -> "Evaluated":
        """Keep the results in the checkpoint's run, or beside a checkpoint without a run."""
        run = run_of_checkpoint(file)
        return cls(file, run.folder if run is not None else file.parent, file.stem)

    def output(self, verb: str, protocol: str = "") -> Path:
        """Return the folder that a command such as `test` writes to, by its `Inference.label`."""
        return self.folder / verb / "_".join(filter(None, [self.name, protocol]))


def describe_environment() -> str:
    """Describe machine, command line, Git commit and every installed package with its version."""
    import torch

    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    packages = sorted({f"{dist.name}=={dist.version}" for dist in distributions()}, key=str.lower)
    lines = [
        f"command: {shlex.join(sys.argv)}",
        f"commit: {_commit() or 'none'}",
        f"python: {platform.python_version()}",
        f"platform: {platform.platform()}",
        f"processors: {os.cpu_count()}, torch threads: {torch.get_num_threads()}",
        f"accelerators: {', '.join(accelerators) or 'none'}",
        "",
        *packages,
    ]
    return "\n".join(lines) + "\n"


def _commit() -> str | None:
    """Return the commit of the current folder, with `-dirty` if files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(describe, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):  # no Git, no repository, a slow drive
        return None
    return found.stdout.strip()
