"""Images and label files of any content: read, or refused by name, in little time and memory."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from pne_seg.data.data_file import open_file
from pne_seg.data.images import read_image, read_info
from pne_seg.data.inspection.examiner import Examiner
from pne_seg.data.label_formats import ColorLabels, IndexLabels
from pne_seg.data.label_images import read_labels
from pne_seg.data.mat import read_mat
from pne_seg.data.paired_files import Pair, PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.errors import UserError
from tests.data.held import Held, saved
from tests.data.png_encoder import SIGNATURE
from tests.data.test_damaged_images import JPEGS, OTHERS, PNGS
from tests.mutations import mutated, with_checksums

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

COUNTS = [2000, pytest.param(40_000, marks=pytest.mark.slow)]
PICTURE = Image.fromarray(np.arange(28 * 40 * 3, dtype=np.uint8).reshape(28, 40, 3))
GRAY = PICTURE.convert("L")
MOVING = {"save_all": True, "append_images": [PICTURE.rotate(90)]}
IMAGES = [
    *(*PNGS, *JPEGS, *OTHERS),
    *(saved(PICTURE.convert(mode), "PNG") for mode in ("P", "RGBA", "LA", "1", "I;16")),
    saved(PICTURE, "PNG", **MOVING),
    saved(PICTURE, "WEBP", **MOVING),
    saved(PICTURE, "TIFF", **MOVING),
    *(saved(PICTURE.convert(mode), "TIFF") for mode in ("P", "1", "CMYK", "LAB", "I;16", "F")),
    saved(GRAY.convert("1"), "TIFF", compression="group4"),
    saved(PICTURE, "TIFF", compression="jpeg"),
    saved(PICTURE.convert("P"), "BMP"),
    cv2.imencode(".tiff", np.asarray(PICTURE).astype(np.float32))[1].tobytes(),
]


def mat(compressed: bool = False, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, fields, do_compression=compressed)
    return buffer.getvalue()


NUMBERS = np.arange(12, dtype=np.uint8).reshape(3, 4)
MATS = [
    mat(compressed, **fields)
    for compressed in (False, True)
    for fields in (
        {"S": NUMBERS},
        {"A": np.eye(3), "S": NUMBERS.astype(float), "text": "abc"},
        {"cells": np.array([[1, {"a": 2}]], object), "S": NUMBERS.astype(np.uint16)},
    )
]


def refused_by_name(read: Callable[[Held], object], data: bytes) -> None:
    """Let a reader have a file: whatever it does, it ends, or refuses it in a line of its name."""
    said = ""
    try:
        read(Held(data))
    except UserError as error:
        said = str(error)
    assert not said or said.startswith("folder/held.bin: ")
    assert "\n" not in said
    assert len(said) < 500


def hostile(number: int) -> bytes:
    chance = random.Random(number)
    data = mutated(chance.choice(IMAGES), chance)
    return with_checksums(data) if data[:8] == SIGNATURE and chance.random() < 0.8 else data


@pytest.mark.parametrize("count", COUNTS)
def test_images(count: int) -> None:
    colors = ColorLabels([(0, 0, 0), (255, 255, 255)])
    for number in range(count):
        data = hostile(number)
        for read in (read_info, read_image, read_labels, colors.read):
            refused_by_name(read, data)


@pytest.mark.parametrize("count", COUNTS)
def test_label_maps_of_matlab(count: int) -> None:
    for number in range(count):
        chance = random.Random(number)
        refused_by_name(read_mat, mutated(chance.choice(MATS), chance))


@pytest.mark.parametrize("count", [60, pytest.param(4000, marks=pytest.mark.slow)])
def test_the_examiner_of_check_data(count: int, tmp_path: Path) -> None:
    pairs = []
    for number in range(count):
        files = [tmp_path / f"{number}_{kind}.png" for kind in ("image", "mask")]
        for place, file in enumerate(files):
            file.write_bytes(hostile(2 * number + place))
        pairs.append(Pair(str(number), *map(open_file, files)))
    source: SegmentationDataset = PairedDataset(pairs, IndexLabels([0, 1]), "")
    examiner = Examiner(source, 2, 255)
    problems = [problem for index in range(count) for problem in examiner.examine(index).problems]
    assert {problem.kind for problem in problems} >= {"image", "labels"}
    for problem in problems:
        assert str(tmp_path) in str(problem.error)
        assert "cannot be read (" not in str(problem.error)  # by an error that is nobody's


# ---- of a few kilobytes that claim much --------------------------------------------------------


def test_a_jpeg_of_more_scans_than_any_encoder_makes() -> None:
    data = saved(GRAY, "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    again = b"\xff\xda\0\x08\1\1\0\1\x3f\0\0"
    with pytest.raises(UserError, match=r"held\.bin: .*more than 100 scans, as no encoder makes"):
        read_image(Held(data[:scan] + 200 * again + data[scan:]))


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def crafted(shape: tuple[int, int], values: bytes, kind: int = 2, size: int | None = None) -> bytes:
    """A compressed MATLAB file whose parts say what they like."""
    head = element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<ii", *shape))
    size = len(values) if size is None else size
    body = head + element(1, b"S") + struct.pack("<II", kind, size) + values
    packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
    start = b"MATLAB 5.0".ljust(124) + b"\0\1IM"
    return start + struct.pack("<II", 15, len(packed)) + packed


def test_a_matlab_file_as_crafted_here() -> None:
    data = crafted((2, 4), bytes(range(8)))
    np.testing.assert_array_equal(read_mat(Held(data)), loadmat(io.BytesIO(data))["S"])


@pytest.mark.parametrize(
    "data",
    [
        crafted((60_000, 60_000), bytes(8)),
        crafted((2**31 - 1, 2**31 - 1), bytes(8)),
        crafted((-1, -8), bytes(8)),
        crafted((2, 4), bytes(50 * 2**20)),  # compressed to a thousandth
        crafted((2, 4), bytes(8), size=2**32 - 1),
        crafted((2, 4), bytes(8), kind=0xEA),  # reads beyond a table of SciPy's
        crafted((2, 4), bytes(8), kind=14),
    ],
)
def test_matlab_files_that_claim_what_is_not_there(data: bytes) -> None:
    with pytest.raises(UserError, match=r"held\.bin: (not a readable MATLAB|S must be a matrix)"):
        read_mat(Held(data))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_matlab_files_are_read_as_scipy_does(kind: str, compressed: bool) -> None:
    for shape in ((1, 1), (1, 7), (7, 1), (20, 31)):
        values = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
        data = mat(compressed, text="a", cell=np.array([[1, "x"]], object), S=values, z=np.eye(3))
        wanted = loadmat(io.BytesIO(data))["S"]
        np.testing.assert_array_equal(read_mat(Held(data)), wanted)
