"""What a data set's files are: `DataFile` and `Tree`, wherever they lie."""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from pne_seg.errors import UserError

_BLAKE2B_16 = partial(hashlib.blake2b, digest_size=16)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""What image files may be called, in lower case."""


class DataFile(ABC):
    """One file of a data set: small, and cheap to send to other processes.

    `str` gives its full path, or `archive.zip/member`.

    Attributes:
        relative: its path below the tree's root, with `/` between folders.
    """

    __slots__ = ()
    relative: str

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
        """All of the file.

        Raises:
            UserError: it is missing, unreadable or, in an archive, damaged.
        """

    def open(self) -> BinaryIO:
        """The file as a stream, for who needs only its beginning; raises as `read_bytes` does."""
        return io.BytesIO(self.read_bytes())

    def digest(self) -> str:
        """Return 32 hexadecimal digits that change with the content; raises as `read_bytes` does.

        A file of any size is read in pieces.
        """
        with self.open() as file, readable(self):
            return hashlib.file_digest(cast(io.BufferedReader, file), _BLAKE2B_16).hexdigest()

    @abstractmethod
    def identity(self) -> str:
        """A text that changes when the file does: its place, with size and date or checksum.

        Raises:
            UserError: the file is missing.
        """


class Tree(ABC):
    """The files below one folder, on disk or in an archive; `str` names it for messages.

    Hidden files and folders (`.DS_Store`, `._name.png`, …) and `__MACOSX` are passed over. Folders
    are paths below the tree's root, with `/` in between; "" is the root.
    """

    def files(self, folder: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[DataFile]:
        """Files in a folder and in those below it, sorted by `relative`.

        Args:
            folder: where to look; one that does not exist has no files.
            suffixes: how a name must end, in lower or upper case, such as ".png"; those of images
                by default.

        Raises:
            UserError: a folder cannot be read.
        """
        endings = tuple(suffix.lower() for suffix in suffixes)
        names = self._below(plain(folder)) if self.has(folder) else ()
        return self._files(sorted(name for name in names if name.lower().endswith(endings)))

    @abstractmethod
    def has(self, folder: str) -> bool:
        """Whether there is such a folder."""

    @abstractmethod
    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly below, sorted; none where there is no such folder."""

    @abstractmethod
    def file(self, relative: str) -> DataFile | None:
        """One file by its path, None where there is none."""

    @abstractmethod
    def within(self, folder: str) -> "Tree":
        """The same, rooted in a folder below."""

    @abstractmethod
    def _below(self, folder: str) -> Iterable[str]: ...

    @abstractmethod
    def _files(self, names: list[str]) -> list[DataFile]: ...


def plain(folder: str) -> str:
    """Drop what a path below a tree's root does not need: `./`, double and outer slashes."""
    return "/".join(part for part in folder.split("/") if part not in ("", "."))


def is_shown(name: str) -> bool:
    """Return whether a file or folder of this name counts, as `Tree` says."""
    return not name.startswith(".") and name != "__MACOSX"


def file_identity(path: Path) -> str:
    """Return a text that changes when the file does."""
    found = path.stat()
    return f"{path.absolute()}:{found.st_size}:{found.st_mtime_ns}"


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; raises a UserError if that cannot be told."""
    with readable(path):  # a folder above it may be closed to this user
        return path.is_dir()


@contextmanager
def readable(what: object) -> Iterator[None]:
    """Name the file or folder that cannot be read, or `what` where the system names none."""
    try:
        yield
    except OSError as error:
        place = error.filename or what
        raise UserError(
            f"{place}: cannot be read ({error.strerror}). Fetch it, or see to its permissions."
        ) from error
