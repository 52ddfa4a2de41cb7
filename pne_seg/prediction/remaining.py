"""Batches of the images that are still to be predicted, without those that cannot be read."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from pne_seg.data.base import SegmentationDataModule, whole
from pne_seg.data.images import as_input
from pne_seg.data.samples import SameSizeBatches, SegmentationDataset, check_arrays
from pne_seg.errors import UserError

MOST_PIXELS = 2**23
"""Pixels of a batch at the images' own size, which its logits have: four of Cityscapes' images."""


class Remaining(LightningDataModule):
    """Some images of a test split, each in one process.

    Args:
        data: set up for prediction.
        indices: of the images.
        keep_images: whether batches hold the images at their own size too, to draw on.
    """

    def __init__(
        self, data: SegmentationDataModule, indices: Sequence[int], keep_images: bool
    ) -> None:
        super().__init__()
        self.data = data
        self.view = RemainingView(data.split("test"), indices, data.resize_base, keep_images)
        # The last few images of an interrupted run may be fewer than the processes.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return this process's batches."""
        place = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = SameSizeBatches(
            self.view, self.data.eval_batch_size, self.view.size, *place, most_pixels=MOST_PIXELS
        )
        return self.data.loader(self.view, sampler, batch_size=None, collate_fn=whole)


class RemainingView(Dataset[dict[str, Any]]):
    """Whole batches by lists of positions in `indices`, as `SameSizeBatches` yields them.

    Args:
        source: the split.
        indices: its images.
        resize_base: width and height that images are fitted to; see `fitted_size`.
        keep_images: whether to keep the images at their own size too.
    """

    def __init__(
        self,
        source: SegmentationDataset,
        indices: Sequence[int],
        resize_base: tuple[int, int] | None,
        keep_images: bool,
    ) -> None:
        self.source = source
        self.indices = indices
        self.resize_base = resize_base
        self.keep_images = keep_images

    def __len__(self) -> int:
        """Number of images."""
        return len(self.indices)

    def size(self, position: int) -> tuple[int, int]:
        """Return height and width of an image; zeros if it cannot be read."""
        try:
            return self.source.source_size(self.indices[position])
        except UserError:
            return 0, 0

    def __getitem__(self, positions: list[int]) -> dict[str, Any]:
        """Read a batch; what cannot be read is left out of it and named.

        Returns:
            `image` (B, 3, h, w) uint8, and lists of B each: `index`, `name`, `source_size` and
            `picture`, the latter (H, W, 3) arrays or None; `unreadable` lists (index, reason). B
            is 0 if nothing can be read.
        """
        images: list[torch.Tensor] = []
        batch: dict[str, Any] = {"index": [], "name": [], "source_size": [], "picture": []}
        batch["unreadable"] = []
        for index in (self.indices[position] for position in positions):
            name = self.source.name(index)
            try:
                sample = self.source.read(index)
                check_arrays(sample.image, sample.labels, name)
                if images and sample.source_size != batch["source_size"][0]:
                    raise UserError(f"{name}: its size changed meanwhile. Start again.")
                # An array, not a tensor, which would go to the network's device.
                picture = self.source.picture(index, sample) if self.keep_images else None
            except UserError as error:
                batch["unreadable"].append((index, str(error)))
                continue
            images.append(as_input(sample.image, self.resize_base))
            batch["index"].append(index)
            batch["name"].append(name)
            batch["source_size"].append(sample.source_size)
            batch["picture"].append(picture)
        empty = torch.empty(0, 3, 1, 1, dtype=torch.uint8)
        return batch | {"image": torch.stack(images) if images else empty}
