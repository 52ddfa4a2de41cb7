"""Write files whole or not at all, and tell regular files from pipes and devices."""

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from pne_seg.errors import UserError

fcntl: Any = None  # on Windows, where an open file cannot be removed anyway
with contextlib.suppress(ImportError):
    import fcntl

_TEMPORARY = re.compile(r"\.(.+)\.[\w-]+\.tmp(\.mp4)?")
_JUST_MADE = 5.0
"""Seconds in which a temporary file may not have its lock yet."""
_DAY = 24 * 3600.0

_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def save_atomically(
    path: str | os.PathLike[str],
    write: Callable[[BinaryIO], object],
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Write a file beside `path`, flush it to the disk, then move it there.

    A reader sees the old content or the new, whole; after a power failure too. The temporary file,
    `.<name>.<random>.tmp`, is locked while it is written, by which `remove_abandoned` knows that
    its writer is alive. The older file is kept at `previous`, if that is given; a kill between the
    two moves leaves it there, and no file at `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are closed to the group, whatever the user's umask says.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("wb") as file:
            _lock(file)
            write(file)
            file.flush()
            os.fsync(file.fileno())  # else a crash can leave the new name with no content
        if previous is not None:
            with contextlib.suppress(FileNotFoundError):
                target.replace(previous)
        temporary.replace(target)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(target)  # the system names no file after a failed write
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Call `save_atomically` with content that is in memory."""
    save_atomically(path, lambda file: file.write(content))


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove the temporary files that killed writers left beside these files.

    A live writer, on any machine, holds a lock on its file. Encoders of videos hold none, and some
    file systems have none: there a file is abandoned once it is a day old.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, wanted in names.items():
        for file in folder.glob(".*.tmp*"):
            match = _TEMPORARY.fullmatch(file.name)
            with contextlib.suppress(OSError):  # another command may have removed it
                if match and match[1] in wanted and _is_abandoned(file, has_lock=not match[2]):
                    file.unlink()


def _is_abandoned(file: Path, has_lock: bool) -> bool:
    age = time.time() - file.stat().st_mtime
    if not has_lock or age < _JUST_MADE:
        return age > _DAY
    with file.open("rb") as opened:
        return _lock(opened) or age > _DAY


def _lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed; return False if that fails."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has the lock, or the file system has no locks
            return False
    return True


def expanded(path: str) -> str:
    """Fill in the home folder, where a path begins with `~`, and variables such as `$DATA`.

    A text that is no path, such as the address of a page, stays as it is.

    Raises:
        UserError: There is no such variable or user, and no file of that very name.
    """
    if path.startswith("~"):
        path = os.path.expanduser(path)  # noqa: PTH111 (an unknown user is refused below)
    if "://" in path or not (path.startswith("$") or "/" in path):
        return path
    filled = os.path.expandvars(path)
    unknown = re.match(r"(~)([^/]+)/", filled) or re.search(r"(\$)\{?([A-Za-z_]\w*)", filled)
    if unknown and not Path(filled).exists():
        if unknown[1] == "~":
            raise UserError(f"{path}: there is no user {unknown[2]} here. Write the whole path.")
        raise UserError(f"{path}: the variable {unknown[2]} is not set. Set it.")
    return filled


def check_regular(path: str | os.PathLike[str], name: object = None) -> os.stat_result:
    """Refuse anything but a regular file, before it is opened; links are followed.

    Returns what the system knows of the file, such as its size. Messages call it `name`.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise UserError(
            f"{path if name is None else name}: is {kind}, not a regular file. Replace or remove "
            "it."
        )
    return status
