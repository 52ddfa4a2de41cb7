"""Scenes, the built-in data set: procedural street scenes, drawn as they are read."""

from dataclasses import dataclass
from typing import Any

import albumentations as A
import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.data.scenes.renderer import render_scene
from pne_seg.data.scenes.stage import SCENE_CLASSES, SCENE_PALETTE
from pne_seg.data.transforms import mild_colors

_MOST_SCENES = 1_000_000
_SIDES = (32, 4096)
_STREAMS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


@dataclass(eq=False)
class SceneDataset(SegmentationDataset):
    """A number of scenes of a size (height, width); scene i depends on (seed, split, i) only."""

    split: Split
    length: int
    size: tuple[int, int]
    seed: int

    def __len__(self) -> int:
        return self.length

    def source_size(self, index: int) -> tuple[int, int]:  # noqa: ARG002
        """Return the size that all scenes have."""
        return self.size

    def name(self, index: int) -> str:
        """Return `val_00007` for the eighth scene of the validation split."""
        return f"{self.split}_{index:05d}"

    def read(self, index: int) -> Sample:
        """Draw scene `index`."""
        generator = np.random.default_rng((self.seed, _STREAMS[self.split], index))
        return Sample(*render_scene(generator, *self.size), source_size=self.size)


class Scenes(SegmentationDataModule):
    """The built-in data set: street scenes with confusable pairs, thin objects and ignored rims.

    Args:
        train_size: number of training scenes.
        val_size: number of validation scenes.
        test_size: number of test scenes.
        height: of a scene, in pixels.
        width: of a scene, in pixels.
        scene_seed: which world is drawn; independent of `seed_everything`, so that runs with
            different seeds train on the same scenes.
        **kwargs: the settings of `SegmentationDataModule`.
    """

    class_names = SCENE_CLASSES
    palette = SCENE_PALETTE

    def __init__(
        self,
        train_size: int = 800,
        val_size: int = 100,
        test_size: int = 100,
        height: int = 96,
        width: int = 128,
        scene_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        for split, size in self.sizes.items():
            if not 1 <= size <= _MOST_SCENES:
                raise ValueError(f"{split}_size must be 1 to {_MOST_SCENES}, got {size}.")
        for name, side in (("height", height), ("width", width)):
            if not _SIDES[0] <= side <= _SIDES[1]:
                raise ValueError(f"{name} must be {_SIDES[0]} to {_SIDES[1]}, got {side}.")
        if scene_seed < 0:
            raise ValueError(f"scene_seed must be 0 or more, got {scene_seed}.")
        self.height = height
        self.width = width
        self.scene_seed = scene_seed

    @property
    def prediction_base(self) -> tuple[int, int]:
        """The size of a scene."""
        return self.width, self.height

    def dataset(self, split: Split) -> SceneDataset:
        """Return the split's scenes."""
        return SceneDataset(split, self.sizes[split], (self.height, self.width), self.scene_seed)

    def default_transforms(self) -> list[A.BasicTransform]:
        """Flip, and change the colors mildly: the scenes themselves vary enough."""
        return [A.HorizontalFlip(p=0.5), mild_colors()]
