"""The datamodule that every data set shares: splits in, batches of uint8 images out."""

import os
import signal
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import albumentations as A
import cv2
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset, Sampler

from pne_seg.data.sampler import EpochSampler, SameSizeBatches
from pne_seg.data.samples import BatchView, SampleView, SegmentationDataset, collate
from pne_seg.description import Color, DataDescription
from pne_seg.errors import UserError

Split = Literal["train", "val", "test"]


class SegmentationDataModule(LightningDataModule):
    """Loads the three splits of one data set; it decides classes, names and the ignore value.

    A subclass names its classes and colours and returns a `SegmentationDataset` for each split and
    a default augmentation; nothing else is needed for a new data set.

    Args:
        batch_size: training images a step and device.
        eval_batch_size: images a step in validation, test and prediction, where their sizes agree.
        num_workers: loader processes a device; chosen for the machine where not given.
        transforms: albumentations for training, in place of the data set's own.
        seed: of order and augmentation; `seed_everything`'s where not given.

    Attributes:
        start: epoch, and batches of it, after which the next training loader continues.

    Raises:
        ValueError: a batch size below 1.
    """

    class_names: Sequence[str]
    palette: Sequence[Color]
    ignore_index: int = 255
    resize_base: tuple[int, int] | None = None
    """Width and height that images are fitted to for evaluation; scores are at their own size."""

    def __init__(
        self,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
        transforms: list[A.BasicTransform | A.BaseCompose] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
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
        self.start = (0, 0)
        self._splits: dict[Split, SegmentationDataset] = {}
        self._checked: set[Split] = set()

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore value not counted."""
        return len(self.class_names)

    @property
    def prediction_base(self) -> tuple[int, int] | None:
        """Width and height of the box that images from elsewhere are fitted to for prediction.

        That of evaluation; a data set whose images all have one size names that size, so that the
        network meets things as large as it knows them.
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
        """Look the split's images and labels up.

        Raises:
            UserError: files are missing or do not match; they are named, with the fix.
        """

    def split(self, split: Split) -> SegmentationDataset:
        """The split's images and labels, looked up once."""
        if split not in self._splits:
            self._splits[split] = self.dataset(split)
        return self._splits[split]

    @abstractmethod
    def default_transforms(self) -> list[A.BasicTransform]:
        """Augmentation of training images where the user gives none."""

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs, so that a mistake in the files stops it early.

        Raises:
            UserError: a split has no images, or no labels where they are needed; the training split
                has fewer images than one step takes; or the files' headers show a mistake.
        """
        processes, _ = self._place()
        for split in _SPLITS_OF_STAGE[stage]:
            source = self.split(split)
            if complaint := self.too_few(split, len(source), processes):
                raise UserError(complaint)
            if stage != "predict" and not source.labelled:
                raise UserError(
                    f"The {split} split of {type(self).__name__} has no labels to "
                    f"{'score' if stage != 'fit' else 'train'} by; `predict` writes its classes."
                )
            # A prediction reports the files that it cannot read, and continues.
            if split not in self._checked and stage != "predict":
                source.check()
                self._checked.add(split)

    def too_few(self, split: Split, images: int, processes: int = 1) -> str | None:
        """Describe a split with fewer images than one step takes, and the fix."""
        least = processes
        fix = f"fewer than its {processes} processes. Use fewer devices."
        if split == "train":
            least = self.batch_size * processes
            over = f" over {processes} processes" if processes > 1 else ""
            fix = f"fewer than a batch of {least}{over}. Lower --data.batch_size."
        if images >= least:
            return None
        said = f"The {split} split of {type(self).__name__} has {images} images, "
        return said + (
            fix if images else "fewer than one. A split that has no images is of no use: add some."
        )

    def training_size(self) -> tuple[int, int]:
        """Height and width of a training image after augmentation, in pixels."""
        height, width = self._train_view()[0]["image"].shape[-2:]
        return height, width

    def _train_view(self) -> SampleView:
        transforms = self.default_transforms() if self.transforms is None else self.transforms
        return SampleView(self.split("train"), A.Compose(transforms), self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, augmented batches; a short last batch is left out."""
        view = self._train_view()
        processes, _ = self._place()
        if left_over := len(view) % (self.batch_size * processes):
            rank_zero_info(
                f"An epoch trains on {len(view) - left_over} of {len(view)} images: the "
                f"{left_over} that fill no batch are left out, others in each epoch."
            )
        epoch, batch = self.start
        if self.trainer is not None:  # a loader may be asked for again in a later epoch
            epoch = max(epoch, self.trainer.current_epoch)
        sampler = EpochSampler(view, self.seed, *self._place(), epoch=epoch)
        if epoch == self.start[0]:
            sampler.skip(batch * self.batch_size)
        return self.loader(
            view, sampler, batch_size=self.batch_size, drop_last=True, collate_fn=collate
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation split, each image once."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split, each image once."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test split, each image once."""
        return self.test_dataloader()

    def _evaluation_loader(self, split: Split) -> DataLoader[Any]:
        source = self.split(split)
        view = BatchView(SampleView(source, resize_base=self.resize_base))
        sampler = SameSizeBatches(view, self.eval_batch_size, source.source_size, *self._place())
        # The sampler makes the batches: Lightning would take a batch sampler apart.
        return self.loader(view, sampler, batch_size=None, collate_fn=whole)

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def loader(self, view: Dataset[Any], sampler: Sampler[Any], **batching: Any) -> DataLoader[Any]:
        """A loader with this data module's number of workers."""
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


_SECONDS_LEFT = 8
"""In which a loader's worker ends after a SIGTERM."""

_SPLITS_OF_STAGE: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def usable_processors() -> int:
    """Return the number of processors that this process may use, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Loader processes: half of the processors that this process may use, 8 at most.

    None where there is no accelerator: they would take the processors from the network, whose
    threads wait for each other in a busy loop, and a step becomes several times slower.
    """
    if not torch.accelerator.is_available():
        return 0
    return min(8, usable_processors() // 2)


def whole(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch as the view made it; torch would turn its tuples into lists."""
    return batch


def _start_worker(_worker: int) -> None:
    # OpenCV's own threads in every worker would fight over the same processors.
    cv2.setNumThreads(0)
    # A signal to the whole group of processes ends the training in its own process, which still
    # finishes its step; a worker that is to end by itself has this many seconds.
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "alarm"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_LEFT))
