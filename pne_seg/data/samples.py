"""What a data set is: images with class-index labels, and the augmented view of them."""

import hashlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from pne_seg.data.images import Pixels
from pne_seg.data.resizing import as_input, resized
from pne_seg.errors import UserError


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
    """One split of a data set, before augmentation.

    Attributes:
        labelled: whether there are labels, to train on and to score by.
    """

    labelled: bool = True

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

    def source_size(self, index: int) -> tuple[int, int]:
        """Height and width of the image as distributed; cheaper than `read` where a file tells."""
        return self.read(index).source_size

    def picture(self, index: int, sample: Sample) -> Pixels:  # noqa: ARG002 (a file would need it)
        """The image at its source size, to lay a prediction over; `sample` is what `read` gave."""
        if sample.image.shape[:2] == tuple(sample.source_size):
            return sample.image
        return resized(sample.image, *sample.source_size)

    def check(self) -> None:  # noqa: B027 (nothing to check is a choice)
        """Check what can be checked without decoding, within a second or two.

        Raises:
            UserError: something is not as it must be; the file is named.
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
        resize_base: width and height that the image, not its labels, is fitted to; see
            `fitted_size`. None leaves it.
    """

    def __init__(
        self,
        source: SegmentationDataset,
        transform: A.Compose | None = None,
        seed: int = 0,
        resize_base: tuple[int, int] | None = None,
    ) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed
        self.resize_base = resize_base

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey) -> dict[str, Any]:
        """`image` (3, h, w) uint8, `mask` (H, W) uint8, `name`, `source_size` (height, width)."""
        epoch, index = (key.epoch, key.index) if isinstance(key, SampleKey) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(index)  # a plain loop over the view ends by it
        image, mask, source_size = self.source.read(index)
        if self.transform is not None:
            seed = sample_seed(self.seed, epoch, index)
            # One state for all: `set_random_seed` gives each transform the same numbers, so that
            # what is enlarged, say, would be what is mirrored.
            self.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            out = self.transform(image=image, mask=mask)
            image, mask = out["image"], out["mask"]
        check_arrays(image, mask, self.source.name(index))
        return {
            "image": as_input(image, self.resize_base),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
            "name": self.source.name(index),
            "source_size": source_size,
        }


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A well-mixed 32-bit seed: neighbouring samples and epochs share nothing."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def check_arrays(image: Any, mask: Any, name: str) -> None:
    """Refuse what could only be read as something else: floats, tensors, other channels.

    Raises:
        UserError: it is.
    """
    if isinstance(image, np.ndarray) and isinstance(mask, np.ndarray):
        right = image.dtype == np.uint8 and np.issubdtype(mask.dtype, np.integer)
        if right and image.shape[2:] == (3,) and mask.shape == image.shape[:2]:
            return
    what = " and ".join(
        f"{type(given).__name__} {getattr(given, 'dtype', '')} {getattr(given, 'shape', '')}"
        for given in (image, mask)
    )
    raise UserError(
        f"{name}: reading and transforms must give a uint8 image (height, width, 3) and whole "
        f"numbers (height, width), not {what}. Leave normalising and tensors out of the "
        "transforms: images are normalised on the network's device."
    )


class BatchView(Dataset[dict[str, Any]]):
    """Whole batches by the lists of indices that a sampler yields.

    Args:
        view: the samples.
    """

    def __init__(self, view: SampleView) -> None:
        self.view = view

    def __len__(self) -> int:
        """Number of images."""
        return len(self.view)

    def __getitem__(self, indices: list[int]) -> dict[str, Any]:
        """The samples as one batch."""
        return collate([self.view[index] for index in indices])


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and masks; names and source sizes stay lists.

    Raises:
        UserError: the images differ in size.
    """
    sizes = {sample["image"].shape[-2:]: sample["name"] for sample in samples}
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise UserError(
            f"Images of one batch differ in size: {one!r} is {tuple(first)}, {other!r} is "
            f"{tuple(second)} (height, width). Let the training's transforms end with a crop and "
            "a padding to one size, or set --data.batch_size 1."
        )
    batch: dict[str, Any] = default_collate(
        [{key: sample[key] for key in ("image", "mask")} for sample in samples]
    )
    for key in ("name", "source_size"):
        batch[key] = [sample[key] for sample in samples]
    return batch
