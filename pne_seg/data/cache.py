"""Decoded images on disk, memory-mapped, so that a crop reads its window and nothing is decoded."""

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from rich.progress import track

from pne_seg.data.dataset import Sample, SegmentationDataset
from pne_seg.data.pairs import PairedDataset, spread
from pne_seg.data.transfer import alone
from pne_seg.errors import UserError
from pne_seg.files import save_atomically

_HEADER = struct.Struct("<8sIIII40x")  # magic, height and width of the pixels and of the source
_MAGIC = b"pne_seg1"
_SAMPLED = 200  # headers that the size is estimated from
_GIGABYTE = 1e9


class DecodedCache:
    """A folder of decoded samples; runs and processes may share it.

    Each sample is one file, named by what its content depends on: a changed image or label file
    gets another. A file is moved into place when it is whole, so that an interruption leaves
    nothing half written; the next run goes on from there.

    Args:
        folder: where to; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def over(self, source: PairedDataset) -> "CachedDataset":
        """The split through the cache; `fill` makes it complete."""
        return CachedDataset(source, self.folder)

    def fill(self, dataset: SegmentationDataset) -> None:
        """Decode what is missing, over all processors; other processes wait.

        Raises:
            UserError: the disk is too small, a file cannot be written, or a sample cannot be read.
        """
        assert isinstance(dataset, CachedDataset)
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder / ".lock", f"fills {self.folder}"):
            absent = [index for index in range(len(dataset)) if not dataset.path(index).is_file()]
            if not absent:
                return
            for left_over in self.folder.glob("*/.*.tmp"):  # of a process that was killed
                left_over.unlink(missing_ok=True)
            self._announce(dataset, absent)
            with _pool() as pool:
                done = pool.map(dataset.store, absent)
                for _ in track(done, "Decoding into the cache", len(absent)):
                    pass

    def _announce(self, dataset: "CachedDataset", absent: list[int]) -> None:
        some = [absent[place] for place in spread(len(absent), _SAMPLED)]
        sizes = [dataset.source.stored_size(index) for index in some]
        needed = sum(4 * height * width for height, width in sizes) / len(some) * len(absent)
        free = shutil.disk_usage(self.folder).free
        said = (
            f"{len(absent)} of {len(dataset)} decoded images are missing in {self.folder}: about "
            f"{needed / _GIGABYTE:.1f} GB to write, {free / _GIGABYTE:.1f} GB are free"
        )
        if needed > free:
            raise UserError(f"{said}. Give a folder on a larger disk, or --data.cache null.")
        rank_zero_info(f"{said}.")


class CachedDataset(SegmentationDataset):
    """A split whose samples are read from the cache, as views of memory-mapped files.

    Args:
        source: the split as it is on disk.
        folder: the cache's.
    """

    def __init__(self, source: PairedDataset, folder: Path) -> None:
        self.source = source
        self.folder = folder

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """The source's."""
        return self.source.name(index)

    def source_size(self, index: int) -> tuple[int, int]:
        """The source's."""
        return self.source.source_size(index)

    def check(self) -> None:
        """The source's."""
        self.source.check()

    def path(self, index: int) -> Path:
        """The sample's file in the cache."""
        key = hashlib.blake2b(self.source.identity(index).encode(), digest_size=16).hexdigest()
        return self.folder / key[:2] / f"{key[2:]}.raw"

    def read(self, index: int) -> Sample:
        """Views of the sample's pixels, loaded as they are touched; decoded where missing."""
        path = self.path(index)
        try:
            content = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError):
            self.store(index)
            content = np.memmap(path, np.uint8, mode="r")
        magic, height, width, *source_size = _HEADER.unpack(bytes(content[: _HEADER.size]))
        pixels = height * width
        if magic != _MAGIC or len(content) != _HEADER.size + 4 * pixels:
            raise UserError(f"{path} is damaged. Remove it; it is made again.")
        image, labels = np.split(content[_HEADER.size :], [3 * pixels])
        return Sample(
            image.reshape(height, width, 3),
            labels.reshape(height, width),
            (source_size[0], source_size[1]),
        )

    def store(self, index: int) -> None:
        """Decode a sample into its file."""
        image, labels, source_size = self.source.read(index)
        header = _HEADER.pack(_MAGIC, *labels.shape, *source_size)
        parts = [header, image.tobytes(), labels.tobytes()]
        path = self.path(index)
        try:
            save_atomically(path, lambda file: file.writelines(parts))
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}).") from error


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads suffice: decoding and writing leave the interpreter to the others."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pool = ThreadPoolExecutor(usable or 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
