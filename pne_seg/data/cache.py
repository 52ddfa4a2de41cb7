"""Decoded images on disk, memory-mapped, so that a crop reads its window and nothing is decoded."""

import hashlib
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.progress import track

from pne_seg.data.archives import exclusive, require_space
from pne_seg.data.base import usable_processors
from pne_seg.data.paired_files import PairedDataset, spread
from pne_seg.data.samples import Sample
from pne_seg.errors import UserError
from pne_seg.files import save_atomically

_HEADER = struct.Struct("<8sIIII40x")  # magic, height and width of the pixels and of the source
_MAGIC = b"pne_seg1"
_CHANNELS = 4  # bytes per pixel: three of the image, one of the labels
_SAMPLED = 2000  # headers that the size is estimated from


class CachedDataset(PairedDataset):
    """A split of files read from a folder of decoded samples, as views of memory-mapped files.

    Runs and processes may share the folder. Each sample is one file, named by what its content
    depends on: a changed image or label file gets another. A file is moved into place when it is
    whole, so that the next run resumes an interrupted filling. A complete cache may be read-only.
    """

    def __init__(self, source: PairedDataset, folder: Path) -> None:
        super().__init__(source.pairs, source.label_format, source.home, source.scale)
        self.source = source
        self.folder = folder

    def path(self, index: int) -> Path:
        """Return the sample's file in the cache."""
        key = hashlib.blake2b(self.identity(index).encode(), digest_size=16).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.raw"

    def absent(self) -> list[int]:
        """Return the indices of the samples that have no whole file in the cache."""
        return [index for index in range(len(self)) if _header(self.path(index)) is None]

    def read(self, index: int) -> Sample:
        """Return views of the sample's pixels, loaded as they are touched; decode a missing file.

        Writing to the views changes neither the file nor what others read.
        """
        path = self.path(index)
        sizes = _header(path)
        if sizes is None:
            sample = self.source.read(index)
            with suppress(OSError):  # for the next time; a training need not end for it
                _write(path, sample)
            return sample
        height, width, *source_size = sizes
        content = np.memmap(path, np.uint8, mode="c", offset=_HEADER.size)
        image, labels = np.split(content, [3 * height * width])
        size = source_size[0], source_size[1]
        return Sample(image.reshape(height, width, 3), labels.reshape(height, width), size)

    def fill(self) -> None:
        """Decode what is missing or damaged, over all processors; other processes wait."""
        if not self.absent():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / ".lock", f"fills {self.folder}"):
                # Another process may have done it meanwhile.
                if absent := self.absent():
                    self._fill(absent)
        except OSError as error:
            raise UserError(
                f"cache {self.folder}: cannot be written ({error.strerror}). Give another folder."
            ) from error

    def _fill(self, absent: list[int]) -> None:
        for left_over in self.folder.glob("*/.*.tmp"):  # of a process that was killed
            left_over.unlink(missing_ok=True)
        some = [absent[place] for place in spread(len(absent), _SAMPLED)]
        sizes = [self.stored_size(index) for index in some]
        needed = round(sum(map(_file_size, sizes)) / len(some) * len(absent))
        require_space(self.folder, needed, "hold the decoded images (cache)")
        console = Console(stderr=True)
        # Not `rank_zero_info`: any process may be the one that fills.
        console.print(
            f"{self.folder}: {len(absent)} of {len(self)} decoded images are missing; about "
            f"{decimal(needed)} will be written.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        # Threads suffice: decoding and writing release the GIL.
        pool = ThreadPoolExecutor(usable_processors())
        try:
            done = pool.map(self.store, absent)
            for _ in track(done, "Decoding into the cache", len(absent), console=console):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def store(self, index: int) -> None:
        """Decode a sample into its file."""
        path, sample = self.path(index), self.source.read(index)
        try:
            _write(path, sample)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}).") from error


def _write(path: Path, sample: Sample) -> None:
    parts: list[bytes | memoryview] = [
        _HEADER.pack(_MAGIC, *sample.labels.shape, *sample.source_size),
        *(np.ascontiguousarray(pixels).data for pixels in (sample.image, sample.labels)),
    ]
    save_atomically(path, lambda file: file.writelines(parts))


def _header(path: Path) -> list[int] | None:
    """Read height and width of a cache file's pixels and of their source; None if not whole."""
    try:
        with path.open("rb") as file:
            magic, *sizes = _HEADER.unpack(file.read(_HEADER.size))
            whole = os.fstat(file.fileno()).st_size == _file_size(sizes)
    except (OSError, struct.error):
        return None
    return sizes if whole and magic == _MAGIC else None


def _file_size(size: Sequence[int]) -> int:
    return _HEADER.size + _CHANNELS * size[0] * size[1]
