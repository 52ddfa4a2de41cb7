"""Videos as frames, and back. What counts as a frame is what decodes: headers may be wrong."""

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

# Otherwise FFmpeg prints its own complaints about a damaged file, beside ours.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.prediction.manifest import UnwritableError

_FALLBACK_RATE = 25.0  # frames per second, if the file names no believable rate
_HIGHEST_RATE = 1000.0


class FrameReader:
    """Reads the frames of a video forward; going back decodes from the start.

    Frames are turned as the file says, as those of phones are.

    Args:
        path: the video.

    Attributes:
        next: number of the frame that comes next.

    Raises:
        UserError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        if not self.path.is_file():
            raise UserError(f"{self.path}: there is no such file.")
        # OpenCV's own warning of a file that cannot be opened says nothing more.
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        # FFmpeg only: others take a `%02d` in a name for a series of images.
        self._capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        cv2.utils.logging.setLogLevel(level)
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        if not self._capture.isOpened():
            raise UserError(f"{self.path}: not a readable video. Fetch or convert the file again.")
        self.next = 0

    @property
    def rate(self) -> float:
        """Frames per second, 25 if the file names no believable number."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate <= _HIGHEST_RATE else _FALLBACK_RATE

    def skip(self) -> bool:
        """Skip a frame; False if there is none."""
        done = bool(self._capture.grab())
        self.next += done
        return done

    def read(self, number: int) -> Pixels:
        """Return frame `number` as (H, W, 3) RGB.

        Raises:
            UserError: there is no such frame, or it cannot be decoded.
        """
        if number < self.next:
            self.close()
            self._open()
        while self.next < number and self.skip():
            pass
        done, frame = self._capture.read() if self.next == number else (False, None)
        if not done or frame is None:
            raise UserError(f"{self.path}: frame {number} cannot be decoded.")
        self.next += 1
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


def count_frames(path: Path) -> int:
    """Count the frames by decoding them all; 0 if the file is not a readable video."""
    try:
        with closing(FrameReader(path)) as reader:
            while reader.skip():
                pass
            return reader.next
    except UserError:  # reading a frame says why
        return 0


def write_video(path: Path, frames: Iterable[Pixels], rate: float) -> None:
    """Encode frames as MPEG-4 part 2 (`mp4v`): OpenCV has it and players know it, browsers do not.

    Args:
        path: the file, `.mp4`.
        frames: (H, W, 3) RGB each, of one size. Sides must be even in this format: an odd one gets
            a pixel more, the border's again.
        rate: frames per second.

    Raises:
        UnwritableError: the encoder refuses.
    """
    writer = None
    try:
        for frame in frames:
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if writer is None:
                codec = cv2.VideoWriter.fourcc(*"mp4v")
                size = even.shape[1], even.shape[0]
                writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, rate, size)
                if not writer.isOpened():
                    raise UnwritableError(f"{path}: no video can be encoded at {size} pixels.")
            writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
    finally:
        if writer is not None:
            writer.release()
