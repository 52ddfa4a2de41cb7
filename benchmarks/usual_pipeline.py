"""The usual order: decode, scale the whole image, crop. With the project's own other parts."""

from pathlib import Path
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets

from pne_seg.data.images import Pixels, fitted_size
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.data.transforms.scale_crop import RandomScaleCrop


class UsualDataset(SegmentationDataset):
    """The same pairs, decoded by OpenCV and mapped by NumPy; nothing is checked.

    Args:
        source: whose files are read.
    """

    def __init__(self, source: PairedDataset) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        """Return the pair's sample."""
        return self.source.name(index)

    def read(self, index: int) -> Sample:
        """Decode one pair."""
        image = self.decode_image(index)
        return Sample(image, self.map(self.decode_labels(index)), image.shape[:2])

    def decode_image(self, index: int) -> Pixels:
        """(H, W, 3), RGB."""
        return decode(self.image_file(index), cv2.IMREAD_COLOR_RGB)

    def decode_labels(self, index: int) -> Pixels:
        """(H, W), as in the file."""
        return decode(self.label_file(index), cv2.IMREAD_UNCHANGED)

    def map(self, labels: Pixels) -> Pixels:
        """Class indices."""
        label_format = self.source.label_format
        assert isinstance(label_format, IndexLabels)
        return label_format.entries[labels]

    def image_file(self, index: int) -> Path:
        """Where the image is."""
        return Path(str(self.source.pairs[index].image))

    def label_file(self, index: int) -> Path:
        """Where its labels are."""
        return Path(str(self.source.pairs[index].labels))


def decode(path: Path, flags: int) -> Pixels:
    """Decode a file with OpenCV."""
    return cast(Pixels, cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags))


class WholeScaleCrop(A.DualTransform):  # type: ignore[misc]  # untyped
    """Scale the whole image, then crop: draws what `RandomScaleCrop` draws, in its order.

    The settings are those of `RandomScaleCrop`.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        size: tuple[int, int],
        base: tuple[int, int],
        scale: tuple[float, float],
        cat_max_ratio: float,
        ignore_index: int,
    ) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.base = base
        self.scale = scale
        self.cat_max_ratio = cat_max_ratio
        self.ignore_index = ignore_index

    @classmethod
    def like(cls, other: RandomScaleCrop) -> "WholeScaleCrop":
        """Take the same settings."""
        assert other.base is not None
        return cls(other.size, other.base, other.scale, other.cat_max_ratio, other.ignore_index)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Scale the labels and find a window."""
        factor = self.py_random.uniform(*self.scale)
        scaled = fitted_size(params["shape"][:2], self.base, factor)
        labels = cv2.resize(data["mask"], scaled[::-1], interpolation=cv2.INTER_NEAREST)
        window = self._draw(scaled)
        for _ in range(10):
            if self._is_varied(labels[window]):
                break
            window = self._draw(scaled)
        return {"scaled": scaled, "window": window, "labels": labels}

    def _draw(self, scaled: tuple[int, int]) -> tuple[slice, slice]:
        top = self.py_random.randint(0, max(0, scaled[0] - self.size[0]))
        left = self.py_random.randint(0, max(0, scaled[1] - self.size[1]))
        return slice(top, top + self.size[0]), slice(left, left + self.size[1])

    def _is_varied(self, labels: Pixels) -> bool:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
        counts[self.ignore_index] = 0
        several = np.count_nonzero(counts) > 1
        return bool(several and counts.max() / counts.sum() < self.cat_max_ratio)

    def apply(
        self,
        img: Pixels,
        scaled: tuple[int, int],
        window: tuple[slice, slice],
        **params: Any,  # noqa: ARG002 (the interface's)
    ) -> Pixels:
        """Scale the image and cut the window."""
        resized = cv2.resize(img, scaled[::-1], interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(resized[window])

    def apply_to_mask(
        self,
        mask: Pixels,  # noqa: ARG002
        labels: Pixels,
        window: tuple[slice, slice],
        **params: Any,  # noqa: ARG002
    ) -> Pixels:
        """Cut the window."""
        return np.ascontiguousarray(labels[window])
