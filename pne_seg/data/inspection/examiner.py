"""Looks at single samples: decodes their files, counts their labels, says what is wrong.

Of a run of samples no more is kept than a report needs, a few kilobytes, so that nothing grows with
the data set.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.base import Split
from pne_seg.data.images import ImageInfo, Pixels, fitted_size, png_depth, read_image, read_info
from pne_seg.data.paired_files import Pair, PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.data.sources import DataFile
from pne_seg.errors import UserError

Size = tuple[int, int]


class Problem(NamedTuple):
    """Something wrong with one sample.

    Attributes:
        sample: its index.
        kind: `image`, `labels` or `sizes`, or `damage`, which decodes all the same.
        file: the file at fault, or the sample's name where there is none.
        message: names the file and says how to fix it.
    """

    sample: int
    kind: str
    file: str
    message: str


class Task(NamedTuple):
    """Samples `start` to `stop` of a split."""

    split: Split
    start: int
    stop: int


@dataclass
class Findings:
    """What some samples hold, and what is wrong with them.

    Attributes:
        task: the n samples that it is about.
        sizes: (n, 2) heights and widths of the images as stored, 0 where one cannot be read.
        digests: (n,) of the images' bytes, 0 where one cannot be read.
        pixels: (256,) pixels of each label.
        images: (256,) label maps that have any of them.
        problems: in the samples' order.
        noted: index, and findings on the sample, such as `grayscale`.
    """

    task: Task
    sizes: npt.NDArray[np.int32]
    digests: npt.NDArray[np.uint64]
    pixels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    images: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    problems: list[Problem] = field(default_factory=list)
    noted: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def about(cls, task: Task) -> "Findings":
        """Nothing found yet."""
        count = task.stop - task.start
        return cls(task, np.zeros((count, 2), np.int32), np.zeros(count, np.uint64))

    @contextmanager
    def noting(self, index: int, kind: str, file: str) -> Iterator[None]:
        """Turn what is raised into a problem."""
        try:
            yield
        except UserError as error:
            self.problems.append(Problem(index, kind, file, str(error)))
        # One odd file must not end the check of all others; mistakes of the code's own do.
        except (ValueError, LookupError, OSError, MemoryError, RuntimeError, cv2.error) as error:
            said = f"{file}: cannot be read ({type(error).__name__}: {error})."
            self.problems.append(Problem(index, kind, file, said))


@dataclass(frozen=True)
class Examiner:
    """Looks at the samples of one split, one after the other.

    Args:
        dataset: the split.
        num_classes: labels must be below, or the ignore value.
        ignore_index: the label without a class.
        crop: height and width of training crops; None where small images are no matter.
        resize_base: width and height of the box that images are fitted to before, or None.
    """

    dataset: SegmentationDataset
    num_classes: int
    ignore_index: int
    crop: Size | None = None
    resize_base: Size | None = None

    def examine(self, task: Task, said_by_decoder: Callable[[], str] = str) -> Findings:
        """Decode the samples' files.

        Args:
            task: which.
            said_by_decoder: what a decoder complained of since the last call, "" for nothing.
        """
        found = Findings.about(task)
        for index in range(task.start, task.stop):
            if isinstance(self.dataset, PairedDataset):
                said_by_decoder()
                self._examine_pair(self.dataset, index, found, said_by_decoder)
            else:
                self._examine_sample(index, found)
        return found

    def _examine_pair(
        self,
        dataset: PairedDataset,
        index: int,
        found: Findings,
        said_by_decoder: Callable[[], str],
    ) -> None:
        """Image and labels separately, so that the fault of the one does not hide the other's."""
        pair, place = dataset.pairs[index], index - found.task.start
        image: Pixels | None = None
        labels: Pixels | None = None
        with found.noting(index, "image", str(pair.image)):
            one = _in_memory(dataset, pair.name, _Held(pair.image))
            content = one.pairs[0].image.read_bytes()
            info = read_info(one.pairs[0].image)
            image = read_image(one.pairs[0].image)
            found.sizes[place], found.digests[place] = image.shape[:2], _digest(content)
            found.noted += [(index, kind) for kind in _peculiarities(info, content)]
            if self._is_small(one.stored_size(0)):
                found.noted.append((index, "small"))
            if said := said_by_decoder():
                message = (
                    f"{pair.image}: is damaged ({said}): it decodes, but part of the picture may "
                    "be wrong. Fetch it again, or look at it."
                )
                found.problems.append(Problem(index, "damage", str(pair.image), message))
        if pair.labels is None:
            return
        with found.noting(index, "labels", str(pair.labels)):
            one = _in_memory(dataset, pair.name, pair.image, _Held(pair.labels))
            labels = one.read_labels(0)
            assert labels is not None
            self._count(labels, index, str(pair.labels), found)
        if image is not None and labels is not None:
            with found.noting(index, "sizes", str(pair.labels)):
                dataset.check_sizes(index, _size(image), _size(labels))

    def _examine_sample(self, index: int, found: Findings) -> None:
        place, name = index - found.task.start, self.dataset.name(index)
        with found.noting(index, "image", name):
            image, labels, _ = self.dataset.read(index)
            found.sizes[place] = image.shape[:2]
            found.digests[place] = _digest(image.tobytes())
            if self._is_small(_size(image)):
                found.noted.append((index, "small"))
            if _size(image) != _size(labels):
                raise UserError(
                    f"{name}: the labels are {_size(labels)} (height, width), the image is "
                    f"{_size(image)}. Make them match."
                )
            if self.dataset.labeled:
                self._count(labels, index, name, found)

    def _count(self, labels: Pixels, index: int, file: str, found: Findings) -> None:
        if labels.dtype != np.uint8:
            raise UserError(f"{file}: labels must be uint8, these are {labels.dtype}.")
        counts = np.bincount(labels.ravel(), minlength=256)
        for value in np.flatnonzero(counts[self.num_classes :]) + self.num_classes:
            if value != self.ignore_index:
                raise UserError(
                    f"{file}: label {value} ({counts[value]} pixels) is no class: valid are 0 to "
                    f"{self.num_classes - 1} and {self.ignore_index}. Correct the labels."
                )
        found.pixels += counts
        found.images += counts > 0
        if counts[self.ignore_index] == labels.size:
            found.noted.append((index, "unlabeled"))

    def _is_small(self, stored: Size) -> bool:
        if self.crop is None:
            return False
        size = stored if self.resize_base is None else fitted_size(stored, self.resize_base)
        return size[0] < self.crop[0] or size[1] < self.crop[1]


