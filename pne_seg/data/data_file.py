"""One file of a data set, wherever it lies."""

import functools
import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pne_seg.data.archives import check_size
from pne_seg.errors import UserError
from pne_seg.files import check_regular


class DataFile(ABC):
    """One file of a data set: small, and cheap to send to other processes.

    `str` gives its full path, or `archive.zip/member`. Reading raises a `UserError` if the file is
    missing, unreadable or, in an archive, damaged.
    """

    __slots__ = ()
    relative: str  # its path below the tree's root, with `/` between folders

    @property
    def name(self) -> str:
        """The file's name, with its extension."""
        return self.relative.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The file's name up to the last dot."""
        return self.name.rpartition(".")[0] or self.name

    @abstractmethod
    def read_bytes(self) -> bytes:
        """Read all of the file."""

    def open(self) -> BinaryIO:
        """Open the file as a stream, to read its beginning only."""
        return io.BytesIO(self.read_bytes())

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change with the content; large files take no memory."""
        with self.open() as file, readable(self):
            blake2b = functools.partial(hashlib.blake2b, digest_size=16)
            return hashlib.file_digest(cast(io.BufferedReader, file), blake2b).hexdigest()

    @abstractmethod
    def identity(self) -> str:
        """Return a text that changes with the file: its place, with size and date or checksum."""


def identity_of(path: Path) -> str:
    """Return a text that changes with a file on disk: its place, size and date."""
    found = path.stat()
    return f"{path.absolute()}:{found.st_size}:{found.st_mtime_ns}"


@contextmanager
def readable(what: object) -> Iterator[None]:
    """Name the file or folder that cannot be read, or `what` where the system names none."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or what}: cannot be read ({error.strerror}). Fetch it, or check its "
            "permissions."
        ) from error


@dataclass(frozen=True, slots=True)
class PlainFile(DataFile):
    """A file on disk."""

    root: str
    relative: str

    def read_bytes(self) -> bytes:
        """Read all of the file, if its size is within bounds."""
        with self.open() as file, readable(self):
            check_size(os.fstat(file.fileno()).st_size, self)
            return file.read()

    def open(self) -> BinaryIO:
        """Open the file as a stream."""
        with readable(self):
            check_regular(str(self))
            return Path(str(self)).open("rb")

    def identity(self) -> str:
        """Return its place, size and date."""
        with readable(self):
            return identity_of(Path(str(self)))

    def __str__(self) -> str:
        return str(Path(self.root, self.relative))


def open_file(path: Path) -> DataFile:
    """Return one file on disk, whether it exists or not."""
    return PlainFile(str(path.parent), path.name)
