"""Batches to predict: what is left of a split, without the files that cannot be read."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from pne_seg.data.base import SegmentationDataModule, whole
from pne_seg.data.resizing import as_input
from pne_seg.data.sampler import SameSizeBatches
from pne_seg.data.samples import SegmentationDataset, check_arrays
from pne_seg.errors import UserError

MOST_PIXELS = 2**23
"""Pixels of a batch at the images' own size, at which its class scores are: four of Cityscapes'."""


class Remaining(LightningDataModule):
    """The images of a test split that are still to be predicted, dealt out over the processes.

    Args:
        data: set up for prediction.
        indices: which images.
        pictures: whether batches carry the images at their own size too, to draw on.
    """

    def __init__(
        self, data: SegmentationDataModule, indices: Sequence[int], pictures: bool
    ) -> None:
        super().__init__()
        self.data = data
        self.indices = indices
        self.pictures = pictures
        # The last few images of an interrupted run may be fewer than the processes.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[Any]:
        """Each image once."""
        view = PredictionView(
            self.data.split("test"), self.indices, self.data.resize_base, self.pictures
        )
        place = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = SameSizeBatches(
            view, self.data.eval_batch_size, view.size, *place, most_pixels=MOST_PIXELS
        )
        return self.data.loader(view, sampler, batch_size=None, collate_fn=whole)


class PredictionView(Dataset[dict[str, Any]]):
    """Whole batches by lists of places in `indices`, as `SameSizeBatches` yields them.

    Args:
        source: the split.
        indices: its images.
        resize_base: width and height that images are fitted to; see `fitted_size`.
        pictures: whether to keep the images at their own size too.
    """

    def __init__(
        self,
        source: SegmentationDataset,
        indices: Sequence[int],
        resize_base: tuple[int, int] | None,
        pictures: bool,
    ) -> None:
        self.source = source
        self.indices = indices
        self.resize_base = resize_base
        self.pictures = pictures

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def size(self, place: int) -> tuple[int, int]:
        """Height and width of an image's file; zeros where it cannot be read."""
        try:
            return self.source.source_size(self.indices[place])
        except UserError:
            return 0, 0

    def __getitem__(self, places: list[int]) -> dict[str, Any]:
        """Read a batch; what cannot be read is left out of it and named.

        Returns:
            `image` (B, 3, h, w) uint8, and lists of B each: `index`, `name`, `source_size` and
            `picture`, the latter (H, W, 3) arrays or None; `unreadable` lists (index, reason). B
            is 0 where nothing could be read.
        """
        samples: list[dict[str, Any]] = []
        unreadable: list[tuple[int, str]] = []
        for index in (self.indices[place] for place in places):
            try:
                sample = self._read(index)
                if samples and sample["source_size"] != samples[0]["source_size"]:
                    raise UserError(f"{sample['name']}: its size changed meanwhile. Start again.")
            except UserError as error:
                unreadable.append((index, str(error)))
            else:
                samples.append(sample)
        images = [sample.pop("image") for sample in samples]
        batch: dict[str, Any] = {
            "image": torch.stack(images) if images else torch.empty(0, 3, 1, 1, dtype=torch.uint8),
            "unreadable": unreadable,
        }
        for key in ("index", "name", "source_size", "picture"):
            batch[key] = [sample[key] for sample in samples]
        return batch

    def _read(self, index: int) -> dict[str, Any]:
        sample, name = self.source.read(index), self.source.name(index)
        check_arrays(sample.image, sample.labels, name)
        return {
            "image": as_input(sample.image, self.resize_base),
            "index": index,
            "name": name,
            "source_size": sample.source_size,
            # An array, not a tensor: it has no business on the network's device.
            "picture": self.source.picture(index, sample) if self.pictures else None,
        }
