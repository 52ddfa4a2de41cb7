"""Videos as frames, and back. What counts as a frame is what decodes: headers may be wrong."""

import os
import secrets
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

# Otherwise FFmpeg prints its own complaints about a damaged file, beside ours.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.prediction.manifest import Manifest, UnwritableError

_FALLBACK_RATE = 25.0  # frames per second, if the file names no believable rate
_HIGHEST_RATE = 1000.0
_FIRST_BYTES = 2**16  # of a video, which a disk must have room for


class FrameReader:
    """Read the frames of a video forward, turned as the file says; going back starts again."""

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
        """Frames per second."""
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate <= _HIGHEST_RATE else _FALLBACK_RATE

    def skip(self) -> bool:
        """Skip a frame; return False if there is none."""
        done = bool(self._capture.grab())
        self.next += done
        return done

    def read(self, number: int) -> Pixels:
        """Return frame `number` as (H, W, 3) RGB."""
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
    """Encode (H, W, 3) RGB frames as MPEG-4 part 2 (`mp4v`), which players know, browsers do not.

    Sides must be even in this format: the border of an odd one is repeated.
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


def save_video(
    path: Path, frames: Iterable[Pixels], rate: float, number: int, manifest: Manifest
) -> None:
    """Encode a number of frames beside `path`, and put the video there if it holds them all."""
    # OpenCV tells the format by the name's end.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp.mp4")
    try:
        with manifest.naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # The encoder does not say why it cannot open a file, nor that a disk is full.
            temporary.write_bytes(bytes(_FIRST_BYTES))
        write_video(temporary, frames, rate)
        if count_frames(temporary) != number:
            raise UserError(f"{path} cannot be written whole. Is there room on the disk?")
        with manifest.naming(path), temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if failed := manifest.put([path], temporary.replace):
            raise UnwritableError(failed[path])
    finally:
        with suppress(OSError):  # of the name: it was never there
            temporary.unlink(missing_ok=True)
