"""Videos: what decodes is what counts, and comes back."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pne_seg.errors import UserError
from pne_seg.prediction.video import FrameReader, count_frames, write_video
from tests.prediction.videos import colored, decoded, make_video


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_frames_are_read_in_any_order(tmp_path: Path, suffix: str) -> None:
    path = make_video(tmp_path / f"v{suffix}", 7, rate=29.97)
    assert count_frames(path) == 7
    expected = decoded(path)
    reader = FrameReader(path)
    assert reader.rate == pytest.approx(29.97, abs=0.001)
    assert reader.read(0).shape == (32, 48, 3)
    for number in (0, 1, 4, 4, 2, 6, 0):
        np.testing.assert_array_equal(reader.read(number), expected[number])
        middle = reader.read(number)[16, 30].astype(int)
        assert np.abs(middle - colored(number)[16, 30]).max() < 12  # and the right one
    with pytest.raises(UserError, match="frame 7 cannot be decoded"):
        reader.read(7)


def test_a_header_that_promises_more_frames_than_there_are(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.avi", 20, size=(64, 96))
    content = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: len(content) * 7 // 10])
    promised = int(cv2.VideoCapture(str(cut)).get(cv2.CAP_PROP_FRAME_COUNT))
    assert count_frames(cut) == len(decoded(cut)) == 8
    assert promised == 20


def test_a_phones_video_is_turned(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 3)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2, version 0
    assert content[matrix : matrix + 4] == b"\0\1\0\0"
    turn = (0, 0x10000, 0, 2**32 - 0x10000, 0, 0, 0, 0, 0x40000000)  # a quarter, clockwise
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big") for value in turn)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    reader = FrameReader(turned)
    for number, plain in enumerate(decoded(path)):
        np.testing.assert_array_equal(reader.read(number), np.rot90(plain, -1))


@pytest.mark.parametrize("size", [(32, 48), (31, 47), (1, 1)])
def test_frames_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "v.mp4", 5, size)
    frames = decoded(path)
    assert len(frames) == 5
    height, width = size
    for number, frame in enumerate(frames):
        assert frame.shape == (height + height % 2, width + width % 2, 3)
        if size != (1, 1):
            difference = frame[:height, :width].astype(int) - colored(number, size)
            assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("name", ["bad.mp4", "empty.avi", "series_%02d.png.mp4"])
def test_no_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"junk" if name == "bad.mp4" else b"")
    with pytest.raises(UserError, match="not a readable video"):
        FrameReader(tmp_path / name)
    assert count_frames(tmp_path / name) == 0
    with pytest.raises(UserError, match=r"gone\.mp4: there is no such file"):
        FrameReader(tmp_path / "gone.mp4")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no video can be encoded"):
        write_video(tmp_path / "none" / "v.mp4", [colored(0)], 12)
