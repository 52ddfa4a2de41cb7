"""Small videos of plain colors, which survive compression."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.prediction.video import write_video

Pixels = npt.NDArray[np.uint8]


def colored(number: int, size: tuple[int, int] = (32, 48)) -> Pixels:
    """Frame `number`: its left third, and the rest, of colors of its own."""
    frame = np.zeros((*size, 3), np.uint8)
    frame[:] = (40 * number % 256, 255 - 30 * number % 256, 90)
    frame[:, : size[1] // 3] = (250, 25 * number % 256, 10)
    return frame


def make_video(path: Path, frames: int, size: tuple[int, int] = (32, 48), rate: float = 12) -> Path:
    """A video of `colored` frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".avi": "MJPG"}.get(path.suffix)
    if kind is None:
        write_video(path, (colored(number, size) for number in range(frames)), rate)
        return path
    fourcc = cv2.VideoWriter.fourcc(*kind)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate, size[::-1])
    for number in range(frames):
        writer.write(colored(number, size)[..., ::-1])
    writer.release()
    return path


def decoded(path: Path) -> list[Pixels]:
    """All frames as RGB, read in the plainest way."""
    capture = cv2.VideoCapture(str(path))
    frames: list[Pixels] = []
    while True:
        done, frame = capture.read()
        if not done:
            return frames
        frames.append(np.asarray(frame[..., ::-1], np.uint8))
