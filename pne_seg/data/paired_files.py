"""A split as pairs of files: found by name, nothing left over on either side, sizes checked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from operator import attrgetter

import cv2
import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.causes import SameWords, grouped
from pne_seg.data.data_file import DataFile
from pne_seg.data.images import ImageInfo, Pixels, decode_image, read_image, read_info
from pne_seg.data.label_formats import IGNORE, IndexLabels, LabelFormat
from pne_seg.data.palettes import check_palettes
from pne_seg.data.partners import nearest_partner
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.errors import DataError, Fix, UserError

_LARGEST_FACTOR = 16  # between the sizes of masks and images, that is taken for one
CHECKED_HEADERS = 200
"""Pairs whose headers are checked before a training; `check-data` checks all."""
_READ, _MOST_PIXELS = 4, 8_000_000  # labels that are decoded then, and how large they may be


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels."""

    name: str  # predictions are written under it; unique in its split
    image: DataFile
    labels: DataFile | None  # None where the split's labels are not public


@dataclass(eq=False)
class PairedDataset(SegmentationDataset):
    """One split whose images and labels are files, resized by a factor `scale` as they are read.

    `home` says in error messages where the files come from.
    """

    pairs: Sequence[Pair]
    label_format: LabelFormat
    home: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.labeled = all(pair.labels is not None for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """Return the pair's name."""
        return self.pairs[index].name

    def source_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image, from its header."""
        return read_info(self.pairs[index].image).size

    def stored_size(self, index: int) -> tuple[int, int]:
        """Return height and width of what `read` returns."""
        return self.scaled(self.source_size(index))

    def scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size that an image of this height and width is read at."""
        height, width = (max(1, round(side * self.scale)) for side in size)
        return height, width

    def identity(self, index: int) -> str:
        """Return a text that changes when a file, the classes or the scale do."""
        pair = self.pairs[index]
        labels = "" if pair.labels is None else pair.labels.identity()
        scale = "" if self.scale == 1 else f" × {self.scale}"
        return f"{pair.image.identity()}\n{labels}\n{self.label_format.identity}{scale}"

    def check(self) -> None:
        """Check the headers of some pairs, evenly over the split, and the labels of a few."""
        looked_at = spread(len(self), CHECKED_HEADERS)
        deep: list[int] = []

        def look(index: int) -> None:
            if self.check_header(index).depth > 8:
                deep.append(index)

        self._check_each(looked_at, look)
        labels = [self.pairs[index].labels for index in looked_at]
        if isinstance(self.label_format, IndexLabels) and self.label_format.takes:
            check_palettes(file for file in labels if file is not None)
        few = spread(len(self), _READ)
        pixels = np.cumsum([prod(self.source_size(index)) for index in few])
        self._check_each(few[: max(1, int((pixels <= _MOST_PIXELS).sum()))], self.read_labels)
        if deep:
            file = self.pairs[deep[0]].image
            bits = decode_image(file, file.read_bytes())[1].bits
            rank_zero_info(
                f"{len(deep)} of {len(looked_at)} images that were looked at have more than 8 bits "
                f"per channel; {file} is read as {bits} bits."
            )

    def _check_each(self, indices: Sequence[int], check: Callable[[int], object]) -> None:
        """Raise what is wrong with some pairs, once for all that have it in common."""
        problems: list[tuple[str, UserError]] = []
        for index in indices:
            pair = self.pairs[index]
            try:
                check(index)
            except UserError as error:
                at_image = pair.labels is None or str(pair.labels) not in str(error)
                problems.append((str(pair.image if at_image else pair.labels), error))
        for shared, files in grouped(problems, len(indices), "files"):
            if len(files) == 1:
                raise shared
            fixes = shared.fixes if isinstance(shared, DataError) else ()
            said = shared.message if isinstance(shared, DataError) else str(shared)
            raise DataError(f"{files[0]} and others: {said}", fixes)

    def read(self, index: int) -> Sample:
        """Decode one pair, check and scale it; without label files, all is ignored."""
        image = read_image(self.pairs[index].image)
        labels = self.read_labels(index)
        height, width = image.shape[:2]
        if labels is None:
            labels = np.full((height, width), IGNORE, np.uint8)
        self.check_sizes(index, (height, width), (labels.shape[0], labels.shape[1]))
        if self.scale != 1:
            size = self.scaled((height, width))[::-1]
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return Sample(image, labels, (height, width))

    def picture(self, index: int, sample: Sample) -> Pixels:
        """Return the image as its file has it; decoded again where `read` scales."""
        if sample.image.shape[:2] == tuple(sample.source_size):
            return sample.image
        return read_image(self.pairs[index].image)

    def read_labels(self, index: int) -> Pixels | None:
        """Read the class indices of one pair, (H, W); None if it has no labels."""
        file = self.pairs[index].labels
        return None if file is None else self.label_format.read(file)

    def check_header(self, index: int) -> ImageInfo:
        """Check the headers of a pair, without decoding; return the image's."""
        pair = self.pairs[index]
        info = read_info(pair.image)
        if pair.labels is not None:
            self.check_sizes(index, info.size, self.label_format.size(pair.labels))
        return info

    def check_sizes(self, index: int, image: tuple[int, int], labels: tuple[int, int]) -> None:
        """Refuse an image and labels of different sizes (height, width)."""
        if image == labels:
            return
        pair = self.pairs[index]
        fix = f"Fetch both again from {self.home}." if self.home else "Make them match."
        if image == labels[::-1] and read_info(pair.image).rotated:
            fix = "The image's EXIF data turn it for display: turn the labels, or drop the EXIF."
        one = f"{pair.labels} is {labels} (height, width), its image {pair.image} is {image}. {fix}"
        raise SameWords(one, f"{_compared(labels, image)}. {fix}").error(str(pair.labels))


def _compared(labels: tuple[int, int], image: tuple[int, int]) -> str:
    """Say how masks of one size relate to images of another, (height, width)."""
    if labels == image[::-1]:
        return "lie on their side: height and width are those of the image, swapped"
    down, across = (
        Fraction(mine, other).limit_denominator(_LARGEST_FACTOR)
        for mine, other in zip(labels, image, strict=True)
    )
    # A scaled size is rounded in either direction.
    fits = all(
        abs(mine - other * float(down)) <= 1 for mine, other in zip(labels, image, strict=True)
    )
    if down == across != 1 and down and fits:
        return f"are of another size than their images, all by the factor {down}"
    return "are of another size than their images"


def match(
    image_files: Iterable[DataFile],
    label_files: Iterable[DataFile],
    expected: str,
    image_key: Callable[[DataFile], str] = attrgetter("stem"),
    label_key: Callable[[DataFile], str] = attrgetter("stem"),
    lying: Callable[[str], Iterable[DataFile]] = lambda _: (),
    settable: bool = False,
) -> list[Pair]:
    """Pair images with labels by a common key, sorted by it.

    An image or a label without a partner, and two files of one key, are errors.

    Args:
        image_files: every image of the split.
        label_files: every label file of the split.
        expected: the layout, for the error message.
        image_key: what an image has in common with its labels; becomes the pair's name.
        label_key: the same, of a label file.
        lying: every file that lies where an "image" or "labels" could, for the error message.
        settable: whether the data set has `Folder`'s arguments on names, to be advised.
    """
    images, labels = by_key(image_files, image_key), by_key(label_files, label_key)
    for here, there, what in ((images, labels, "labels"), (labels, images, "image")):
        if alone := sorted(here.keys() - there.keys()):
            file = here[alone[0]]
            paired = {there[key] for key in here.keys() & there.keys()}
            others = [other for other in [*there.values(), *lying(what)] if other not in paired]
            near, fixes = nearest_partner(alone, file, others, what, settable)
            if settable and not near and what == "labels" and paired:
                fixes = [Fix("to leave such images out", {"skip_unlabeled": True})]
            said = f"{file} has no {what} ({len(alone)} such files in all). "
            parts = (expected, near) if fixes else (near, expected)
            message = said + " ".join(filter(None, parts))
            files = [str(here[key]) for key in alone]
            raise DataError(message.removesuffix("." if fixes else ""), fixes, files)
    return [Pair(key, images[key], labels[key]) for key in sorted(images)]


def by_key(files: Iterable[DataFile], key: Callable[[DataFile], str]) -> dict[str, DataFile]:
    """Return the files by their keys; two of one key are an error."""
    found: dict[str, DataFile] = {}
    for file in files:
        other = found.setdefault(key(file), file)
        if other is not file:
            raise UserError(f"{other} and {file} share a name. Remove one of them.")
    return found


def spread(total: int, limit: int) -> list[int]:
    """Return at most `limit` indices, evenly over `total`, the first and the last among them."""
    if total <= limit:
        return list(range(total))
    return sorted({round(number * (total - 1) / (limit - 1)) for number in range(limit)})
