"""The files of a data set: in a folder, or in a zip archive that is read in place."""

import functools
import os
import unicodedata
import zipfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pne_seg.data.archives import Place, open_archive, read_member
from pne_seg.data.data_file import DataFile, PlainFile, identity_of, readable
from pne_seg.errors import UserError
from pne_seg.files import check_regular

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""What image files may be called, in lower case."""
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""The same of label files: formats that give back the values that were saved."""

# Folders that network storage and operating systems keep beside the files, in lower case.
_OF_SYSTEMS = {
    "__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot",
    "$recycle.bin", "recycler", "found.000", "lost+found", "system volume information",
    "~snapshot", "_gsdata_", "network trash folder", "temporary items",
}  # fmt: skip


def plain_path(folder: str) -> str:
    """Drop what a path below a tree's root does not need: `./`, double and outer slashes."""
    return "/".join(part for part in folder.split("/") if part not in ("", "."))


def composed(name: str) -> str:
    """Return a name in the Unicode form (NFC) that names are compared in."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _OF_SYSTEMS


def _is_folder(path: Path) -> bool:
    with readable(path):  # a folder above it may be closed to this user
        return path.is_dir()


class Tree:
    """The files below one folder, or in a zip archive; `str` names it for messages.

    Hidden files and folders (`.DS_Store`, `._name.png`, …) and those of systems and network storage
    (`__MACOSX`, `@eaDir`, `#recycle`, `lost+found`, …) are passed over. Folders are paths below the
    tree's root, with `/` in between; "" is the root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, folder: str, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[DataFile]:
        """Find the files in a folder, if it exists, and in those below it, sorted by `relative`.

        Their names end in one of `suffixes`, such as ".png", in lower or upper case.
        """
        endings = tuple(suffix.lower() for suffix in suffixes)
        names = self._below(self.spelled_path(folder)) if self.has(folder) else ()
        return [self._file(name) for name in sorted(names) if name.lower().endswith(endings)]

    def has(self, folder: str) -> bool:
        """Return whether there is such a folder."""
        return _is_folder(self._root / self.spelled_path(folder))

    def folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders directly below, sorted."""
        if not self.has(folder):
            return []
        place = self._root / self.spelled_path(folder)
        with readable(place):
            return sorted(name for name, is_folder in _entries(str(place)) if is_folder)

    def file(self, relative: str) -> DataFile | None:
        """Return one file by its path, None if there is none."""
        place = self._root / self.spelled_path(relative)
        with readable(self):
            # A pipe or a link to nowhere is one too, so that reading it says what is wrong.
            there = os.path.lexists(place) and not place.is_dir()
            return self._file(self.spelled_path(relative)) if there else None

    def within(self, folder: str) -> "Tree":
        """Return the same tree, rooted in a folder below."""
        return Tree(self._root / self.spelled_path(folder))

    def __str__(self) -> str:
        return str(self._root)

    def spelled_path(self, relative: str) -> str:
        """Return a path in the Unicode form that its names have, as a Mac's differs from others."""
        path = plain_path(relative)
        if path.isascii() or os.path.lexists(self._root / path):
            return path
        place = self._root
        for part in path.split("/"):
            names = [path.name for path in place.iterdir()] if place.is_dir() else []
            place /= next((name for name in names if composed(name) == composed(part)), part)
        return place.relative_to(self._root).as_posix()

    def _below(self, folder: str) -> Iterator[str]:
        with readable(self):
            yield from _walk(str(self._root / folder), f"{folder}/" if folder else "", frozenset())

    def _file(self, name: str) -> DataFile:
        return PlainFile(str(self._root), name)


