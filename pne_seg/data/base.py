"""The datamodule that every data set shares: splits in, batches of uint8 images out."""

import copy
import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import albumentations as A
import cv2
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset, Sampler

from pne_seg.data.counted_datamodule import CountedDataModule
from pne_seg.data.samples import (
    EpochSampler,
    FixedSampler,
    SameSizeBatches,
    SampleView,
    SegmentationDataset,
    collate,
)
from pne_seg.description import Color, DataDescription, too_few_classes
from pne_seg.errors import UserError

Split = Literal["train", "val", "test"]

_SPLITS_OF_STAGE: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}
_SECONDS_LEFT = 8  # in which a loader's worker ends after a SIGTERM


class SegmentationDataModule(CountedDataModule):
    """Loads the three splits of one data set, and knows its classes and the ignore value.

    A subclass sets `class_names` and `palette`, returns a `SegmentationDataset` for each split
    (`dataset`) and a default augmentation (`default_transforms`); a new data set needs no more.

    Args:
        batch_size: training images per step and device.
        eval_batch_size: images per step in validation, test and prediction, if they have one size.
        num_workers: loader processes per device; by default chosen for the machine.
        transforms: albumentations for training, in place of the data set's. Where they create
            pixels, such as in the corners of a rotated image, these are ignored in the mask.
        seed: of order and augmentation; by default that of `seed_everything`.
        rare_class_sampling: temperature T, above 0, at which an epoch draws images with rare
            classes more often, see `ClassCounts.expected_draws`; the published one is 0.01. None
            draws each image once.
    """

    class_names: Sequence[str]
    palette: Sequence[Color]
    ignore_index: int = 255
    resize_base: tuple[int, int] | None = None
    """Width and height that images are fitted to for evaluation; metrics are at their own size."""

    def __init__(
        self,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
        transforms: list[A.BasicTransform | A.BaseCompose] | None = None,
        seed: int | None = None,
        rare_class_sampling: float | None = None,
    ) -> None:
        super().__init__(rare_class_sampling)
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(
                f"Batch sizes must be 1 or more, got {batch_size} and {eval_batch_size}."
            )
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}.")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.transforms = transforms
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        self.start = (0, 0)  # epoch, and batches of it, after which the training resumes
        self._splits: dict[Split, SegmentationDataset] = {}
        self._checked: set[Split] = set()

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore value not counted."""
        return len(self.class_names)

    @property
    def display_name(self) -> str:
        """What pictures and folders call the data set."""
        return type(self).__name__

    @property
    def prediction_base(self) -> tuple[int, int] | None:
        """Width and height of the box that images from elsewhere are fitted to for prediction.

        It is the size of the data set's images if they have one, as in training.
        """
        return self.resize_base

    @property
    def description(self) -> DataDescription:
        """What checkpoints and exports keep of the data set."""
        return DataDescription(
            data=type(self).__name__,
            class_names=tuple(self.class_names),
            palette=tuple(self.palette),
            ignore_index=self.ignore_index,
            resize_base=self.prediction_base,
        )

    @abstractmethod
    def dataset(self, split: Split) -> SegmentationDataset:
        """Find the split's images and labels."""

    def split(self, split: Split) -> SegmentationDataset:
        """Return the split's images and labels, found once."""
        if split not in self._splits:
            self._splits[split] = self.dataset(split)
        return self._splits[split]

    @abstractmethod
    def default_transforms(self) -> list[A.BasicTransform]:
        """Return the augmentation of training images that `transforms` replaces."""

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs, so that a mistake in the files stops it early."""
        if stage == "fit" and (problem := too_few_classes(self.num_classes)):
            raise UserError(problem)
        for split in _SPLITS_OF_STAGE[stage]:
            source = self.split(split)
            if complaint := self.too_few(split, len(source), self._processes()[0]):
                raise UserError(complaint)
            if stage == "predict":  # which reports the files that it cannot read, and continues
                continue
            if not source.labeled:
                raise UserError(
                    f"The {split} split of {type(self).__name__} has no labels to "
                    f"{'score' if stage != 'fit' else 'train'} by; `predict` writes its classes."
                )
            if split not in self._checked:
                source.check()
                self._checked.add(split)

    def too_few(self, split: Split, images: int, processes: int = 1) -> str | None:
        """Describe a split with fewer images than one step takes, and the fix."""
        least = self.batch_size * processes if split == "train" else processes
        if images >= least:
            return None
        name = f"The {split} split of {type(self).__name__}"
        if not images:
            return f"{name} has no images. Add some, or correct the names of its folders."
        if split == "train":
            over = f" over {processes} processes" if processes > 1 else ""
            fix = f"fewer than a batch of {least}{over}. Lower batch_size."
        else:
            fix = f"fewer than its {processes} processes. Use fewer devices."
        return f"{name} has {images} images, {fix}"

    def training_size(self) -> tuple[int, int]:
        """Return height and width of a training image after augmentation, in pixels."""
        height, width = self._train_view()[0]["image"].shape[-2:]
        return height, width

    def _train_view(self) -> SampleView:
        transforms = self.default_transforms() if self.transforms is None else self.transforms
        transforms = _filling_with(self.ignore_index, transforms)
        return SampleView(self.split("train"), A.Compose(transforms), self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled, augmented batches; a short last batch is left out.

        With the trainer's `overfit_batches` every epoch has the same ones, in the split's order.
        """
        view, processes, draw = self._train_view(), self._processes(), self._draw()
        fixed = getattr(self.trainer, "overfit_batches", 0) > 0
        left_over = len(view) % (self.batch_size * processes[0])
        if left_over and not fixed and draw is None:
            rank_zero_info(
                f"An epoch trains on {len(view) - left_over} of {len(view)} images: the "
                f"{left_over} that fill no batch are left out, others in each epoch."
            )
        epoch, batch = self.start
        if self.trainer is not None and self.trainer.current_epoch > epoch:  # asked for again
            epoch, batch = self.trainer.current_epoch, 0
        order = FixedSampler if fixed else EpochSampler
        sampler = order(view, self.seed, *processes, epoch, batch * self.batch_size, draw)
        return self.loader(
            view, sampler, batch_size=self.batch_size, drop_last=True, collate_fn=collate
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation split, each image once."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test split, each image once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test split, each image once."""
        return self.test_dataloader()

    def _evaluation_loader(self, split: Split) -> DataLoader[Any]:
        view = SampleView(self.split(split), resize_base=self.resize_base)
        sampler = SameSizeBatches(
            view, self.eval_batch_size, view.source.source_size, *self._processes()
        )
        # The sampler makes the batches: Lightning would take a batch sampler apart.
        return self.loader(view, sampler, batch_size=None, collate_fn=whole)

    def _processes(self) -> tuple[int, int]:
        """Return the number of processes, and which of them this is."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def loader(self, view: Dataset[Any], sampler: Sampler[Any], **batching: Any) -> DataLoader[Any]:
        """Return a loader with this data module's number of workers."""
        return DataLoader(
            view,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
            # Its own generator, so that opening a loader leaves the global random state alone.
            generator=torch.Generator().manual_seed(self.seed),
            **batching,
        )


def _filling_with(ignore_index: int, transforms: Sequence[Any]) -> list[Any]:
    """Return the transforms, which label the pixels that they create with the ignore value.

    Albumentations fills them with 0, the first class. `fill_mask: [0]` asks for that in earnest.
    """
    copies = copy.deepcopy(list(transforms))
    waiting = list(copies)
    while waiting:
        transform = waiting.pop()
        waiting += getattr(transform, "transforms", ())  # such as of a `OneOf`
        fill = getattr(transform, "fill_mask", None)
        if isinstance(fill, int | float) and fill == 0:
            transform.fill_mask = ignore_index
    return copies


def usable_processors() -> int:
    """Return the number of processors that this process may use, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Return half of the usable processors, 8 at most; 0 without an accelerator."""
    # On processors only, the network's threads wait for each other in a busy loop: workers beside
    # them make a step several times slower.
    return min(8, usable_processors() // 2) if torch.accelerator.is_available() else 0


def whole(batch: dict[str, Any]) -> dict[str, Any]:
    """Return the batch as the view made it; torch would turn its tuples into lists."""
    return batch


def _start_worker(_worker: int) -> None:
    # OpenCV's own threads in every worker would fight over the same processors.
    cv2.setNumThreads(0)
    # A signal to the whole group of processes ends the training in its own process, which still
    # finishes its step; a worker that is to end by itself has this many seconds.
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "alarm"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_LEFT))
