"""Where the files of a data set lie: in a folder, or in a zip archive that is read in place."""

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pne_seg.data.archives import check_size
from pne_seg.data.data_files import (
    IMAGE_SUFFIXES,
    DataFile,
    Tree,
    file_identity,
    is_folder,
    is_shown,
    plain,
    readable,
)
from pne_seg.data.zip_tree import open_zip
from pne_seg.errors import UserError
from pne_seg.files import check_regular

__all__ = ["IMAGE_SUFFIXES", "DataFile", "Tree", "open_file", "open_tree"]


def open_tree(path: Path) -> Tree:
    """A folder, or a zip archive, whose members are checked first.

    Raises:
        UserError: the path is neither, or the archive is refused (`archives.open_archive`).
    """
    path = Path(path)
    if is_folder(path):
        return _Folder(path)
    if path.exists():
        check_regular(path)
        if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
            raise UserError(f"{path} is a plain file: give a folder, or a zip archive of one.")
        return open_zip(str(path), file_identity(path))
    near = next(parent for parent in path.absolute().parents if is_folder(parent))
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
        with self.open() as file, readable(self):
            check_size(os.fstat(file.fileno()).st_size, self)
            return file.read()

    def open(self) -> BinaryIO:
        with readable(self):
            check_regular(str(self))
            return Path(str(self)).open("rb")

    def identity(self) -> str:
        with readable(self):
            return file_identity(Path(str(self)))

    def __str__(self) -> str:
        return str(Path(self.root, self.relative))


class _Folder(Tree):
    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, folder: str) -> bool:
        return is_folder(self.root / plain(folder))

    def folders(self, folder: str = "") -> list[str]:
        if not self.has(folder):
            return []
        place = self.root / plain(folder)
        with readable(place), os.scandir(place) as found:
            shown = (entry for entry in found if is_shown(entry.name))
            return sorted(entry.name for entry in shown if _leads_to_folder(entry))

    def file(self, relative: str) -> DataFile | None:
        place = self.root / plain(relative)
        with readable(self):
            # A pipe or a link to nowhere is one too, so that reading it says what is wrong.
            there = os.path.lexists(place) and not place.is_dir()
            return _PlainFile(str(self.root), plain(relative)) if there else None

    def within(self, folder: str) -> Tree:
        return _Folder(self.root / plain(folder))

    def __str__(self) -> str:
        return str(self.root)

    def _below(self, folder: str) -> Iterator[str]:
        with readable(self):
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
            if not is_shown(entry.name):
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
