"""The datamodule that every data set shares: splits in, batches of uint8 images out."""

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import albumentations as A
import cv2
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Sampler, default_collate

from pne_seg.data.dataset import SampleView, SegmentationDataset
from pne_seg.data.sampler import EpochSampler, ShardSampler
from pne_seg.errors import UserError

Split = Literal["train", "val", "test"]
Colour = tuple[int, int, int]


class SegmentationDataModule(LightningDataModule):
    """Loads the three splits of one data set; it decides classes, names and the ignore value.

    A subclass names its classes and colours and returns a `SegmentationDataset` for each split and
    a default augmentation; nothing else is needed for a new data set.

    Args:
        batch_size: training images a step and device.
        eval_batch_size: images a step in validation, test and prediction.
        num_workers: loader processes a device; chosen for the machine where not given.
        transforms: albumentations for training, in place of the data set's own.
        seed: of order and augmentation; `seed_everything`'s where not given.

    Raises:
        ValueError: a batch size below 1.
    """

    class_names: ClassVar[Sequence[str]]
    palette: ClassVar[Sequence[Colour]]
    ignore_index: ClassVar[int] = 255

    def __init__(
        self,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
        transforms: list[A.BasicTransform] | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(
                f"Batch sizes must be 1 or more, got {batch_size} and {eval_batch_size}."
            )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.transforms = transforms
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed

    @property
    def num_classes(self) -> int:
        """Number of classes, the ignore value not counted."""
        return len(self.class_names)

    @abstractmethod
    def dataset(self, split: Split) -> SegmentationDataset:
        """The split's images and labels.

        Raises:
            UserError: files are missing or do not match; they are named, with the mend.
        """

    @abstractmethod
    def default_transforms(self) -> list[A.BasicTransform]:
        """Augmentation of training images where the user gives none."""

    def setup(self, stage: str) -> None:
        """Open the splits that the stage needs, so that a mistake in the files stops it early.

        Raises:
            UserError: a split has no images, or the training split fewer than one step takes.
        """
        processes, _ = self._place()
        for split in _SPLITS_OF_STAGE[stage]:
            size = len(self.dataset(split))
            least = self.batch_size * processes if split == "train" else 1
            if size < least:
                over = f" over {processes} processes" if processes > 1 else ""
                raise UserError(
                    f"The {split} split of {type(self).__name__} has {size} images, fewer than "
                    + (f"a batch of {least}{over}. Lower --data.batch_size." if size else "one.")
                )

    def training_size(self) -> tuple[int, int]:
        """Height and width of a training image after augmentation, in pixels."""
        height, width = self._train_view()[0]["image"].shape[-2:]
        return height, width

    def _train_view(self) -> SampleView:
        transforms = self.default_transforms() if self.transforms is None else self.transforms
        return SampleView(self.dataset("train"), A.Compose(transforms), self.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, augmented batches; a short last batch is left out."""
        view = self._train_view()
        processes, _ = self._place()
        if left_over := len(view) % (self.batch_size * processes):
            rank_zero_info(
                f"An epoch trains on {len(view) - left_over} of {len(view)} images: the "
                f"{left_over} that fill no batch are left out, others in each epoch."
            )
        sampler = EpochSampler(view, self.seed, *self._place())
        return self._loader(view, self.batch_size, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation split in order."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The test split in order."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test split in order."""
        return self.test_dataloader()

    def _evaluation_loader(self, split: Split) -> DataLoader[Any]:
        view = SampleView(self.dataset(split))
        return self._loader(view, self.eval_batch_size, ShardSampler(view, *self._place()))

    def _place(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        if self.trainer is None:
            return 1, 0
        return self.trainer.world_size, self.trainer.global_rank

    def _loader(
        self, view: SampleView, batch_size: int, sampler: Sampler[Any], drop_last: bool = False
    ) -> DataLoader[Any]:
        return DataLoader(
            view,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
            collate_fn=collate,
            # Its own generator, so that opening a loader leaves the global random state alone.
            generator=torch.Generator().manual_seed(self.seed),
        )


_SPLITS_OF_STAGE: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def default_workers() -> int:
    """Loader processes: half of the processors that this process may use, 8 at most.

    None where there is no accelerator: they would take the processors from the network, whose
    threads wait for each other in a busy loop, and a step becomes several times slower.
    """
    if not torch.accelerator.is_available():
        return 0
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, (usable or 1) // 2)


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
            f"{tuple(second)} (height, width). Set --data.eval_batch_size 1, or crop in training."
        )
    batch: dict[str, Any] = default_collate(
        [{key: sample[key] for key in ("image", "mask")} for sample in samples]
    )
    for key in ("name", "source_size"):
        batch[key] = [sample[key] for sample in samples]
    return batch


def _one_thread(_worker: int) -> None:
    # OpenCV's own threads in every worker would fight over the same processors.
    cv2.setNumThreads(0)
