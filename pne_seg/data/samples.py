"""What a data set is: images with class-index labels, their augmented view, and their order."""

import hashlib
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import albumentations as A
import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, SequentialSampler, default_collate
from torch.utils.data.distributed import DistributedSampler

from pne_seg.data.augmenting import naming_image
from pne_seg.data.images import Pixels, as_input
from pne_seg.errors import UserError


class Sample(NamedTuple):
    """One image with its labels, before augmentation."""

    image: Pixels  # (H, W, 3) uint8 RGB
    labels: Pixels  # (H, W) uint8 class indices or the ignore value
    source_size: tuple[int, int]  # height and width as distributed; predictions are written at it


class SegmentationDataset(ABC):
    """One split of a data set, before augmentation."""

    labeled: bool = True
    """Whether there are labels, for training and metrics."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return the image's name without folder and extension, under which it is predicted."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one image with its labels, checked; a `UserError` names a file that is not valid."""

    def read_labels(self, index: int) -> Pixels | None:
        """Read the labels of one image at their own size, to count them; None if it has none."""
        return self.read(index).labels if self.labeled else None

    def source_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the image as distributed; from a header if there is one."""
        return self.read(index).source_size

    def picture(self, index: int, sample: Sample) -> Pixels:  # noqa: ARG002 (a file would need it)
        """Return the image at its source size, to draw on; `sample` is what `read` returned."""
        if sample.image.shape[:2] == tuple(sample.source_size):
            return sample.image
        return cast(Pixels, cv2.resize(sample.image, sample.source_size[::-1]))

    def check(self) -> None:  # noqa: B027 (nothing to check is a choice)
        """Check what can be checked without decoding, within a second or two."""


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What a training sample is a function of, beside the run's seed."""

    epoch: int
    index: int
    repeat: int = 0  # how often the epoch's order has the image before


@dataclass(eq=False)
class SampleView(Dataset[dict[str, Any]]):
    """Samples as the network takes them, from a split and an optional augmentation.

    A sample is a function of (seed, key), whichever worker or process makes it. The image,
    not its labels, is fitted to `resize_base` (width, height) if that is given, see `fitted_size`.
    """

    source: SegmentationDataset
    transform: A.Compose | None = None
    seed: int = 0
    resize_base: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: int | SampleKey | list[int]) -> dict[str, Any]:
        """Return `image` (3, h, w) uint8, `mask` (H, W) uint8, `name`, `source_size`.

        A list of indices, as `SameSizeBatches` yields them, gives them as one batch.
        """
        if isinstance(key, list):
            return collate([self[index] for index in key])
        key = key if isinstance(key, SampleKey) else SampleKey(0, key)
        index = key.index
        if not 0 <= index < len(self):
            raise IndexError(index)  # a plain loop over the view ends by it
        image, mask, source_size = self.source.read(index)
        if self.transform is not None:
            seed = sample_seed(self.seed, key.epoch, index, key.repeat)
            # One state for all: `set_random_seed` gives each transform the same numbers, so that
            # what is enlarged, say, would be what is mirrored.
            self.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            with naming_image(self.source.name(index), image):
                out = self.transform(image=image, mask=mask)
            image, mask = out["image"], out["mask"]
        check_arrays(image, mask, self.source.name(index))
        return {
            "image": as_input(image, self.resize_base),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
            "name": self.source.name(index),
            "source_size": source_size,
        }


