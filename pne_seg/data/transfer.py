"""What large files need: room on the disk, a progress bar, one process at a time."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from tqdm import tqdm

from pne_seg.errors import UserError


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Check that the disk has room.

    Args:
        folder: on the disk in question.
        size: what is to be written, in bytes.
        purpose: for the message, as in "cannot …".

    Raises:
        UserError: it has not; the message says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: cannot {purpose}: {decimal(size)} are needed and {decimal(free)} "
            "are free. Make room, or choose a folder on another disk."
        )


def bytes_bar(description: str, total: int | None, done: int = 0) -> "tqdm[NoReturn]":
    """Make a progress bar over bytes.

    Args:
        description: what is under way.
        total: bytes in all; None if that is not known.
        done: bytes that are there already.
    """
    seconds = 0.1 if sys.stderr.isatty() else 60  # between its states, few in the log of a job
    return tqdm(
        desc=description,
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        mininterval=seconds,
    )


@contextmanager
def alone(lock: Path, doing: str) -> Iterator[None]:
    """Let one process at a time through; the lock of one that was killed is free.

    Args:
        lock: a small file, made where missing and left there.
        doing: what the others may wait for, as in "another process …".
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        Console(stderr=True).print(f"Another process {doing}: waiting for it.", markup=False)
        held.acquire()
    try:
        yield
    finally:
        held.release()
