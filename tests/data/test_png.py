"""PNG files of every kind, size and filter against OpenCV's decoder and Pillow's."""

import io

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pne_seg.data.images import read_image
from pne_seg.data.label_images import png_depth, read_labels
from pne_seg.errors import UserError
from tests.data.held import Held
from tests.data.png_encoder import CHANNELS, KINDS, PALETTE, RGB, chunk, encode

SMALL = encode(np.arange(5 * 7 * 3).reshape(5, 7, 3), RGB, chunk_size=11)


def random_values(
    seed: int, height: int, width: int, kind: int, depth: int
) -> npt.NDArray[np.int64]:
    size = (height, width, CHANNELS[kind])
    return np.random.default_rng(seed).integers(0, 2**depth, size)


def by_opencv(data: bytes) -> npt.NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[..., ::-1], np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    st.integers(1, 200),
    st.integers(0, 2**32 - 1),
)
def test_the_same_picture(
    kind_depth: tuple[int, int],
    height: int,
    width: int,
    interlaced: bool,
    filters: list[int],
    chunk_size: int,
    seed: int,
) -> None:
    kind, depth = kind_depth
    values = random_values(seed, height, width, kind, depth)
    data = encode(values, kind, depth, filters, interlaced, chunk_size)
    np.testing.assert_array_equal(read_image(Held(data)), by_opencv(data))
    assert png_depth(data) == depth


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [b"\0\1", b"\0\1\2"])
def test_labels_are_palette_indices(depth: int, transparency: bytes) -> None:
    values = random_values(0, 9, 13, PALETTE, depth)[..., 0]
    extra = [chunk(b"tRNS", transparency[: 2**depth])]
    data = encode(values, PALETTE, depth, extra=extra)
    np.testing.assert_array_equal(read_labels(Held(data)), values)


def test_a_large_picture() -> None:
    """More than one block of 65,535 bytes in one chunk, and more than one chunk."""
    pixels = np.random.default_rng(0).integers(0, 40, (400, 500, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert buffer.getvalue().count(b"IDAT") > 1
    np.testing.assert_array_equal(read_image(Held(buffer.getvalue())), pixels)


def test_other_chunks_and_trailing_bytes_are_passed_over() -> None:
    values = random_values(0, 5, 7, RGB, 8)
    extra = [chunk(b"tEXt", b"a\0b"), chunk(b"gAMA", bytes(4)), chunk(b"prVt", b"IDAT")]
    data = encode(values, RGB, extra=extra) + b"IDAT and more"
    np.testing.assert_array_equal(read_image(Held(data)), values)


@pytest.mark.parametrize("place", range(8, len(SMALL)))
def test_one_changed_bit_anywhere(place: int) -> None:
    data = bytearray(SMALL)
    data[place] ^= 1 << place % 8
    with pytest.raises(UserError, match=r"not a readable image .* Fetch or save"):
        read_image(Held(bytes(data)))
