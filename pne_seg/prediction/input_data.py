"""Images and video frames as a data set without labels, and the data module of `--input`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.images import Pixels, read_image, read_info
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.data.sources import DataFile
from pne_seg.description import DataDescription
from pne_seg.prediction.inputs import Inputs, Source, find_inputs
from pne_seg.prediction.video import FrameReader, count_frames


class InputDataset(SegmentationDataset):
    """Images and the frames of videos.

    Args:
        inputs: the files.

    Attributes:
        frames: number of frames of each video, 0 if it cannot be read. Those not known when `items`
            is first asked for are counted by decoding.
    """

    labeled = False

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.videos = [source for source in inputs.sources if source.is_video]
        self.frames: dict[DataFile, int] = {}
        self._readers: dict[DataFile, FrameReader] = {}  # at most one
        self._frame_sizes: dict[DataFile, tuple[int, int]] = {}

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
            height, width = self._read_frame(item.file, 0).shape[:2]
            self._frame_sizes[item.file] = height, width
            self._close()  # worker processes would share an open file's position
        return self._frame_sizes[item.file]

    def read(self, index: int) -> Sample:
        """Read the image; nothing is labeled."""
        item = self.items[index]
        if item.frame is None:
            image = read_image(item.file)
        else:
            image = self._read_frame(item.file, item.frame)
        height, width = image.shape[:2]
        return Sample(image, np.broadcast_to(np.uint8(255), (height, width)), (height, width))

    def _read_frame(self, video: DataFile, frame: int) -> Pixels:
        """Read a frame; the file stays open for the next one."""
        if video not in self._readers:
            self._close()
            self._readers[video] = FrameReader(Path(str(video)))
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
