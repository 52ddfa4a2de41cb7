"""Stamps: in the file, read back, and nothing to see of them."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pne_seg.prediction import png
from pne_seg.prediction.stamps import (
    Stamp,
    digest,
    digest_of_file,
    read_stamp,
    stamp_video,
    stamped,
)
from tests.prediction.videos import decoded, make_video

STAMP = Stamp(digest(["a"]), digest(["b"]), 123456)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_with_a_stamp_is_the_same_picture(tmp_path: Path, suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    content = cv2.imencode(suffix, picture)[1].tobytes()
    plain, with_stamp = tmp_path / f"plain{suffix}", tmp_path / f"with{suffix}"
    plain.write_bytes(content)
    with_stamp.write_bytes(stamped(content, STAMP))
    assert read_stamp(with_stamp) == STAMP
    assert read_stamp(plain) is None
    for read in (lambda path: cv2.imread(str(path), -1), lambda path: np.asarray(Image.open(path))):
        np.testing.assert_array_equal(read(plain), read(with_stamp))
    with Image.open(with_stamp) as opened:
        opened.verify()


def test_a_video_with_a_stamp_is_the_same_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 5)
    before = decoded(path)
    assert read_stamp(path) is None
    stamp_video(path, STAMP)
    assert read_stamp(path) == STAMP
    np.testing.assert_array_equal(decoded(path), before)


@pytest.mark.parametrize("content", [b"", png.SIGNATURE, b"\xff\xd8\xff\xe0", b"pne_seg x y"])
def test_files_cut_short_carry_none(tmp_path: Path, content: bytes) -> None:
    for name in ("a.png", "a.jpg", "a.mp4"):
        (tmp_path / name).write_bytes(content)
        assert read_stamp(tmp_path / name) is None


def test_digests_tell_parts_apart(tmp_path: Path) -> None:
    parts: list[list[object]] = [
        ["a", "b"],
        ["ab"],
        ["a", "", "b"],
        ["b", "a"],
        ["a", "b", 1],
        ["a", "b", 11],
    ]
    assert len({digest(given) for given in parts}) == len(parts)
    (tmp_path / "one").write_bytes(b"1" * 100_000)
    (tmp_path / "other").write_bytes(b"1" * 99_999 + b"2")
    (tmp_path / "copy").write_bytes(b"1" * 100_000)
    one, other, copy = (digest_of_file(tmp_path / name) for name in ("one", "other", "copy"))
    assert one == copy != other


def test_a_palette_leaves_the_indices() -> None:
    indices = np.random.default_rng(0).integers(0, 5, (7, 11), dtype=np.uint8)
    palette = [(10 * index, 255 - index, 7) for index in range(5)]
    content = png.with_palette(cv2.imencode(".png", indices)[1].tobytes(), palette)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.mode == "P"
        np.testing.assert_array_equal(np.asarray(opened), indices)
        colours = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(colours, np.asarray(palette)[indices])
    deep = cv2.imencode(".png", indices.astype(np.uint16))[1].tobytes()
    with pytest.raises(ValueError, match="8-bit gray"):
        png.with_palette(deep, palette)