def _walk(folder: str, below: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """Find the files under a folder, named from `below` on; links are followed."""
    found = Path(folder).stat()
    here = (found.st_dev, found.st_ino)
    if here in above:
        return  # a link to a folder around it
    for name, is_folder in _entries(folder):
        if is_folder:
            yield from _walk(f"{folder}/{name}", f"{below}{name}/", above | {here})
        else:
            yield below + name


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Names of what a folder shows, and whether each is a folder, or a link to one."""
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = False
            with suppress(OSError):  # a link that leads back to itself; reading it says so
                is_folder = entry.is_dir()
            if _is_shown(entry.name):
                yield entry.name, is_folder


def open_tree(path: Path) -> Tree:
    """Open a folder, or a zip archive, whose members are checked first."""
    path = Path(path)
    if _is_folder(path):
        return Tree(path)
    if path.exists():
        check_regular(path)
        if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
            raise UserError(f"{path} is a plain file: give a folder, or a zip archive of one.")
        return _open_zip(str(path), identity_of(path))
    near = next(parent for parent in path.absolute().parents if _is_folder(parent))
    names = ", ".join(Tree(near).folders()[:8]) or "no folders"
    raise UserError(f"{path} does not exist. The nearest folder above is {near}; it holds {names}.")


@dataclass(frozen=True, slots=True)
class _Member(DataFile):
    archive: str
    archive_identity: str  # when it was opened
    top: str  # the folder in it that is the tree's root, with a "/" at its end
    relative: str
    place: Place

    def read_bytes(self) -> bytes:
        with readable(self):
            return read_member(self.archive, self.place, self)

    def identity(self) -> str:
        place = f"{self.place.size}:{self.place.checksum:08x}"
        return f"{self.archive_identity}/{self.top}{self.relative}:{place}"

    def __str__(self) -> str:
        return f"{self.archive}/{self.top}{self.relative}"


@dataclass(frozen=True)
class _ZipTree(Tree):
    """The same of an archive."""

    archive: str
    identity: str
    members: dict[str, Place]
    places: set[str]  # folders, by full name; "" is the archive itself
    spelled: dict[str, str]  # names that are not composed, by what they are when composed
    top: str = ""

    def has(self, folder: str) -> bool:
        return self._full(folder) in self.places

    def folders(self, folder: str = "") -> list[str]:
        parts = [name.rpartition("/") for name in self.places if name]
        start = self._full(folder)
        return sorted(name for above, _, name in parts if above == start and _is_shown(name))

    def file(self, relative: str) -> DataFile | None:
        return (
            self._file(self.spelled_path(relative))
            if self._full(relative) in self.members
            else None
        )

    def within(self, folder: str) -> Tree:
        return replace(self, top=f"{self._full(folder)}/".removeprefix("/"))

    def __str__(self) -> str:
        return f"{self.archive}/{self.top}".removesuffix("/")

    def spelled_path(self, relative: str) -> str:
        path = self.top + plain_path(relative)
        return self.spelled.get(composed(path), path).removeprefix(self.top)

    def _full(self, relative: str) -> str:
        return (self.top + self.spelled_path(relative)).removesuffix("/")

    def _below(self, folder: str) -> Iterator[str]:
        start = f"{self._full(folder)}/".removeprefix("/")
        for name in self.members:
            if name.startswith(start) and all(map(_is_shown, name[len(start) :].split("/"))):
                yield name.removeprefix(self.top)

    def _file(self, name: str) -> DataFile:
        place = self.members[self.top + name]
        return _Member(self.archive, self.identity, self.top, name, place)


@functools.lru_cache(maxsize=8)  # the directory of a hundred thousand members takes a second
def _open_zip(path: str, identity: str) -> _ZipTree:
    members, folders = {}, {""}
    with open_archive(Path(path)) as archive:
        for member in archive.infolist():
            name = member.filename
            if not member.is_dir():
                members[name] = Place.of(member)
            while (name := name.rpartition("/")[0]) not in folders:
                folders.add(name)
    names = (name for name in (*members, *folders) if not name.isascii())
    spelled = {form: name for name in names if (form := composed(name)) != name}
    return _ZipTree(path, identity, members, folders, spelled)
