"""Damaged image files: an error with file and mend, never a part of a picture, nor a bomb."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.measure import peak_memory
from pne_seg.data.data_file import open_file
from pne_seg.data.images import MAX_PIXELS, read_image, read_info
from pne_seg.data.label_images import read_labels
from pne_seg.errors import UserError
from tests.data.held import Held, saved
from tests.data.png_encoder import GRAY, PALETTE, RGB, SIGNATURE, chunk, encode, header

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damage in what it skips

READERS: list[Callable[[Any], Any]] = [read_info, read_image, read_labels]
PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
).resize((16, 12))
GRAY_PICTURE = PICTURE.convert("L")
THUMBNAIL = saved(PICTURE.resize((4, 3)), "JPEG")
EXIF = Image.Exif().tobytes() + THUMBNAIL
PNGS = [
    encode(np.arange(5 * 6 * 3).reshape(5, 6, 3), RGB, chunk_size=40),
    encode(np.arange(5 * 6).reshape(5, 6), PALETTE, interlaced=True),
    encode(np.arange(5 * 6).reshape(5, 6) % 4, GRAY, 2),
]
JPEGS = [
    saved(PICTURE, "JPEG", exif=EXIF),
    saved(GRAY_PICTURE, "JPEG", restart_marker_rows=1),
    saved(PICTURE, "JPEG", progressive=True, exif=EXIF, comment=b"\xff\xd9"),
    saved(PICTURE.convert("CMYK"), "JPEG"),
]
OTHERS = [
    saved(PICTURE, "BMP"),
    saved(GRAY_PICTURE, "BMP"),
    saved(PICTURE, "WEBP"),
    saved(PICTURE, "WEBP", lossless=True),
    saved(PICTURE, "TIFF"),
    *(
        saved(GRAY_PICTURE, "TIFF", compression=kind)
        for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits")
    ),
]


def result(data: bytes, reader: Callable[[Any], Any]) -> Any:
    """What a reader gives; None where it refuses in one line with the file, a reason and a mend."""
    try:
        return reader(Held(data))
    except UserError as error:
        said = str(error)
        assert said.startswith("folder/held.bin: ")
        assert any(mend in said for mend in ("Fetch", "Save", "Convert", "Cut", "Folder")), said
        assert "\n" not in said
        assert "object at" not in said
        return None


# ---- cut short, changed ------------------------------------------------------------------


@pytest.mark.parametrize("data", [*PNGS, *JPEGS])
def test_cut_short_at_every_length(data: bytes) -> None:
    assert result(data, read_image) is not None
    for length in range(len(data)):
        assert result(data[:length], read_image) is None, length
        assert result(data[:length], read_labels) is None, length
    assert result(data + data[:-1], read_image) is not None  # what trails is another's matter


@pytest.mark.parametrize("data", OTHERS)
def test_other_formats_cut_short_give_all_or_nothing(data: bytes) -> None:
    for reader in (read_image, read_labels):
        whole = result(data, reader)
        for length in range(len(data)):
            found = result(data[:length], reader)
            # Both formats may end with bytes of no meaning.
            assert found is None or (length > len(data) - 8 and np.array_equal(found, whole))


@pytest.mark.parametrize("data", PNGS)
def test_a_changed_bit_of_a_png(data: bytes) -> None:
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        assert result(bytes(changed), read_image) is None, place
        assert result(bytes(changed), read_labels) is None, place


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([*PNGS, *JPEGS, *OTHERS]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.integers(0, 10**6),
)
def test_any_damage_is_a_picture_or_an_error_of_the_users(
    data: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(data)] = value
    if length < len(data):
        del damaged[length:]
    info, image, _ = (result(bytes(damaged), reader) for reader in READERS)
    if image is not None:
        assert image.shape == (*info.size, 3)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"<html>Not Found</html>", bytes(5000)])
def test_no_image_at_all(data: bytes, reader: Callable[[Any], Any]) -> None:
    with pytest.raises(UserError, match=r"held\.bin: not a readable image .* Fetch or save the"):
        reader(Held(data))


@pytest.mark.parametrize("reader", READERS)
def test_files_that_cannot_be_opened(tmp_path: Path, reader: Callable[[Any], Any]) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, why in (
        ("link.png", "No such file"),
        ("none.png", "No such file"),
        ("loop.png", "Too many levels of symbolic links"),
    ):
        with pytest.raises(UserError, match=rf"{name}: cannot be read \({why}.*\. Fetch it"):
            reader(open_file(tmp_path / name))


# ---- bombs -------------------------------------------------------------------------------

SIDE = 60_000


def png_bomb() -> bytes:
    parts = [header(SIDE, SIDE, 8, GRAY), chunk(b"IDAT", zlib.compress(bytes(999)))]
    return SIGNATURE + b"".join(parts) + chunk(b"IEND", b"")


def jpeg_bomb() -> bytes:
    data = bytearray(saved(GRAY_PICTURE, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    return bytes(data)


def bmp_bomb() -> bytes:
    data = bytearray(saved(GRAY_PICTURE, "BMP"))
    data[18:26] = struct.pack("<II", SIDE, SIDE)
    return bytes(data)


def tiff_bomb() -> bytes:
    data = saved(GRAY_PICTURE, "TIFF")
    for tag, value in ((256, 16), (257, 12)):  # width, height
        (there,) = [
            place
            for place in range(len(data))
            if struct.unpack_from("<HHI", data.ljust(place + 8, b"\0"), place)[::2] == (tag, 1)
        ]
        kind = struct.unpack_from("<H", data, there + 2)[0]
        assert struct.unpack_from({3: "<H", 4: "<I"}[kind], data, there + 8)[0] == value
        data = data[: there + 2] + struct.pack("<HII", 4, 1, SIDE) + data[there + 12 :]
    return data


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", [png_bomb, jpeg_bomb, bmp_bomb, tiff_bomb])
def test_a_header_that_claims_too_much(
    make: Callable[[], bytes],
    reader: Callable[[Any], Any],
    lifted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if lifted:  # by another library in the same process
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(imagecodecs, "png_decode", lambda *_: pytest.fail("decoded"))
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"held\.bin: .*more pixels .*\({MAX_PIXELS} at most"):
            reader(Held(data))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def of_stream(stream: bytes) -> bytes:
    """A gray PNG of 7×5 pixels of 8 bits with a zlib stream of the test's own."""
    chunks = [header(7, 5, 8, GRAY), chunk(b"IDAT", stream), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


STREAM = zlib.compress(bytes(8 * 5))


@pytest.mark.parametrize(
    "stream",
    [
        zlib.compress(bytes(8 * 5 - 1)),
        STREAM[:-1],
        STREAM[:-1] + b"\2",
        b"\x78\x9c\xff\xff",
        b"",
    ],
)
def test_pixels_that_are_missing_or_damaged_inside_of_sound_chunks(stream: bytes) -> None:
    for reader in (read_image, read_labels):
        with pytest.raises(UserError, match=r"held\.bin: .*damaged or missing.*Fetch"):
            reader(Held(of_stream(stream)))


def test_what_follows_the_pixels_is_passed_over() -> None:
    assert not read_labels(Held(of_stream(STREAM + b"more"))).any()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells no peak of memory")
def test_pixels_beyond_what_the_header_says() -> None:
    """The picture is what the header says, and the rest of the stream takes no memory."""
    data = of_stream(zlib.compress(bytes(256 * 2**20)))
    peak = peak_memory(lambda: [reader(Held(data)) for reader in (read_image, read_labels)], "cpu")
    assert not peak > 16 * 2**20
    assert read_image(Held(data)).shape == (5, 7, 3)
    assert read_labels(Held(data)).shape == (5, 7)


@pytest.mark.parametrize(
    "fields",
    [
        (0, 5, 8, GRAY),
        (7, 0, 8, GRAY),
        (7, 5, 3, GRAY),
        (7, 5, 255, RGB),
        (7, 5, 4, RGB),
        (7, 5, 16, PALETTE),
        (7, 5, 8, 1),
        (7, 5, 8, 7),
        (7, 5, 8, GRAY, 2),
    ],
)
def test_png_headers_that_the_format_does_not_know(fields: tuple[int, int, int, int]) -> None:
    chunks = [header(*fields), chunk(b"IDAT", STREAM), chunk(b"IEND", b"")]
    for reader in (read_image, read_labels):
        with pytest.raises(UserError, match=r"held\.bin: "):
            reader(Held(SIGNATURE + b"".join(chunks)))


def test_colors_profiles_are_no_damage(caplog: pytest.LogCaptureFixture) -> None:
    """libpng finds fault with the profiles of many files, which nothing here reads."""
    data = saved(PICTURE, "PNG", icc_profile=bytes(200))
    np.testing.assert_array_equal(read_image(Held(data)), np.asarray(PICTURE))
    assert not caplog.records
