"""A split as pairs of files: found by name, nothing left over on either side, sizes checked."""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import cv2
import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.data_file import DataFile
from pne_seg.data.images import ImageInfo, Pixels, decode_image, read_image, read_info
from pne_seg.data.label_formats import IGNORE, IndexLabels, LabelFormat
from pne_seg.data.palettes import check_palettes
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.data.sources import IMAGE_SUFFIXES, LABEL_SUFFIXES, composed
from pne_seg.errors import UserError

_SEPARATORS = "_-. "
_MOST_COMPARED = 100  # names that a hint is looked for in
CHECKED_HEADERS = 200
"""Pairs whose headers are checked before a training; `check-data` checks all."""


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
        """Check the headers of some pairs, evenly over the split."""
        looked_at = spread(len(self), CHECKED_HEADERS)
        deep = [index for index in looked_at if self.check_header(index).depth > 8]
        labels = [self.pairs[index].labels for index in looked_at]
        if isinstance(self.label_format, IndexLabels):
            check_palettes(file for file in labels if file is not None)
        if deep:
            file = self.pairs[deep[0]].image
            bits = decode_image(file, file.read_bytes())[1].bits
            rank_zero_info(
                f"{len(deep)} of {len(looked_at)} images that were looked at have more than 8 bits "
                f"per channel; {file} is read as {bits} bits."
            )

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
        raise UserError(
            f"{pair.labels} is {labels} (height, width), its image {pair.image} is {image}. {fix}"
        )


def match(
    image_files: Iterable[DataFile],
    label_files: Iterable[DataFile],
    expected: str,
    image_key: Callable[[DataFile], str] = attrgetter("stem"),
    label_key: Callable[[DataFile], str] = attrgetter("stem"),
    lying: Callable[[str], Iterable[DataFile]] = lambda _: (),
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
    """
    images, labels = by_key(image_files, image_key), by_key(label_files, label_key)
    for here, there, what in ((images, labels, "labels"), (labels, images, "image")):
        if alone := sorted(here.keys() - there.keys()):
            file = here[alone[0]]
            paired = {there[key] for key in here.keys() & there.keys()}
            others = [other for other in [*there.values(), *lying(what)] if other not in paired]
            near = _nearest(alone, file, others, what)
            raise UserError(
                f"{file} has no {what} ({len(alone)} such files in all). {near}{expected}"
            )
    return [Pair(key, images[key], labels[key]) for key in sorted(images)]


def _nearest(alone: Sequence[str], file: DataFile, others: Sequence[DataFile], what: str) -> str:
    """Describe what could be meant as the partner of the first key, and why it is not taken."""
    name = alone[0].rpartition("/")[2]
    for other in others:
        if other == file or composed(other.stem).casefold() != name.casefold():
            continue
        kind = other.name.rpartition(".")[2]
        if not other.name.lower().endswith(IMAGE_SUFFIXES if what == "image" else LABEL_SUFFIXES):
            return f"{other} lies there, but {what} cannot be {kind.upper()} files: save as PNG. "
        if composed(other.stem) != name:
            return f"{other} lies there: upper and lower case must agree. "
        return f"{other} lies there, in another folder: sub-folders must agree. "
    names = {composed(other.stem): other for other in others if other != file}
    best: tuple[int, DataFile, dict[str, str]] | None = None
    for stem, other in [*names.items()][:_MOST_COMPARED]:
        for here, there in _affixes(name, stem):
            cores = (_without(key.rpartition("/")[2], here) for key in alone[:_MOST_COMPARED])
            count = sum(core is not None and there[0] + core + there[1] in names for core in cores)
            if count and (best is None or count > best[0]):
                kinds = ("mask", "image") if what == "image" else ("image", "mask")
                around = zip(kinds, (here, there), strict=True)
                best = (
                    count,
                    other,
                    {
                        f"{kind}_{side}": text
                        for kind, affixes in around
                        for side, text in zip(("prefix", "suffix"), affixes, strict=True)
                        if text
                    },
                )
    if best is None:
        return ""
    settings = " and ".join(f"{key}={text!r}" for key, text in best[2].items())
    return f"{best[1]} lies there: if they belong together, pass {settings}. "


def _affixes(here: str, there: str) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Yield what two names could have before and after something in common."""
    for common, ends in (
        (posixpath.commonprefix([here, there]).rstrip(_SEPARATORS), True),
        (posixpath.commonprefix([here[::-1], there[::-1]])[::-1].lstrip(_SEPARATORS), False),
    ):
        rests = [
            name[len(common) :] if ends else name[: len(name) - len(common)]
            for name in (here, there)
        ]
        edges = [rest[0 if ends else -1] for rest in rests if rest]
        # What is cut must not be a part of a word, such as the `r` of `car` beside `cat`.
        if common and all(
            edge in _SEPARATORS or common[-1 if ends else 0].isdigit() for edge in edges
        ):
            one, other = (("", rest) if ends else (rest, "") for rest in rests)
            yield one, other


def _without(name: str, affixes: tuple[str, str]) -> str | None:
    prefix, suffix = affixes
    if name.startswith(prefix) and name.endswith(suffix):
        return name[len(prefix) : len(name) - len(suffix)]
    return None


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
