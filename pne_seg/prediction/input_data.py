"""Images and video frames as a data set, and as batches of those that are still to be predicted."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from pne_seg.data.base import SegmentationDataModule, Split, whole
from pne_seg.data.data_file import DataFile
from pne_seg.data.images import as_input, read_image, read_info
from pne_seg.data.samples import SameSizeBatches, Sample, SegmentationDataset, check_arrays
from pne_seg.description import DataDescription
from pne_seg.errors import UserError
from pne_seg.prediction.inputs import Inputs, Source, find_inputs
from pne_seg.prediction.video import FrameReader, count_frames

MOST_PIXELS = 2**23
"""Pixels of a batch at the images' own size, which its logits have: four of Cityscapes' images."""


class InputDataset(SegmentationDataset):
    """Images and the frames of videos."""

    labeled = False

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.videos = [source for source in inputs.sources if source.is_video]
        # 0 of a video that cannot be read; those missing are counted when `items` is first read.
        self.frames: dict[DataFile, int] = {}
        self._frame_sizes: dict[DataFile, tuple[int, int]] = {}
        self._reader: FrameReader | None = None

    @cached_property
    def items(self) -> list[Source]:
        """The images, then the frames of each video; a video that cannot be read is one item."""
        items = [source for source in self.inputs.sources if not source.is_video]
        for video in self.videos:
            if video.file not in self.frames:
                self.frames[video.file] = count_frames(Path(str(video.file)))
            items += map(video.frame_at, range(self.frames[video.file] or 1))
        return items

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        """Return the image's path below the input without extension, or `VIDEO/000000`."""
        return self.items[index].name

    def source_size(self, index: int) -> tuple[int, int]:
        """Return height and width as displayed."""
        item = self.items[index]
        if item.frame is None:
            return read_info(item.file).size
        if item.file not in self._frame_sizes:
            # Closed again: worker processes would share an open file's position.
            with closing(FrameReader(Path(str(item.file)))) as reader:
                height, width = reader.read(0).shape[:2]
            self._frame_sizes[item.file] = height, width
        return self._frame_sizes[item.file]

    def read(self, index: int) -> Sample:
        """Read the image; nothing is labeled."""
        item = self.items[index]
        if item.frame is None:
            image = read_image(item.file)
        else:
            path = Path(str(item.file))
            if self._reader is not None and self._reader.path != path:
                self._reader.close()
                self._reader = None
            self._reader = self._reader or FrameReader(path)
            image = self._reader.read(item.frame)
        height, width = image.shape[:2]
        return Sample(image, np.broadcast_to(np.uint8(255), (height, width)), (height, width))


class InputData(SegmentationDataModule):
    """Images from elsewhere in the place of a run's data.

    Args:
        input: an image, a video, a folder or a glob.
        description: of the data that the network was trained on, `DataDescription.as_dict()`.
        resize_base: width and height of the box that images are fitted to; None leaves them.
        eval_batch_size: images per step at most, if they have the same size.
        num_workers: loader processes per device; if None, chosen for the machine.
    """

    def __init__(
        self,
        input: str,
        description: dict[str, Any],
        resize_base: tuple[int, int] | None = None,
        eval_batch_size: int = 8,
        num_workers: int | None = None,
    ) -> None:
        super().__init__(eval_batch_size=eval_batch_size, num_workers=num_workers)
        known = DataDescription.from_dict(description)
        self.input = input
        self.trained_on = known.data
        self.class_names: Sequence[str] = known.class_names
        self.palette = known.palette
        self.ignore_index = known.ignore_index
        self.resize_base = resize_base

    def dataset(self, split: Split) -> InputDataset:  # noqa: ARG002 (there is one)
        """Find the inputs."""
        return InputDataset(find_inputs(self.input))

    def setup(self, stage: str) -> None:  # noqa: ARG002 (there is one)
        """Find the inputs."""
        self.split("test")

    def default_transforms(self) -> list[A.BasicTransform]:
        """Return none: nothing is trained."""
        return []


@dataclass
class RemainingView(Dataset[dict[str, Any]]):
    """Whole batches of some images of a split, by lists of positions in `indices`."""

    source: SegmentationDataset
    indices: Sequence[int]
    resize_base: tuple[int, int] | None
    keep_images: bool

    def __len__(self) -> int:
        return len(self.indices)

    def size(self, position: int) -> tuple[int, int]:
        """Return height and width of an image; zeros if it cannot be read."""
        try:
            return self.source.source_size(self.indices[position])
        except UserError:
            return 0, 0

    def __getitem__(self, positions: list[int]) -> dict[str, Any]:
        """Read a batch, without what cannot be read, which `unreadable` lists as (index, reason).

        Returns:
            `image` (B, 3, h, w) uint8, and lists of B: `index`, `name`, `source_size`, `picture`
            ((H, W, 3) or None).
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


class Remaining(LightningDataModule):
    """The batches of what is left, each in one process."""

    def __init__(self, data: SegmentationDataModule, view: RemainingView) -> None:
        super().__init__()
        self.data = data
        self.view = view
        # The last few images of an interrupted run may be fewer than the processes.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return this process's batches."""
        place = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = SameSizeBatches(
            self.view, self.data.eval_batch_size, self.view.size, *place, most_pixels=MOST_PIXELS
        )
        return self.data.loader(self.view, sampler, batch_size=None, collate_fn=whole)
