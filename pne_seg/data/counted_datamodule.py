"""The part of a data module that counts classes, for class weights and rare class sampling."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from pne_seg.data.class_counts import ClassCounts, count_once, draw, names_digest
from pne_seg.data.samples import SegmentationDataset

_KEY = "class_counts"  # of the state that checkpoints keep
_SELDOM = 0.1  # draws per epoch
_MANY = 0.1  # of the images


class CountedDataModule(LightningDataModule):
    """Counts the classes of the training split once, if asked to; checkpoints keep the counts.

    Args:
        rare_class_sampling: temperature of `ClassCounts.expected_draws`, or None.
    """

    ignore_index: int

    def __init__(self, rare_class_sampling: float | None) -> None:
        super().__init__()
        if rare_class_sampling is not None and not 0 < rare_class_sampling < math.inf:
            raise ValueError(
                f"rare_class_sampling must be above 0, such as 0.01, got {rare_class_sampling}. "
                "Leave it out to draw each image once."
            )
        self.rare_class_sampling = rare_class_sampling
        self._counts: ClassCounts | None = None
        self._reported = False

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of classes."""

    @abstractmethod
    def split(self, split: Literal["train", "val", "test"]) -> SegmentationDataset:
        """Return the split's images and labels, found once."""

    def class_counts(self) -> ClassCounts:
        """Return how often each class occurs in the training split, counted once.

        One process counts while the others wait; a resumed run takes the counts of its checkpoint.
        """
        if self._counts is None:
            self._counts = self._count()
        return self._counts

    def _count(self) -> ClassCounts:
        strategy = None if self.trainer is None else self.trainer.strategy
        return count_once(strategy, self.split("train"), self.num_classes, self.ignore_index)

    def _draw(self) -> Callable[[list[int], torch.Generator], list[int]] | None:
        """Return what draws the images of an epoch; None where it is each of them once."""
        if self.rare_class_sampling is None:
            return None
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            rank_zero_info("overfit_batches keeps to the same images: without rare_class_sampling.")
            return None
        counts = self.class_counts()
        if counts.images != names_digest(self.split("train")):
            rank_zero_info("The training images are not those of the checkpoint: counted again.")
            # The pixels stay: class weights do not change on a resume.
            counts = self._counts = replace(self._count(), pixels=counts.pixels)
        expected = counts.expected_draws(self.rare_class_sampling)
        if not self._reported:  # loaders may be made again in each epoch
            self._reported = True
            said = f"rare_class_sampling {self.rare_class_sampling}: an epoch draws an image up to "
            said += f"{expected.max():.2g} times, by its classes"
            seldom = int((expected < _SELDOM).sum())
            if seldom > _MANY * len(expected):
                rank_zero_warn(
                    f"{said}, but {seldom} of {len(expected)} images, which have common classes "
                    "only or no labels, less than once in ten epochs. A higher value, such as "
                    f"{max(0.5, 2 * self.rare_class_sampling):g}, draws common classes more often."
                )
            else:
                rank_zero_info(f"{said}, and {seldom} images less than once in ten epochs.")
        return partial(draw, expected)

    def state_dict(self) -> dict[str, Any]:
        """Return what checkpoints keep: the counts, if they were needed."""
        return {} if self._counts is None else {_KEY: self._counts.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the counts of a checkpoint, so that a resume draws and weighs as before."""
        trains = self.trainer is None or self.trainer.state.fn == "fit"
        if _KEY in state_dict and trains:
            self._counts = ClassCounts(**state_dict[_KEY])