class _Held(DataFile):
    """A file's content, read once for all that is looked up in it."""

    __slots__ = ("content", "file", "relative")

    def __init__(self, file: DataFile) -> None:
        self.file, self.relative = file, file.relative
        self.content = file.read_bytes()

    def read_bytes(self) -> bytes:
        return self.content

    def identity(self) -> str:
        return self.file.identity()

    def __str__(self) -> str:
        return str(self.file)


def _in_memory(
    dataset: PairedDataset, name: str, image: DataFile, labels: DataFile | None = None
) -> PairedDataset:
    """The data set as one pair of these files, with all that a subclass does to them."""
    one = copy(dataset)
    one.pairs = [Pair(name, image, labels)]
    return one


def _peculiarities(info: ImageInfo, content: bytes) -> Iterator[str]:
    """Findings on an image that is readable."""
    if info.rotated:
        yield "rotated"
    if info.mode in ("1", "L", "LA", "F") or info.mode.startswith("I"):
        yield "grayscale"
    if info.mode == "CMYK":
        yield "cmyk"
    if info.mode in ("LA", "PA", "RGBA"):
        yield "transparent"
    if info.mode.startswith(("I", "F")) or (info.format == "PNG" and png_depth(content) > 8):
        yield "deep"


def _digest(content: bytes) -> np.uint64:
    """Never 0, which stands for none; at 64 bits two of a million images do not meet by chance."""
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little") or 1)


def _size(image: Pixels) -> Size:
    return image.shape[0], image.shape[1]
