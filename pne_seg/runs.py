"""Run folders: where a run writes, and which checkpoint a later command takes."""

import itertools
import os
import platform
import shlex
import sys
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


@dataclass(frozen=True)
class Run:
    """One folder `runs/<name>/<version>/`."""

    folder: Path

    @property
    def config(self) -> Path:
        """The complete configuration that the run was started with."""
        return self.folder / CONFIG

    @property
    def environment(self) -> Path:
        """Machine and package versions of the run."""
        return self.folder / "environment.txt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation score."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The latest checkpoint, to resume from."""
        return self.folder / LAST

    @property
    def is_resumable(self) -> bool:
        """Whether there is a latest checkpoint, or the one before it."""
        return self.last.is_file() or previous_checkpoint(self.last).is_file()

    def checkpoint(self, which: str) -> Path:
        """`best`, `last`, or another file of the run's checkpoints.

        Raises:
            UserError: there is none; those that there are get listed.
        """
        path = self.folder / "checkpoints" / f"{which.removesuffix('.ckpt')}.ckpt"
        if not path.is_file():
            there = sorted(file.stem for file in path.parent.glob("*.ckpt"))
            raise UserError(
                f"{path} does not exist"
                + (
                    f"; there are {', '.join(there)}."
                    if there
                    else ": the run saved no checkpoint yet."
                )
            )
        return path


def check_run_name(name: str) -> None:
    """Refuse a run's name that is not that of a folder, or of folders within each other.

    Raises:
        UserError: a part of it is empty, too long, or would lead out of the folder of runs.
    """
    for part in name.split("/"):
        check_name(part)


def check_name(name: str) -> None:
    """Refuse a name that is not that of one folder.

    Raises:
        UserError: it is empty, too long, or would lead out of the folder of runs.
    """
    shown = ascii(name if len(name) <= 80 else f"{name[:80]} …")
    if not name.strip() or name != name.strip() or name.endswith("."):
        reason = "is empty, or begins or ends with a space or a dot"
    elif any(character in "/\\" or not character.isprintable() for character in name):
        reason = "holds a separator or a control character"
    elif len(name.encode(errors="replace")) > _LONGEST_NAME:
        reason = f"is longer than {_LONGEST_NAME} bytes"
    else:
        return
    raise UserError(
        f"The run's name {shown} {reason}. It is the name of a folder in {RUNS}/: give another one "
        "by --name."
    )


def create_run(root: Path, name: str) -> Run:
    """Make the next free folder `root/runs/name/<version>`; safe against runs started together.

    Raises:
        UserError: the name is not that of one folder.
        OSError: the folder cannot be made.
    """
    check_run_name(name)
    parent = root / RUNS / name
    parent.mkdir(parents=True, exist_ok=True)
    for version in itertools.count(max(_versions(parent), default=-1) + 1):
        try:
            (parent / str(version)).mkdir()
        except FileExistsError:
            continue
        return Run(parent / str(version))
    raise AssertionError("count() does not end")


def newest_run(root: Path, name: str) -> Run:
    """Find the newest run of a name that has a best checkpoint.

    Raises:
        UserError: there is none, or the name is not that of one folder.
    """
    for run in runs_newest_first(root, name):
        if run.best.is_file():
            return run
    raise UserError(
        f"No checkpoint: {root / RUNS / name} holds no run with {BEST}. Train first (fit with the "
        "same --config), or name one with --run DIR, --ckpt_path FILE or --weights SOURCE."
    )


def newest_last(root: Path, name: str) -> Path:
    """Find the latest checkpoint of the newest run of a name that has one.

    Raises:
        UserError: there is none.
    """
    for run in runs_newest_first(root, name):
        if run.is_resumable:
            return run.last
    raise UserError(
        f"--ckpt_path last: {root / RUNS / name} holds no run with {LAST}. Leave it out to start "
        "from the beginning, or give a checkpoint's file."
    )


def runs_newest_first(root: Path, name: str) -> list[Run]:
    """Return the runs of a name, whatever they hold.

    Raises:
        UserError: the name is not that of a folder.
    """
    check_run_name(name)
    parent = root / RUNS / name
    return [Run(parent / str(version)) for version in sorted(_versions(parent), reverse=True)]


def open_run(folder: Path) -> Run:
    """A run by its folder.

    Raises:
        UserError: the folder holds no `config.yaml`.
    """
    run = Run(folder)
    if not run.config.is_file():
        raise UserError(
            f"--run {folder}: no {CONFIG} there. Give a run's folder, {RUNS}/<name>/<version>."
        )
    return run


def run_of_checkpoint(path: Path) -> Run | None:
    """The run that a checkpoint file lies in, if it lies in one."""
    run = Run(path.resolve().parent.parent)
    return run if run.config.is_file() else None


def read_metrics(file: Path) -> dict[str, Any]:
    """Read a `metrics.json`.

    Raises:
        UserError: it is damaged.
    """
    try:
        metrics = read_json(file)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}). Remove it, or score again.") from error
    return metrics if isinstance(metrics, dict) else {}


@dataclass(frozen=True)
class Evaluated:
    """Weights that a command uses, and where what it makes of them is kept.

    Attributes:
        file: a checkpoint, or a file of weights from elsewhere.
        folder: evaluations, predictions and exports lie below it.
        name: what they are called there.
        source: of weights from elsewhere, as it was given; None for a checkpoint.
    """

    file: Path
    folder: Path
    name: str
    source: str | None = None

    @classmethod
    def of_checkpoint(cls, file: Path) -> "Evaluated":
        """A checkpoint, whose run keeps the results; one without a run has them beside it."""
        run = run_of_checkpoint(file)
        return cls(file, run.folder if run is not None else file.parent, file.stem)

    def output(self, verb: str, protocol: str = "") -> Path:
        """Where a command writes.

        Args:
            verb: such as `test`.
            protocol: its `Inference.label`; figures of several protocols are compared.
        """
        return self.folder / verb / "_".join(filter(None, [self.name, protocol]))


def _versions(parent: Path) -> list[int]:
    if not parent.is_dir():
        return []
    return [int(child.name) for child in parent.iterdir() if child.name.isdecimal()]


def describe_environment() -> str:
    """Machine, command line and every installed package with its version."""
    import torch

    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    packages = sorted({f"{dist.name}=={dist.version}" for dist in distributions()}, key=str.lower)
    lines = [
        f"command: {shlex.join(sys.argv)}",
        f"python: {platform.python_version()}",
        f"platform: {platform.platform()}",
        f"processors: {os.cpu_count()}, torch threads: {torch.get_num_threads()}",
        f"accelerators: {', '.join(accelerators) or 'none'}",
        "",
        *packages,
    ]
    return "\n".join(lines) + "\n"
