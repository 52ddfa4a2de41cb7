"""A disk that fills up: a real one, of a few kilobytes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """Mount a disk in memory; the test is skipped where that is not allowed.

    Args:
        folder: where to; it is made.
        size: such as `40k`.

    Yields:
        A function that gives the disk another size.
    """
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root mounts a disk")
    folder.mkdir()

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mount: {done.stderr.strip()}")

    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    try:
        yield lambda size: mount("-o", f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # files may be mapped
