"""A data set of random images, in memory."""

from collections.abc import Sequence
from typing import Any, Literal

import albumentations as A
import numpy as np

from pne_seg.data import SegmentationDataModule
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.data.transforms import train_transforms

Split = Literal["train", "val", "test"]


class Noise(SegmentationDataset):
    """Random images and labels, some of them ignored; image i is the same each time."""

    def __init__(self, length: int, shapes: Sequence[tuple[int, int]] | None = None) -> None:
        self.length = length
        self.shapes = shapes or [(24, 32)] * length

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"noise_{index}"

    def read(self, index: int) -> Sample:
        generator = np.random.default_rng(index)
        shape = self.shapes[index]
        image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
        labels = generator.choice(np.array([0, 1, 2, 255], np.uint8), shape)
        return Sample(image, labels, shape)


class Noises(SegmentationDataModule):
    """A data set of noise; the transform's parameters show in every pixel."""

    class_names = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, length: int = 10, shapes: Any = None, **kwargs: Any) -> None:
        super().__init__(**{"batch_size": 2, "num_workers": 0, "seed": 3, **kwargs})
        self.length = length
        self.shapes = shapes

    def dataset(self, split: Split) -> Noise:
        return Noise(self.length, self.shapes)

    def default_transforms(self) -> list[A.BasicTransform]:
        return train_transforms((16, 16))


SIZES = ((24, 32), (24, 40), (24, 32), (32, 24), (24, 32), (24, 40), (24, 32), (8, 60))
"""Height and width of each image of `Fitted`."""
BOX = (64, 32)


class Fitted(Noises):
    """Images of several sizes, fitted to a box in evaluation."""

    resize_base = BOX

    def __init__(self, **settings: Any) -> None:
        super().__init__(len(SIZES), SIZES, **settings)


def names(batches: list[dict[str, Any]]) -> list[str]:
    """The names of all images, in order."""
    return [name for batch in batches for name in batch["name"]]
