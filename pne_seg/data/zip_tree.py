"""A data set's files in a zip archive, which is read in place."""

import functools
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pne_seg.data.archives import DAMAGE, FIX, check_size, open_archive
from pne_seg.data.data_files import DataFile, Tree, is_shown, plain, readable
from pne_seg.errors import UserError

# What precedes a member's bytes: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
# (4.3.7). A signature, what is known already, and the lengths of a name and of extra data.
_HEADER = struct.Struct("<4s22xHH")


class Place(NamedTuple):
    """Where a member lies in its archive, in bytes, and what must come out."""

    offset: int
    packed: int
    size: int
    checksum: int
    deflated: bool

    @classmethod
    def of(cls, member: zipfile.ZipInfo) -> "Place":
        """As the archive's directory says."""
        return cls(
            member.header_offset,
            member.compress_size,
            member.file_size,
            member.CRC,
            member.compress_type == zipfile.ZIP_DEFLATED,
        )


def read_member(archive: Path, place: Place, name: str) -> bytes:
    """One member of a checked archive; nothing stays open, for processes or threads to clash in.

    Args:
        archive: the zip file.
        place: of the member.
        name: what to call it in messages.

    Raises:
        OSError: the archive cannot be read.
        UserError: the member is damaged, or too large.
    """
    check_size(max(place.size, place.packed), name)
    try:
        with archive.open("rb") as file:
            file.seek(place.offset)
            signature, name_length, extra_length = _HEADER.unpack(file.read(_HEADER.size))
            file.seek(name_length + extra_length, os.SEEK_CUR)
            data = file.read(place.packed)
        if place.deflated:
            # The size is a limit: more may come out than the archive says.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, place.size + 1)
    except DAMAGE as error:
        raise UserError(f"{name} is damaged ({error}). {FIX}") from error
    if signature != b"PK\3\4" or len(data) != place.size or zlib.crc32(data) != place.checksum:
        raise UserError(f"{name} is damaged (other bytes than the archive promises). {FIX}")
    return data


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
        with readable(self):
            return read_member(Path(self.source.path), self.place, str(self))

    def identity(self) -> str:
        member = f"{self.source.top}{self.relative}:{self.place.size}:{self.place.checksum:08x}"
        return f"{self.source.identity}/{member}"

    def __str__(self) -> str:
        return f"{self.source.path}/{self.source.top}{self.relative}"


class _ZipTree(Tree):
    def __init__(self, source: _Source, members: dict[str, Place], folders: set[str]) -> None:
        self.source = source
        self.members = members
        self.places = folders  # by full name; "" is the archive itself

    @classmethod
    def of(cls, path: Path, identity: str) -> "_ZipTree":
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
        return sorted(name for above, _, name in parts if above == start and is_shown(name))

    def file(self, relative: str) -> DataFile | None:
        known = self._full(relative) in self.members
        return self._files([plain(relative)])[0] if known else None

    def within(self, folder: str) -> Tree:
        top = f"{self._full(folder)}/".removeprefix("/")
        source = _Source(self.source.path, self.source.identity, top)
        return _ZipTree(source, self.members, self.places)

    def __str__(self) -> str:
        return f"{self.source.path}/{self.source.top}".removesuffix("/")

    def _full(self, relative: str) -> str:
        return (self.source.top + plain(relative)).removesuffix("/")

    def _below(self, folder: str) -> Iterator[str]:
        start = f"{self._full(folder)}/".removeprefix("/")
        for name in self.members:
            if name.startswith(start) and all(map(is_shown, name[len(start) :].split("/"))):
                yield name.removeprefix(self.source.top)

    def _files(self, names: list[str]) -> list[DataFile]:
        source = self.source
        return [_Member(source, name, self.members[source.top + name]) for name in names]


@functools.lru_cache(maxsize=8)
def open_zip(path: str, identity: str) -> _ZipTree:
    """Open an archive's tree.

    It is kept: the directory of a hundred thousand members takes a second to read.
    """
    return _ZipTree.of(Path(path), identity)
