"""Where the files of a data set lie: in a folder, or in a zip archive that is read in place."""

import functools
import hashlib
import io
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pne_seg.data.archives import Place, check_size, open_archive, read_member
from pne_seg.errors import UserError
from pne_seg.files import check_regular


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
        with self.open() as file, _readable(self):
            return hashlib.file_digest(cast(io.BufferedReader, file), _new_hash).hexdigest()

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

    def files(self, folder: str, suffixes: Collection[str]) -> list[DataFile]:
        """Files in a folder and in those below it, sorted by `relative`.

        Args:
            folder: where to look; one that does not exist has no files.
            suffixes: how a name must end, in lower or upper case, such as ".png".

        Raises:
            UserError: a folder cannot be read.
        """
        endings = tuple(suffix.lower() for suffix in suffixes)
        names = self._below(_plain(folder)) if self.has(folder) else ()
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


def open_tree(path: Path) -> Tree:
    """A folder, or a zip archive, whose members are checked first.

    Raises:
        UserError: the path is neither, or the archive is refused (`archives.open_archive`).
    """
    path = Path(path)
    if _is_folder(path):
        return _Folder(path)
    if path.exists():
        check_regular(path)
        if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
            raise UserError(f"{path} is a plain file: give a folder, or a zip archive of one.")
        return _opened(str(path), _identity(path))
    near = next(parent for parent in path.absolute().parents if _is_folder(parent))
    names = ", ".join(_Folder(near).folders()[:8]) or "no folders"
    raise UserError(f"{path} does not exist. The nearest folder above is {near}; it holds {names}.")


def open_file(path: Path) -> DataFile:
    """One file on disk, whether it exists or not."""
    return _PlainFile(str(path.parent), path.name)


@dataclass(frozen=True, slots=True)
class _PlainFile(DataFile):
    root: str
    relative: str

    def read_bytes(self) -> bytes:
        with self.open() as file, _readable(self):
            check_size(os.fstat(file.fileno()).st_size, self)
            return file.read()

    def open(self) -> BinaryIO:
        with _readable(self):
            check_regular(str(self))
            return Path(str(self)).open("rb")

    def identity(self) -> str:
        with _readable(self):
            return _identity(Path(str(self)))

    def __str__(self) -> str:
        return str(Path(self.root, self.relative))


class _Folder(Tree):
    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, folder: str) -> bool:
        return _is_folder(self.root / _plain(folder))

    def folders(self, folder: str = "") -> list[str]:
        if not self.has(folder):
            return []
        place = self.root / _plain(folder)
        with _readable(place), os.scandir(place) as found:
            shown = (entry for entry in found if _shown(entry.name))
            return sorted(entry.name for entry in shown if _leads_to_folder(entry))

    def file(self, relative: str) -> DataFile | None:
        place = self.root / _plain(relative)
        with _readable(self):
            # A pipe or a link to nowhere is one too, so that reading it says what is wrong.
            there = os.path.lexists(place) and not place.is_dir()
            return _PlainFile(str(self.root), _plain(relative)) if there else None

    def within(self, folder: str) -> Tree:
        return _Folder(self.root / _plain(folder))

    def __str__(self) -> str:
        return str(self.root)

    def _below(self, folder: str) -> Iterator[str]:
        with _readable(self):
            yield from _walk(str(self.root / folder), f"{folder}/" if folder else "", frozenset())

    def _files(self, names: list[str]) -> list[DataFile]:
        root = str(self.root)
        return [_PlainFile(root, name) for name in names]


def _walk(folder: str, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Files under a folder on disk, named from `below` on; links are followed."""
    found = Path(folder).stat()
    here = (found.st_dev, found.st_ino)
    if here in above:
        return  # a link to a folder around it
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _shown(entry.name):
                continue
            if _leads_to_folder(entry):
                yield from _walk(entry.path, f"{below}{entry.name}/", above | {here})
            else:
                yield below + entry.name


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself; reading it says so
        return False


@dataclass(frozen=True, slots=True)
class _Source:
    """An archive as it was when it was opened, and the folder in it that is the tree's root."""

    path: str
    identity: str
    top: str  # ends with a "/", unless it is empty


@dataclass(frozen=True, slots=True)
class _Member(DataFile):
    """A file in an archive. It holds nothing open, so processes and threads cannot clash."""

    source: _Source
    relative: str
    place: Place

    def read_bytes(self) -> bytes:
        with _readable(self):
            return read_member(Path(self.source.path), self.place, str(self))

    def identity(self) -> str:
        member = f"{self.source.top}{self.relative}:{self.place.size}:{self.place.checksum:08x}"
        return f"{self.source.identity}/{member}"

    def __str__(self) -> str:
        return f"{self.source.path}/{self.source.top}{self.relative}"


class _Archive(Tree):
    def __init__(self, source: _Source, members: dict[str, Place], folders: set[str]) -> None:
        self.source = source
        self.members = members
        self.places = folders  # by full name; "" is the archive itself

    @classmethod
    def of(cls, path: Path, identity: str) -> "_Archive":
        members, folders = {}, {""}
        with open_archive(path) as archive:
            for member in archive.infolist():
                name = member.filename
                if not member.is_dir():
                    members[name] = Place.of(member)
                while (name := name.rpartition("/")[0]) not in folders:
                    folders.add(name)
        return cls(_Source(str(path), identity, ""), members, folders)

    def has(self, folder: str) -> bool:
        return self._full(folder) in self.places

    def folders(self, folder: str = "") -> list[str]:
        start = self._full(folder)
        parts = [name.rpartition("/") for name in self.places if name]
        return sorted(name for above, _, name in parts if above == start and _shown(name))

    def file(self, relative: str) -> DataFile | None:
        known = self._full(relative) in self.members
        return self._files([_plain(relative)])[0] if known else None

    def within(self, folder: str) -> Tree:
        top = f"{self._full(folder)}/".removeprefix("/")
        source = _Source(self.source.path, self.source.identity, top)
        return _Archive(source, self.members, self.places)

    def __str__(self) -> str:
        return f"{self.source.path}/{self.source.top}".removesuffix("/")

    def _full(self, relative: str) -> str:
        return (self.source.top + _plain(relative)).removesuffix("/")

    def _below(self, folder: str) -> Iterator[str]:
        start = f"{self._full(folder)}/".removeprefix("/")
        for name in self.members:
            if name.startswith(start) and all(map(_shown, name[len(start) :].split("/"))):
                yield name.removeprefix(self.source.top)

    def _files(self, names: list[str]) -> list[DataFile]:
        source = self.source
        return [_Member(source, name, self.members[source.top + name]) for name in names]


@functools.lru_cache(maxsize=8)
def _opened(path: str, identity: str) -> _Archive:
    """Kept, as a second goes into the directory of a hundred thousand members."""
    return _Archive.of(Path(path), identity)


def _new_hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _plain(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if part not in ("", "."))


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{path.absolute()}:{found.st_size}:{found.st_mtime_ns}"


def _is_folder(path: Path) -> bool:
    with _readable(path):  # a folder above it may be closed to this user
        return path.is_dir()


@contextmanager
def _readable(what: object) -> Iterator[None]:
    """Name the file or folder that cannot be read, or `what` where the system names none."""
    try:
        yield
    except OSError as error:
        place = error.filename or what
        raise UserError(
            f"{place}: cannot be read ({error.strerror}). Fetch it, or see to its permissions."
        ) from error
