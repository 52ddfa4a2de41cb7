"""From the values in label files to class indices, by a table of 256 entries or by colors."""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data import images, label_images
from pne_seg.data.causes import UnknownColors, UnknownValues
from pne_seg.data.data_file import DataFile
from pne_seg.data.images import ImageInfo, Pixels
from pne_seg.data.nearest import Nearest

IGNORE = 255
"""The label of pixels without a class, in what the data sets return."""
MAX_CLASSES = 254
"""One value is left for pixels without a class, and one to mark labels that are no class."""

_MANY_COLORS = (
    "Add it to the classes or to ignore_colors; so many are left by JPEG compression, scaling or "
    "smoothed borders: save the masks without these, or read them by the nearest color "
    "(mask_tolerance)."
)


class LabelFormat(ABC):
    """How a data set's label files are read."""

    identity: str
    """Tells formats that give other class indices for the same file."""

    @abstractmethod
    def read(self, file: DataFile) -> Pixels:
        """Read class indices or the ignore value, (H, W) uint8; refuse what is no class."""

    def size(self, file: DataFile) -> tuple[int, int]:
        """Return height and width, from the header where the format has one."""
        return images.read_info(file).size


class IndexLabels(LabelFormat):
    """8-bit images of one channel, palette images included, mapped by a table of 256 entries.

    Args:
        classes: class index of each value that stands for a class; or the values, by class index.
        ignored: values of pixels without a class.
        ignore_index: what these become.
        hint: what to do about a value that is in neither, for the error message.
        takes: which of `ignore_values` and `reduce_zero_label` are arguments of the data set.
        tolerance: what values may differ by from those that are given, as in lossy files; others
            get `ignore_index`, and an area of these is an error.
    """

    def __init__(
        self,
        classes: Mapping[int, int] | Sequence[int],
        ignored: Collection[int] = (),
        ignore_index: int = IGNORE,
        hint: str = "Correct the labels.",
        takes: Collection[str] = (),
        tolerance: int = 0,
    ) -> None:
        if not isinstance(classes, Mapping):
            if twice := [value for value, count in Counter(classes).items() if count > 1]:
                raise ValueError(f"Label value {twice[0]} stands for two classes.")
            classes = {value: index for index, value in enumerate(classes)}
        values = [*classes, *ignored]
        if not all(0 <= value <= 255 for value in values):
            raise ValueError(f"Label values must be 0 to 255, got {sorted(values)}.")
        if both := sorted(set(classes) & set(ignored)):
            raise ValueError(f"Label value {both[0]} stands for a class and is ignored as well.")
        outputs = _outputs(classes.values(), ignore_index)
        self._invalid = max(set(range(256)) - outputs)
        self.valid = frozenset(values)
        self.hint = hint
        self.takes = tuple(takes)
        self.ignored = frozenset(ignored)
        self.entries: Pixels = np.full(256, self._invalid, np.uint8)
        self.entries[list(ignored)] = ignore_index
        self.entries[list(classes)] = list(classes.values())
        self.identity = self.entries.tobytes().hex()
        self.tolerance = tolerance
        outputs_of = self.entries[values].tolist()
        self._near = Nearest([(value,) for value in values], outputs_of, ignore_index, tolerance)
        if tolerance:
            self.identity += f" ± {tolerance}"

    def read(self, file: DataFile) -> Pixels:
        """Decode and map."""
        return self.decode(file)[0]

    def decode(self, file: DataFile) -> tuple[Pixels, ImageInfo]:
        """Return what `read` does, and the header."""
        if self.tolerance:
            info = images.read_info(file)
            if info.lossy or info.mode in ("RGB", "RGBA"):
                return self._near.read(images.read_image(file), file), info
        values, info = label_images.decode_labels(file)
        if self.tolerance:
            return self._near.read(values[..., None], file), info
        return self.apply(values, file), info

    def size(self, file: DataFile) -> tuple[int, int]:
        """Return what the header says, whose depth and channels are checked too."""
        info = images.read_info(file)
        if not self.tolerance:
            label_images.check_labels(file, info)
        return info.size

    def apply(self, labels: Pixels, file: object) -> Pixels:
        """Map (H, W) values to class indices, in a new array; `file` is for the error message."""
        mapped = cast(Pixels, cv2.LUT(labels, self.entries))
        if (mapped == self._invalid).any():
            counts = np.bincount(labels.ravel(), minlength=256)
            held = {int(value): int(counts[value]) for value in counts.nonzero()[0]}
            cause = UnknownValues(held, self.valid, self.ignored, self.takes, self.hint)
            raise cause.error(str(file))
        return mapped


