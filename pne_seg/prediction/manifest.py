"""`predictions.json`: which source, weights and settings each predicted file comes from.

Three rules let a command be killed at any time, and several share one folder:

1. A file's entry is written before the file, and a file of another origin is removed before that. A
   file that is there and has an entry is therefore what its entry says.
2. Entries and files are added under one lock, and both are written whole or not at all.
3. A file without an entry is not ours: it is neither replaced nor taken for a prediction.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

MANIFEST = "predictions.json"

_SECONDS_BETWEEN_TRIES = 0.001  # a lock is held for as long as one file is written
_OF_ONE_FILE = (
    *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
)
"""System errors that concern one name; after any other, no file can be written."""


class UnwritableError(UserError):
    """One prediction cannot be written; the others can."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file was predicted from.

    Attributes:
        source: path of the image or video below the input, or the image's name in its split.
        digest: of the source's content, the weights and the settings.
        frames: number of frames of a video; 0 for an image.
    """

    source: str
    digest: str
    frames: int = 0


class Manifest:
    """The origins of the files in a folder.

    Args:
        folder: where the predictions go.
        file: the manifest; `predictions.json` in the folder if None.
        overwrite: whether files that were predicted from other sources, weights or settings may be
            replaced.

    Attributes:
        entries: origin of each file by its path below the folder, as last read.
        wanted: origin that each file of this command has or gets.

    Raises:
        UserError: the manifest was not written by `predict`.
    """

    def __init__(self, folder: Path, file: Path | None = None, overwrite: bool = False) -> None:
        self.folder = folder
        self.file = file or folder / MANIFEST
        self.overwrite = overwrite
        self.wanted: dict[Path, Origin] = {}
        self._seen = self._version()
        self.entries = read_entries(self.file)

    def plan(self, wanted: Mapping[Path, Origin]) -> set[Path]:
        """Set what this command writes.

        Returns:
            The files that are still to be written.

        Raises:
            UserError: files of these names hold something else. Nothing was changed.
        """
        self.wanted = dict(wanted)
        states = {path: self.state(path) for path in wanted}
        foreign = [path for path, state in states.items() if state == "foreign"]
        if foreign:
            raise UserError(
                f"{foreign[0]} is there and was not written by predict"
                f"{_of_several(foreign)}. It is left alone: choose another --output."
            )
        other = [path for path, state in states.items() if state == "other"]
        if other and not self.overwrite:
            raise UserError(
                f"{other[0]} is there, predicted from another source or by other weights or "
                f"settings{_of_several(other)}. Choose another --output, or replace what "
                "predict wrote: --overwrite true"
            )
        return {path for path, state in states.items() if state != "current"}

    def state(self, path: Path) -> Literal["missing", "current", "other", "foreign"]:
        """Return what is at a wanted path: nothing, its prediction, another, or another's file."""
        if not os.path.lexists(path):
            return "missing"
        entry = self.entries.get(self.key(path))
        if entry is None:
            return "foreign"
        return "current" if entry == self.wanted[path] else "other"

    def put(self, path: Path, save: Callable[[], object]) -> None:
        """Write a wanted file, unless another command has written the same one meanwhile.

        Args:
            path: the file.
            save: puts it there, whole or not at all.

        Raises:
            UnwritableError: its name is not possible, or a file of another origin has it.
            UserError: nothing can be written.
        """
        with self._alone():
            state = self.state(path)
            if state == "current":
                return
            if state == "foreign" or (state == "other" and not self.overwrite):
                raise UnwritableError(
                    f"{path} was written meanwhile by another command, from another source or by "
                    "other weights or settings. Give each command its own --output."
                )
            if self.entries.get(self.key(path)) != self.wanted[path]:
                self._claim()
            with self.naming(path):
                save()

    def remove(self, paths: list[Path]) -> None:
        """Remove files that `predict` wrote, and their entries."""
        with self._alone():
            for path in paths:
                path.unlink(missing_ok=True)
                self.entries.pop(self.key(path), None)
            self._write()

    def refresh(self) -> None:
        """Read the manifest again if another command has changed it."""
        version = self._version()
        if version != self._seen:
            self.entries, self._seen = read_entries(self.file), version

    def key(self, path: Path) -> str:
        """Return a file's key among the entries."""
        return path.relative_to(self.folder).as_posix()

    @contextmanager
    def naming(self, path: Path) -> Iterator[None]:
        """Report the file that the system does not let be written."""
        try:
            yield
        except OSError as error:
            message = f"{path}: cannot be written ({error.strerror})."
            if error.errno in _OF_ONE_FILE:
                raise UnwritableError(message) from error
            if self.file.exists():
                message += " What is written stays; the same command resumes from there."
            raise UserError(message) from error

    def _claim(self) -> None:
        """Enter all wanted files that are not there; those to be replaced are removed first.

        All at once, so that the manifest is written once for each command, not for each file.
        """
        for path, origin in self.wanted.items():
            state = self.state(path)
            if state == "other" and self.overwrite:
                with self.naming(path):
                    path.unlink()
            elif state != "missing":
                continue
            self.entries[self.key(path)] = origin
        self._write()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and commands out, and read what they entered before."""
        lock = FileLock(self.file.with_name(f".{self.file.name}.lock"))
        with self.naming(self.file):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=_SECONDS_BETWEEN_TRIES)
        try:
            self.refresh()
            yield
        finally:
            lock.release()

    def _write(self) -> None:
        entries = {
            key: {"source": origin.source, "digest": origin.digest, "frames": origin.frames}
            for key, origin in sorted(self.entries.items())
        }
        content = json.dumps({"predictions": entries})
        with self.naming(self.file):
            write_bytes_atomically(self.file, content.encode())
        self._seen = self._version()

    def _version(self) -> tuple[int, int, int] | None:
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def read_entries(file: Path) -> dict[str, Origin]:
    """Read the entries of a manifest; none if there is no such file.

    Raises:
        UserError: it was not written by `predict`, or cannot be read.
    """
    try:
        content = json.loads(file.read_bytes())
        return {key: Origin(**entry) for key, entry in content["predictions"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} is there and was not written by predict. It is left alone: choose another "
            "--output."
        ) from error


def digest(*parts: object) -> str:
    """Return 32 hexadecimal digits that change when a part does."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _of_several(paths: list[Path]) -> str:
    return f" ({len(paths)} such files in all)" if len(paths) > 1 else ""
