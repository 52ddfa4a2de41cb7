"""Files that a reader never sees half written."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def save_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path`, then move it there: a reader sees the old or the new, whole.

    Args:
        path: the file to make or replace; its folder is made where missing.
        write: called with the open binary file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are closed to the group, whatever the user's umask says.
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # else a crash can leave the new name with no content
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """`save_atomically` for content that is at hand."""
    save_atomically(path, lambda file: file.write(content))
