"""`predictions.json`: which source, weights and settings each predicted file comes from.

Three rules let a command be killed at any time, and several share one folder:

1. A file's entry is written before the file, and a file of another origin is removed before that. A
   file that is there and has an entry is therefore what its entry says.
2. Entries and files are added under one lock, taken once per batch; each is written whole or not at
   all.
3. A file without an entry is not ours: it is neither replaced nor taken for a prediction.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

MANIFEST = "predictions.json"

_WRITERS = 4  # threads, which mostly wait for the disk
_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR,
                errno.EEXIST)  # fmt: skip
"""System errors that concern one name; after any other, no file can be written."""


class UnwritableError(UserError):
    """One prediction cannot be written; the others can."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file was predicted from."""

    source: str  # path of the image or video below the input, or the image's name in its split
    digest: str  # of the source's content, the weights and the settings
    frames: int = 0  # of a video


class Manifest:
    """The origins of the files in a folder; `overwrite` lets those of other origins be replaced."""

    def __init__(self, folder: Path, file: Path | None = None, overwrite: bool = False) -> None:
        self.folder = folder
        self.file = file or folder / MANIFEST
        self.overwrite = overwrite
        self.wanted: dict[Path, Origin] = {}
        self._seen = self._version()
        self.entries = read_entries(self.file)

    def plan(self, wanted: Mapping[Path, Origin]) -> set[Path]:
        """Set what this command writes, and return the files that are not there yet."""
        self.wanted = dict(wanted)
        states = {path: self.state(path) for path in wanted}
        self.refresh()  # another command may have entered and written files since it was read
        states |= {path: self.state(path) for path, state in states.items() if state == "foreign"}
        reasons = {"foreign": " and was not written by predict"}
        if not self.overwrite:
            reasons["other"] = ", predicted from another source or by other weights or settings"
        for reason, what in reasons.items():
            paths = [path for path, state in states.items() if state == reason]
            if paths:
                several = f" ({len(paths)} such files in all)" if len(paths) > 1 else ""
                fix = "" if reason == "foreign" else ", or replace it: overwrite=true"
                raise UserError(
                    f"{paths[0]} is there{what}{several}. It is left alone: choose another output "
                    f"folder{fix}."
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

    def put(self, paths: Iterable[Path], save: Callable[[Path], object]) -> dict[Path, str]:
        """Save wanted files, whole or not at all, except those that another command has written.

        Returns:
            Why files cannot be written though others can: their names are not possible, or files of
            other origins have them.
        """
        failed: dict[Path, str] = {}

        def save_one(path: Path) -> None:
            try:
                with self.naming(path):
                    save(path)
            except UnwritableError as error:
                failed[path] = str(error)

        with self._locked():
            left = []
            for path in paths:
                state = self.state(path)
                if state == "missing" or (state == "other" and self.overwrite):
                    left.append(path)
                elif state != "current":
                    failed[path] = (
                        f"{path} was written meanwhile by another command, from another source or "
                        "by other weights or settings. Give each command its own output folder."
                    )
            if any(self.entries.get(self.key(path)) != self.wanted[path] for path in left):
                self._claim()
            with ThreadPoolExecutor(_WRITERS) as threads:
                list(threads.map(save_one, left))
        return failed

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

        All at once, so that the manifest is written once for each command, not for each batch. Of a
        video that is replaced by a shorter one, the frames that are too many are removed.
        """
        claimed = [path for path in self.wanted if self.state(path) == "missing"]
        if self.overwrite:
            old = [path for path in self.wanted if self.state(path) == "other"]
            claimed += old
            folders = {
                path.parent for path, origin in self.wanted.items() if _is_frame(path, origin)
            }
            entered = {self.folder / key: origin for key, origin in self.entries.items()}
            for path in entered.keys() - self.wanted.keys():
                if _is_frame(path, entered[path]) and path.parent in folders:
                    old.append(path)
            for path in old:
                with self.naming(path):
                    path.unlink(missing_ok=True)
                del self.entries[self.key(path)]
        self.entries |= {self.key(path): self.wanted[path] for path in claimed}
        self._write()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other commands out, and read what they entered before."""
        lock = FileLock(self.file.with_name(f".{self.file.name}.lock"))
        with self.naming(self.file):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(poll_interval=0.01)
        try:
            self.refresh()
            yield
        finally:
            lock.release()

    def _write(self) -> None:
        entries = {key: asdict(origin) for key, origin in sorted(self.entries.items())}
        with self.naming(self.file):
            write_bytes_atomically(self.file, json.dumps({"predictions": entries}).encode())
        self._seen = self._version()

    def _version(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            found = self.file.stat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        return None


def read_entries(file: Path) -> dict[str, Origin]:
    """Read the entries of a manifest; none if there is no such file."""
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
            "output folder."
        ) from error


def _is_frame(path: Path, origin: Origin) -> bool:
    return origin.frames > 0 and path.suffix == ".png"


def digest(*parts: object) -> str:
    """Return 32 hexadecimal digits that change when a part does."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
