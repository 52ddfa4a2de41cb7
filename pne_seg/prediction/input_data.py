"""Images and video frames as a data set without labels, and the data module of `--input`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.dataset import Sample, SegmentationDataset
from pne_seg.data.images import Pixels, read_image, read_info
from pne_seg.description import DataDescription
from pne_seg.prediction.inputs import Inputs, Source, find_inputs
from pne_seg.prediction.video import FrameReader, count_frames


@dataclass(frozen=True, slots=True)
class Item:
    """An image, or one frame of a video.

    Attributes:
        source: the file.
        frame: number of the frame; None for an image.
    """

    source: Source
    frame: int | None = None

    @property
    def name(self) -> str:
        """The source's name; frames lie in a folder of that name."""
        name = self.source.name
        return name if self.frame is None else frame_name(name, self.frame)


def frame_name(video: str, frame: int) -> str:
    """Return the name of a frame's prediction."""
    return f"{video}/{frame:06d}"


class InputDataset(SegmentationDataset):
    """Images and the frames of videos.

    Args:
        inputs: the files.

    Attributes:
        frames: number of frames of each video, 0 if it cannot be read. Those not known when `items`
            is first asked for are counted by decoding.
    """

    labelled = False

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.frames: dict[Source, int] = {}
        self._readers: dict[Source, FrameReader] = {}  # at most one
        self._frame_sizes: dict[Source, tuple[int, int]] = {}

    @property
    def videos(self) -> list[Source]:
        """The videos among the inputs."""
        return [source for source in self.inputs.sources if source.is_video]

    @cached_property
    def items(self) -> list[Item]:
        """The images, then the frames of each video; a video that cannot be read is one item."""
        items = [Item(source) for source in self.inputs.sources if not source.is_video]
        for video in self.videos:
            if video not in self.frames:
                self.frames[video] = count_frames(Path(str(video.file)))
            items += [Item(video, frame) for frame in range(self.frames[video] or 1)]
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
            return read_info(item.source.file).size
        if item.source not in self._frame_sizes:
            height, width = self._read_frame(item.source, 0).shape[:2]
            self._frame_sizes[item.source] = height, width
            self._close()  # worker processes would share an open file's position
        return self._frame_sizes[item.source]

    def read(self, index: int) -> Sample:
        """Read the image; nothing is labeled."""
        item = self.items[index]
        if item.frame is None:
            image = read_image(item.source.file)
        else:
            image = self._read_frame(item.source, item.frame)
        height, width = image.shape[:2]
        return Sample(image, np.broadcast_to(np.uint8(255), (height, width)), (height, width))

    def _read_frame(self, video: Source, frame: int) -> Pixels:
        """Read a frame; the file stays open for the next one."""
        if video not in self._readers:
            self._close()
            self._readers[video] = FrameReader(Path(str(video.file)))
        return self._readers[video].read(frame)

    def _close(self) -> None:
        while self._readers:
            self._readers.popitem()[1].close()


class InputData(SegmentationDataModule):
    """Takes the place of a run's data when images from elsewhere are predicted.

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
        """Find the inputs.

        Raises:
            UserError: there are none.
        """
        self.split("test")

    def default_transforms(self) -> list[A.BasicTransform]:
        """Return none: nothing is trained."""
        return []
