"""What writing large files takes: room on the disk, a progress bar, one process at a time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pne_seg.errors import UserError


class Show(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show what is done of all bytes; None leaves the latter as they were."""


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Make sure that the disk has room.

    Args:
        folder: on the disk in question.
        size: what is to be written, in bytes.
        purpose: for the message, as in "cannot …".

    Raises:
        UserError: it has not; how much is missing is said.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: cannot {purpose}: {decimal(size)} are needed and {decimal(free)} "
            "are free. Make room, or choose a folder on another disk."
        )


@contextmanager
def transfer_bar(description: str, total: int | None = None) -> Iterator[Show]:
    """A progress bar over bytes.

    Args:
        description: what is under way.
        total: bytes in all; None where that is not known yet.

    Yields:
        A function of the bytes done so far and of all bytes, None as before.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done, total=None: progress.update(task, completed=done, total=total)


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
