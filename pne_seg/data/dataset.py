"""What a data set is: images with class-index labels, and the augmented view of them."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from pne_seg.errors import UserError

Pixels = npt.NDArray[np.uint8]


class Sample(NamedTuple):
    """One image with its labels, before augmentation.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class indices or the ignore value.
        source_size: height and width of the image as distributed; predictions are written at it.
    """

    image: Pixels
    labels: Pixels
    source_size: tuple[int, int]


class SegmentationDataset(ABC):
    """One split of a data set, before augmentation."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The image's name without folder and extension; predictions are written under it."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one image with its labels, checked.

        Raises:
            UserError: a file is missing, unreadable or not as the data set says; it is named.
        """


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a training sample is a function of, beside the run's seed."""

    epoch: int
    index: int


class SampleView(Dataset[dict[str, Any]]):
    """Samples as the network takes them, from a split and an optional augmentation.

    A sample is a function of (seed, epoch, index) alone, whichever worker or process makes it.

    Args:
        source: the split.
        transform: albumentations pipeline over `image` and `mask`, or none.
        seed: of the augmentation.
    """

    def __init__(
        self, source: SegmentationDataset, transform: A.Compose | None = None, seed: int = 0
    ) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """`image` (3, H, W) uint8, `mask` (H, W) uint8, `name`, `source_size` (height, width)."""
        epoch, index = (key.epoch, key.index) if isinstance(key, SampleKey) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(index)  # a plain loop over the view ends by it
        image, mask, source_size = self.source.read(index)
        if self.transform is not None:
            self.transform.set_random_seed(sample_seed(self.seed, epoch, index))
            out = self.transform(image=image, mask=mask)
            image, mask = out["image"], out["mask"]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
            "name": self.source.name(index),
            "source_size": source_size,
        }


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A well-mixed 32-bit seed: neighbouring samples and epochs share nothing."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def read_image(path: Path) -> Pixels:
    """Read a colour image as (H, W, 3) RGB.

    Raises:
        UserError: the file is missing or no image.
    """
    image: Pixels = _decode(path, cv2.IMREAD_COLOR_RGB)
    return image


def read_labels(path: Path) -> Pixels:
    """Read an 8-bit, single-channel label image as (H, W), its values untouched.

    Raises:
        UserError: the file is missing, no image, or of another depth or number of channels.
    """
    labels = _decode(path, cv2.IMREAD_UNCHANGED)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise UserError(
            f"{path}: labels must be 8-bit images of one channel, this is {labels.dtype} with "
            f"shape {labels.shape}. Convert it to class indices."
        )
    return cast(Pixels, labels)


def _decode(path: Path, flags: int) -> Any:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    decoded = cv2.imdecode(data, flags) if data.size else None
    if decoded is None:
        raise UserError(f"{path}: not a readable image. Fetch the file again.")
    return decoded


def check_labels(labels: Pixels, num_classes: int, ignore_index: int, path: Path) -> None:
    """Make sure that each label is a class or the ignore value.

    Raises:
        UserError: a label is neither; file, value and the valid range are named.
    """
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[:num_classes] = 0
    if 0 <= ignore_index < 256:
        counts[ignore_index] = 0
    if counts.any():
        value = int(counts.nonzero()[0][0])
        raise UserError(
            f"{path}: label {value} ({int(counts[value])} pixels) is no class: valid are 0 to "
            f"{num_classes - 1}, and {ignore_index} for pixels without one."
        )
