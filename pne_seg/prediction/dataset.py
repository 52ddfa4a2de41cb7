"""Images and video frames as a data set without labels, and the data module of `--input`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.images import read_image, read_info
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.description import DataDescription
from pne_seg.errors import UserError
from pne_seg.prediction.inputs import Inputs, Source, find_inputs
from pne_seg.prediction.video import FrameReader, count_frames, frame_size


@dataclass
class Video:
    """A video among the inputs.

    Attributes:
        source: its file.
        frames: how many there are; None until they are counted.
        error: why it cannot be read, where it cannot.
    """

    source: Source
    frames: int | None = None
    error: str | None = None

    @property
    def path(self) -> Path:
        """The video's file."""
        return Path(str(self.source.file))

    def count(self) -> int:
        """Number of items that stand for it: its frames, or one where it cannot be read."""
        if self.frames is None and self.error is None:
            try:
                self.frames = count_frames(self.path)
            except UserError as error:
                self.error = str(error)
        return self.frames or 1


@dataclass(frozen=True, slots=True)
class Item:
    """One prediction.

    Attributes:
        source: the file.
        video: its place among the videos; None for an image.
        frame: number of the frame in the video.
    """

    source: Source
    video: int | None = None
    frame: int = 0

    @property
    def name(self) -> str:
        """What the prediction is called; frames lie in a folder of the video's name."""
        return self.source.name if self.video is None else f"{self.source.name}/{self.frame:06d}"


class InputDataset(SegmentationDataset):
    """Images and the frames of videos, which are counted when the length is first asked for.

    Args:
        inputs: the files.
    """

    labelled = False

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.videos = [Video(source) for source in inputs.sources if source.is_video]
        self._items: list[Item] | None = None
        self._reader: tuple[int, FrameReader] | None = None
        self._frame_sizes: dict[int, tuple[int, int]] = {}

    @property
    def items(self) -> list[Item]:
        """All predictions in order: the images, then the frames of each video."""
        if self._items is None:
            images = [Item(source) for source in self.inputs.sources if not source.is_video]
            frames = [
                Item(video.source, number, frame)
                for number, video in enumerate(self.videos)
                for frame in range(video.count())
            ]
            self._items = images + frames
        return self._items

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        """The image's path below the input without extension, or `VIDEO/000000`."""
        return self.items[index].name

    def source_size(self, index: int) -> tuple[int, int]:
        """Height and width as displayed."""
        item = self.items[index]
        if item.video is None:
            return read_info(item.source.file).size
        if item.video not in self._frame_sizes:
            self._frame_sizes[item.video] = frame_size(self._readable(item.video).path)
        return self._frame_sizes[item.video]

    def read(self, index: int) -> Sample:
        """The image; nothing is labelled."""
        item = self.items[index]
        if item.video is None:
            image = read_image(item.source.file)
        else:
            image = self._frames_of(item.video).read(item.frame)
        height, width = image.shape[:2]
        return Sample(image, np.broadcast_to(np.uint8(255), (height, width)), (height, width))

    def _readable(self, number: int) -> Video:
        video = self.videos[number]
        if video.error is not None:
            raise UserError(video.error)
        return video

    def _frames_of(self, number: int) -> FrameReader:
        """The video's reader, kept from frame to frame; each worker has its own."""
        if self._reader is None or self._reader[0] != number:
            if self._reader is not None:
                self._reader[1].close()
            self._reader = number, FrameReader(self._readable(number).path)
        return self._reader[1]


class InputData(SegmentationDataModule):
    """Stands in for a run's data where images from elsewhere are predicted.

    Args:
        input: an image, a video, a folder or a glob.
        description: of the data that the network was trained on, `DataDescription.as_dict()`.
        resize_base: width and height of the box that images are fitted to; None leaves them.
        eval_batch_size: images a step at most, where their sizes agree.
        num_workers: loader processes a device; chosen for the machine where not given.
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
        """The inputs."""
        return InputDataset(find_inputs(self.input))

    def setup(self, stage: str) -> None:  # noqa: ARG002 (there is one)
        """Look the inputs up.

        Raises:
            UserError: there are none.
        """
        self.split("test")

    def default_transforms(self) -> list[A.BasicTransform]:
        """None: nothing is trained."""
        return []