def sample_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """Return a well-mixed 32-bit seed: neighboring samples and epochs share nothing."""
    text = f"{seed}/{epoch}/{index}" + (f"/{repeat}" if repeat else "")
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def check_arrays(image: Any, mask: Any, name: str) -> None:
    """Refuse what could only be misread: floats, tensors, other numbers of channels."""
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
        f"numbers (height, width), not {what}. Leave normalizing and tensors out of the "
        "transforms: images are normalized on the network's device."
    )


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack images and masks of one size; names and source sizes stay lists."""
    sizes = {sample["image"].shape[-2:]: sample["name"] for sample in samples}
    if len(sizes) > 1:
        (first, one), (second, other), *_ = sizes.items()
        raise UserError(
            f"Images of one batch differ in size: {one!r} is {tuple(first)}, {other!r} is "
            f"{tuple(second)} (height, width). Let the training's transforms end with a crop and "
            "a padding to one size, or set batch_size=1."
        )
    batch: dict[str, Any] = default_collate(
        [{key: sample[key] for key in ("image", "mask")} for sample in samples]
    )
    for key in ("name", "source_size"):
        batch[key] = [sample[key] for sample in samples]
    return batch


class EpochSampler(DistributedSampler[SampleKey]):
    """Shuffled (epoch, index) keys, so that a worker knows the epoch of the sample it makes.

    It is a `DistributedSampler` so that Lightning leaves it in place and tells it the epoch. Each
    process gets every `num_replicas`-th key of the common order; the few keys that do not fill
    every process are left out, so that no image counts twice. `epoch` is the first one: a loader
    with workers asks for samples before Lightning sets it. Of it, this process leaves out the first
    `skipped` samples. `draw` turns an order and a generator into the images of an epoch, as many,
    where that is not each of them once.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        epoch: int = 0,
        skipped: int = 0,
        draw: Callable[[list[int], torch.Generator], list[int]] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)
        self.draw = draw
        self.epoch = epoch
        self._skipped = (epoch, skipped)

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()  # type: ignore[arg-type]
        repeats = [0] * len(order)
        if self.draw is not None:
            order = self.draw(order, generator)
            drawn: Counter[int] = Counter()
            for place, index in enumerate(order):
                repeats[place] = drawn[index]
                drawn[index] += 1
        own = range(self.rank, self.num_samples * self.num_replicas, self.num_replicas)
        epoch, samples = self._skipped
        for place in own[samples if self.epoch == epoch else 0 :]:
            yield SampleKey(self.epoch, order[place], repeats[place])


class FixedSampler(EpochSampler, SequentialSampler):
    """The keys of the first epoch in the split's order, in every epoch: to overfit a few batches.

    Images come with the same augmentation each time, so that a network can learn them by heart. It
    is a `SequentialSampler` so that Lightning leaves it in place.
    """

    def __iter__(self) -> Iterator[SampleKey]:  # type: ignore[override]
        own = range(self.rank, self.num_samples * self.num_replicas, self.num_replicas)
        epoch, samples = self._skipped
        for index in own[samples if self.epoch == epoch else 0 :]:
            yield SampleKey(0, index)


class SameSizeBatches(DistributedSampler[list[int]], SequentialSampler):
    """Every image of a split once, in batches of equal size, dealt out over the processes.

    Nothing is padded: padding an image would change what the network says of its border, and
    torch's own `DistributedSampler` counts images twice to even the processes out. A batch comes as
    soon as it is full, so that a split of one size keeps its order. The images of a batch have
    `most_pixels` together; a larger image is a batch by itself. It is a `SequentialSampler` so that
    Lightning leaves it in place when it overfits a few batches.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        batch_size: int,
        size: Callable[[int], tuple[int, int]],
        num_replicas: int = 1,
        rank: int = 0,
        most_pixels: int | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.indices = range(rank, len(dataset), num_replicas)  # type: ignore[arg-type]
        self.batches: list[list[int]] = []
        waiting: dict[tuple[int, int], list[int]] = {}
        for index in self.indices:
            # A batch of one needs no size, which may take a look into the file.
            height, width = size(index) if batch_size > 1 else (0, 0)
            batch = waiting.setdefault((height, width), [])
            batch.append(index)
            pixels = (len(batch) + 1) * height * width  # with another one
            too_large = most_pixels is not None and pixels > most_pixels
            if len(batch) == batch_size or too_large:
                self.batches.append(batch)
                waiting[height, width] = []
        self.batches += filter(None, waiting.values())

    def __len__(self) -> int:
        """Return the number of this process's batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]
        return iter(self.batches)