class ColorLabels(LabelFormat):
    """RGB images in which each class has a color.

    Args:
        colors: (red, green, blue) of each class, in the order of class indices.
        ignored: colors of pixels without a class.
        ignore_index: the label of these.
        tolerance: what red, green and blue may each differ by from those that are given, as in
            lossy files; pixels of other colors get `ignore_index`, and an area of them is an error.
    """

    def __init__(
        self,
        colors: Sequence[tuple[int, int, int]],
        ignored: Sequence[tuple[int, int, int]] = (),
        ignore_index: int = IGNORE,
        tolerance: int = 0,
    ) -> None:
        _outputs(range(len(colors)), ignore_index)
        self._ignored = tuple(ignored)
        listed = [*colors, *ignored]
        for color in listed:
            if len(color) != 3 or not all(0 <= part <= 255 for part in color):
                raise ValueError(f"{list(color)} is no color: three numbers from 0 to 255.")
            if listed.count(color) > 1:
                raise ValueError(f"The color {list(color)} is given twice.")
        keys = _packed(np.array([listed], np.uint8))[0]
        order = np.argsort(keys)
        self._keys = keys[order]
        indices = [*range(len(colors)), *[ignore_index] * len(ignored)]
        self._indices = np.array(indices, np.uint8)[order]
        self.identity = f"{self._keys.tolist()} {self._indices.tolist()}"
        self.tolerance = tolerance
        self._near = Nearest(listed, indices, ignore_index, tolerance)
        if tolerance:
            self.identity += f" ± {tolerance}"

    def read(self, file: DataFile) -> Pixels:
        """Decode and look the colors up."""
        image, info = images.decode_image(file, file.read_bytes())
        if self.tolerance:
            return self._near.read(image, file)
        label_images.check_lossless(file, info)
        packed = _packed(image)
        place = np.searchsorted(self._keys, packed).clip(max=len(self._keys) - 1)
        if (unknown := self._keys[place] != packed).any():
            y, x = (int(side[0]) for side in unknown.nonzero())
            found, counts = np.unique(packed[unknown], return_counts=True)
            colors = {
                _unpacked(int(key)): int(count) for key, count in zip(found, counts, strict=True)
            }
            first = _unpacked(int(packed[y, x]))
            colors = {first: colors.pop(first), **colors}
            raise UnknownColors(colors, (y, x), self._ignored, _MANY_COLORS).error(str(file))
        return cast(Pixels, self._indices[place])


def _outputs(classes: Collection[int], ignore_index: int) -> set[int]:
    """Return every value of the mapped labels."""
    if ignore_index in classes:
        raise ValueError(f"Class index {ignore_index} is the ignore value.")
    outputs = {*classes, ignore_index}
    if len(outputs) > MAX_CLASSES + 1 or not outputs <= set(range(256)):
        raise ValueError(f"{len(outputs) - 1} classes; 8-bit labels hold {MAX_CLASSES}.")
    return outputs


def _packed(image: Pixels) -> npt.NDArray[np.uint32]:
    """Return the colors of an (H, W, 3) image as one number each."""
    four_bytes = cast(Pixels, cv2.cvtColor(image, cv2.COLOR_RGB2RGBA))
    return four_bytes.view(np.uint32)[..., 0]


def _unpacked(key: int) -> tuple[int, int, int]:
    red, green, blue, _ = key.to_bytes(4, sys.byteorder)
    return red, green, blue
