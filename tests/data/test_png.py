"""PNG chunks against Pillow, plain zlib and a plain encoder; damage is found, sizes are bounded."""

import io
import tracemalloc
import zlib

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pne_seg.data import png
from tests.data.png_encoder import (
    CHANNELS,
    GREY,
    KINDS,
    PALETTE,
    RGB,
    SIGNATURE,
    chunk,
    encode,
    filtered,
    header,
)

SMALL = encode(np.arange(5 * 7 * 3).reshape(5, 7, 3), RGB, chunk_size=11)


def random_values(
    seed: int, height: int, width: int, kind: int, depth: int
) -> npt.NDArray[np.int64]:
    size = (height, width, CHANNELS[kind])
    return np.random.default_rng(seed).integers(0, 2**depth, size)


def of_stream(stream: bytes, width: int = 7, height: int = 5) -> bytes:
    """A grey PNG of 8 bits whose pixels are a zlib stream made by the test."""
    chunks = [header(width, height, 8, GREY), chunk(b"IDAT", stream), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def by_opencv(data: bytes) -> npt.NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


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
def test_the_same_picture_without_compression(
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
    plain = png.uncompressed(data)
    np.testing.assert_array_equal(by_opencv(plain), by_opencv(data))
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(data)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    found = png.read_header(plain)
    assert found == png.read_header(data) == png.Header(width, height, depth, kind, interlaced)
    assert found.filtered_size == len(filtered(values, depth, filters, interlaced))
    assert found.channels == CHANNELS[kind]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palette_indices_as_grey_values(depth: int) -> None:
    values = random_values(0, 9, 13, PALETTE, depth)[..., 0]
    transparent = chunk(b"tRNS", b"\0\1")
    data = png.uncompressed(encode(values, PALETTE, depth, extra=[transparent]), as_grayscale=True)
    with Image.open(io.BytesIO(data)) as image:
        spread = 255 // (2**depth - 1)
        np.testing.assert_array_equal(np.asarray(image.convert("L")), values * spread)
        assert "transparency" not in image.info


def test_a_large_picture() -> None:
    """More than one block of 65,535 bytes in one chunk, and more than one chunk."""
    pixels = np.random.default_rng(0).integers(0, 40, (400, 500, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert buffer.getvalue().count(b"IDAT") > 1
    np.testing.assert_array_equal(by_opencv(png.uncompressed(buffer.getvalue()))[..., ::-1], pixels)


def test_other_chunks_and_trailing_bytes_are_left_out() -> None:
    values = random_values(0, 5, 7, RGB, 8)
    extra = [chunk(b"tEXt", b"a\0b"), chunk(b"gAMA", bytes(4)), chunk(b"prVt", b"IDAT")]
    plain = png.uncompressed(encode(values, RGB, extra=extra) + b"IDAT and more")
    assert plain == png.uncompressed(encode(values, RGB))
    assert b"prVt" not in plain


@pytest.mark.parametrize("length", range(len(SMALL)))
def test_cut_short_at_any_length(length: int) -> None:
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        png.uncompressed(SMALL[:length])


@pytest.mark.parametrize("place", range(len(SIGNATURE), len(SMALL)))
def test_one_changed_bit_anywhere(place: int) -> None:
    data = bytearray(SMALL)
    data[place] ^= 1 << place % 8
    with pytest.raises(ValueError, match=r"cut short|damaged|checksum"):
        png.uncompressed(bytes(data))


@pytest.mark.parametrize(
    "fields",
    [
        (0, 5, 8, GREY),
        (7, 0, 8, GREY),
        (7, 5, 3, GREY),
        (7, 5, 255, RGB),
        (7, 5, 4, RGB),
        (7, 5, 16, PALETTE),
        (7, 5, 8, 1),
        (7, 5, 8, 7),
        (7, 5, 8, GREY, 2),
    ],
)
def test_headers_that_the_format_does_not_know(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="header is damaged"):
        png.read_header(SIGNATURE + header(*fields) + chunk(b"IEND", b""))


def test_is_png() -> None:
    assert png.is_png(SMALL)
    assert not png.is_png(SMALL[:7])
    assert not png.is_png(b"\xff\xd8\xff\xe0 and so on")


# ---- streams that say something else than the header ----------------------------------------


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (zlib.compress(bytes(8 * 5 - 1)), "missing"),
        (zlib.compress(bytes(8 * 5 + 1)), "more pixels than its header"),
        (zlib.compress(bytes(8 * 5))[:-1], "missing"),
        (zlib.compress(bytes(8 * 5))[:-1] + b"\2", "damaged"),
        (b"\x78\x9c\xff\xff", "damaged"),
        (b"", "missing"),
    ],
)
def test_a_stream_of_another_length(stream: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        png.uncompressed(of_stream(stream))


def test_what_follows_the_stream_is_passed_over() -> None:
    stream = zlib.compress(bytes(8 * 5))
    assert png.uncompressed(of_stream(stream + b"more")) == png.uncompressed(of_stream(stream))


def test_a_bomb_takes_no_memory() -> None:
    compressor = zlib.compressobj()
    megabyte = bytes(2**20)
    bomb = b"".join(compressor.compress(megabyte) for _ in range(100)) + compressor.flush()
    data = of_stream(bomb, width=300, height=300)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="more pixels than its header"):
            png.uncompressed(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
