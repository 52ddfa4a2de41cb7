"""Decoding against Pillow, which shares no code with OpenCV: every kind of image and labels."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pne_seg.data.images import Pixels, decode_image, read_image, read_info
from pne_seg.data.label_images import check_labels, read_labels
from pne_seg.errors import UserError
from tests.data.held import Held, saved
from tests.data.png_encoder import (
    CHANNELS,
    COLORS,
    GRAY,
    GRAY_ALPHA,
    KINDS,
    PALETTE,
    RGB,
    chunk,
    encode,
)

ORIENTATION = 0x0112
SMOOTH = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8),
    (31, 23),
    interpolation=cv2.INTER_CUBIC,
).astype(np.uint8)
PICTURE = Image.fromarray(SMOOTH)
LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
]


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data.tobytes() + thumbnail


def by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            return np.stack([(np.asarray(image) >> 8).astype(np.uint8)] * 3, -1)
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def check(data: bytes, tolerance: int = 0) -> None:
    """The pixels are Pillow's and the header tells their size."""
    image = read_image(Held(data))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    difference = np.abs(image.astype(int) - by_pillow(data))
    assert difference.max() <= tolerance
    info = read_info(Held(data))
    assert info.size == image.shape[:2]
    with Image.open(io.BytesIO(data)) as opened:
        assert (info.mode, info.format) == (opened.mode, opened.format)


def refusal(data: bytes, reader: Any = read_image) -> str:
    with pytest.raises(UserError) as caught:
        reader(Held(data))
    said = str(caught.value)
    assert said.startswith("folder/held.bin: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert "<_io" not in said
    return said


# ---- images ------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
@pytest.mark.parametrize("transparent", [False, True])
def test_png(kind: int, depth: int, interlaced: bool, transparent: bool) -> None:
    values = np.random.default_rng(1).integers(0, 2**depth, (13, 17, CHANNELS[kind]))
    extra = [chunk(b"tEXt", b"Title\0x"), chunk(b"pHYs", bytes(9))]
    if transparent and kind in (GRAY, RGB, PALETTE):
        key = {GRAY: bytes(2), RGB: bytes(6), PALETTE: b"\0\x80"}[kind]
        extra.append(chunk(b"tRNS", key))
    data = encode(values, kind, depth, interlaced=interlaced, chunk_size=50, extra=extra)
    image = read_image(Held(data + b"trailing bytes"))
    if kind == PALETTE:
        expected = np.array(COLORS, np.uint8)[values[..., 0]]
    else:
        spread = values >> 8 if depth == 16 else values * (255 // (2**depth - 1))
        expected = spread.astype(np.uint8)[
            ..., [0, 0, 0] if kind in (GRAY, GRAY_ALPHA) else [0, 1, 2]
        ]
    np.testing.assert_array_equal(image, expected)
    with Image.open(io.BytesIO(data)) as opened:
        if opened.mode in ("L", "LA", "P", "RGB", "RGBA"):  # of the deep ones, Pillow keeps more
            np.testing.assert_array_equal(image, np.asarray(opened.convert("RGBA"))[..., :3])
    assert read_info(Held(data)).size == (13, 17)


@pytest.mark.parametrize(("format", "options"), LOSSLESS)
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_other_lossless_files(format: str, options: dict[str, Any], mode: str) -> None:
    image = (
        PICTURE.quantize(30) if mode == "P" else PICTURE.convert(mode[0] if "1" in mode else mode)
    )
    if mode == "I;16":
        image = Image.fromarray(SMOOTH[..., 0].astype(np.uint16) * 257)
    try:
        data = saved(image, format, **options)
    except OSError:
        pytest.skip(f"{format} has no {mode}")
    check(data)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0, "quality": 99},
        {"optimize": True, "quality": 20},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 1, "progressive": True},
        {"comment": b"\xff\xd9 is no end here \xff\xda"},
    ],
)
def test_jpeg(mode: str, options: dict[str, Any]) -> None:
    data = saved(PICTURE.convert(mode), "JPEG", **options)
    thumbnail = saved(PICTURE.resize((8, 6)), "JPEG")
    with_thumbnail = saved(PICTURE.convert(mode), "JPEG", exif=exif(1, thumbnail), **options)
    for one in (data, data + b"trailing \xff bytes", data + data[:99], with_thumbnail):
        check(one, tolerance=2)  # two decoders round differently


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "options"), [*LOSSLESS, ("JPEG", {"quality": 95})])
def test_turned_as_displayed(format: str, options: dict[str, Any], orientation: int) -> None:
    if format == "BMP":
        pytest.skip("BMP has no EXIF data")
    data = saved(PICTURE, format, exif=exif(orientation), **options)
    check(data)
    info = read_info(Held(data))
    assert info.rotated == (orientation != 1)
    assert info.size == ((31, 23) if orientation > 4 else (23, 31))


def test_by_hand_the_left_column_of_what_is_stored_is_shown_on_top() -> None:
    stored = np.zeros((2, 3, 3), np.uint8)
    stored[:, 0] = [[1, 1, 1], [2, 2, 2]]
    shown = read_image(Held(saved(stored, "PNG", exif=exif(6))))  # 6: to be turned clockwise
    np.testing.assert_array_equal(shown[..., 0], [[2, 1], [0, 0], [0, 0]])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "broken", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"nonsense", exif(9)]
)
def test_exif_data_that_say_nothing(broken: bytes) -> None:
    data = saved(PICTURE, "JPEG", exif=broken)
    assert read_image(Held(data)).shape == (*read_info(Held(data)).size, 3) == (23, 31, 3)
    assert not read_info(Held(data)).rotated


def test_a_rotation_in_xmp_data_alone_is_passed_over_by_both() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    data = saved(PICTURE, "JPEG", xmp=xmp)
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[ORIENTATION] == 6
    assert read_image(Held(data)).shape[:2] == read_info(Held(data)).size == (23, 31)


# ---- labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [one for one in KINDS if one[0] in (GRAY, PALETTE)])
def test_png_labels_are_the_values_stored(kind: int, depth: int, interlaced: bool) -> None:
    values = np.random.default_rng(2).integers(0, 2**depth, (11, 19))
    extra = [chunk(b"tRNS", b"\0\1"), chunk(b"gAMA", struct.pack(">I", 30_000))]
    data = encode(values, kind, depth, interlaced=interlaced, extra=extra)
    if depth == 16:
        assert "this has values of 16 bits from " in refusal(data, read_labels)
        return
    labels = read_labels(Held(data))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, values)
    check_labels(Held(data), read_info(Held(data)))


@pytest.mark.parametrize(("format", "options"), [one for one in LOSSLESS if one[0] != "WEBP"])
@pytest.mark.parametrize("mode", ["L", "P", "reversed palette", "1"])
def test_labels_of_other_formats(format: str, options: dict[str, Any], mode: str) -> None:
    values = np.random.default_rng(3).integers(0, 2 if mode == "1" else 256, (9, 14), np.uint8)
    image = Image.fromarray(values.astype(bool) if mode == "1" else values)
    if mode == "P":
        image.putpalette([part for color in COLORS for part in color])
    elif mode == "reversed palette":
        image.putpalette([255 - index // 3 for index in range(768)])
    data = saved(image, format, **options)
    np.testing.assert_array_equal(read_labels(Held(data)), values)
    check_labels(Held(data), read_info(Held(data)))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_turn_as_images_do(format: str, orientation: int) -> None:
    data = saved(PICTURE.convert("L"), format, exif=exif(orientation))
    np.testing.assert_array_equal(read_labels(Held(data)), read_image(Held(data))[..., 0])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (saved(PICTURE, "PNG"), r"3 channels \(colors\). Convert it .* classes="),
        (saved(PICTURE.convert("RGBA"), "PNG"), "4 channels"),
        (saved(Image.new("LA", (4, 4), (1, 254)), "PNG"), "has transparent pixels"),
        (saved(Image.new("RGBA", (4, 4), (1, 1, 1, 0)), "TIFF"), "has transparent pixels"),
        (saved(PICTURE, "BMP"), "3 channels"),
        (saved(PICTURE.convert("CMYK"), "TIFF"), "4 channels"),
        (saved(PICTURE.convert("L"), "TIFF", compression="jpeg"), "TIFF with JPEG .*, which chan"),
        (saved(SMOOTH[..., 0].astype(np.uint16) + 9, "PNG"), "16 bits from .* to 26"),
        (saved(SMOOTH[..., 0].astype(np.uint16) + 9, "TIFF"), "16 bits from"),
        (saved(SMOOTH[..., 0].astype(np.int32) - 1, "TIFF"), "32 bits from"),
        (saved(SMOOTH[..., 0].astype(np.float32) / 2, "TIFF"), "32 bits from"),
        (saved(PICTURE.convert("L"), "JPEG"), "this is JPEG, which changes values.* as PNG"),
        (saved(PICTURE.convert("L"), "WEBP"), "this is WEBP"),
    ],
)
def test_what_cannot_hold_labels(data: bytes, said: str) -> None:
    message = refusal(data, read_labels)
    with pytest.raises(UserError, match=said) as caught:
        check_labels(Held(data), read_info(Held(data)))
    assert message == str(caught.value)


def bmp_of_two_colors() -> bytes:
    """Eight bits a pixel with a table of black and white, which Pillow takes for one bit."""
    data = bytearray(saved(Image.fromarray(np.eye(4, 8, dtype=np.uint8)), "BMP"))
    start = int.from_bytes(data[10:14], "little")
    data[46:50] = (2).to_bytes(4, "little")
    data[54:62] = b"\0\0\0\0\xff\xff\xff\0"
    assert start == 54 + 4 * 256
    return bytes(data)


def tiff_of_four_bits() -> bytes:
    """Gray of four bits: 0, 1, 2, 15, which Pillow spreads over 0 to 255."""
    fields = {256: 4, 257: 1, 258: 4, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 2}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    directory = struct.pack("<H", len(fields)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 10) + b"\x01\x2f" + directory


def test_gray_of_four_bits_outside_of_png() -> None:
    said = refusal(tiff_of_four_bits(), read_labels)
    assert "labels of 4 bits are read from PNG files only. Save it as PNG." in said


def test_a_bmp_with_a_table_of_two_colors_gives_its_indices() -> None:
    np.testing.assert_array_equal(read_labels(Held(bmp_of_two_colors())), np.eye(4, 8))


@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("top_down", [False, True])
def test_bmp_labels_are_indices_whatever_the_colors(depth: int, top_down: bool) -> None:
    values = np.random.default_rng(depth).integers(0, 2**depth, (5, 11))
    bits = (values[..., None] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(5, -1).astype(np.uint8), axis=1)
    stride = (11 * depth + 31) // 32 * 4
    rows = np.pad(rows, ((0, 0), (0, stride - rows.shape[1])))
    colors = np.zeros((2**depth, 4), np.uint8)
    colors[:, :3] = np.linspace(255, 0, 2**depth)[:, None]  # gray, from white to black
    start = 54 + colors.size
    height = -5 if top_down else 5
    header = struct.pack("<IiiHHIIiiII", 40, 11, height, 1, depth, 0, rows.size, 1, 1, 2**depth, 0)
    file = b"BM" + struct.pack("<IHHI", start + rows.size, 0, 0, start) + header
    data = file + colors.tobytes() + rows[:: 1 if top_down else -1].tobytes()
    np.testing.assert_array_equal(read_labels(Held(data)), values)
    check_labels(Held(data), read_info(Held(data)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "I", "F", "RGBX", "deep RGB"])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_labels_with_more_channels_or_bits_than_they_need(mode: str, format: str) -> None:
    values = np.random.default_rng(4).integers(0, 256, (9, 14), np.uint8)
    made = {
        "PNG": {"RGB", "RGBA", "LA", "I;16", "deep RGB"},
        "BMP": {"RGB"},
        "TIFF": {"RGB", "RGBA", "LA", "I;16", "I", "F", "RGBX"},
    }
    if mode not in made[format]:
        pytest.skip(f"no {format} has it")
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    if mode == "deep RGB":
        data = encode(values[..., None].repeat(3, 2).astype(np.uint16), RGB, 16)
    elif mode in kinds:
        data = saved(Image.fromarray(values.astype(kinds[mode])), format)
    else:
        data = saved(Image.fromarray(values).convert(mode.replace("X", "")), format)
    np.testing.assert_array_equal(read_labels(Held(data)), values)
    check_labels(Held(data), read_info(Held(data)))


# ---- images of more than 8 bits, and transparent ones ------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("most", "bits"),
    [(200, 8), (255, 8), (256, 10), (1023, 10), (4080, 12), (16383, 14), (16384, 16), (65535, 16)],
)
def test_more_than_8_bits_are_read_by_the_part_that_is_used(
    most: int, bits: int, channels: int, format: str
) -> None:
    values = np.linspace(0, most, 12 * 8).round().astype(np.uint16).reshape(8, 12)
    stored = values if channels == 1 else np.stack([values] * 3, axis=2)
    data = cv2.imencode(f".{format.lower()}", stored)[1].tobytes()
    pixels, info = decode_image(Held(data), data)
    expected = values.astype(float) / 2**bits * 256
    assert np.abs(pixels - expected[..., None]).max() < 1
    assert info.bits == bits


def test_a_stated_range_counts_more_than_the_values() -> None:
    values = np.full((4, 6), 500, np.uint16)
    data = saved(Image.fromarray(values), "TIFF", tiffinfo={281: 4095})
    pixels, info = decode_image(Held(data), data)
    assert (pixels == 500 // 16).all()
    assert (info.range, info.bits) == (4095, 12)


def test_images_of_fractions() -> None:
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    pixels = read_image(Held(saved(Image.fromarray(values), "TIFF")))
    assert np.abs(pixels[..., 0] - 255 * values).max() <= 0.5
    for odd in (-values, values * np.nan):
        assert "an image must have none below 0" in refusal(
            saved(Image.fromarray(odd), "TIFF"), read_image
        )


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_colors_are_the_same_however_transparent(
    format: str, options: dict[str, Any], mode: str
) -> None:
    if (format, mode) == ("WEBP", "LA"):
        pytest.skip("no WebP has it")
    picture = PICTURE.convert(mode)
    picture.putalpha(Image.fromarray(np.arange(23 * 31, dtype=np.uint8).reshape(23, 31)))
    expected = np.asarray(picture.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(read_image(Held(saved(picture, format, **options))), expected)


@pytest.mark.parametrize("shape", [(4, 4), (16, 16), (64, 48)])
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_deep_colors_keep_their_order_and_values(format: str, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (*shape, 3)).astype(np.uint16)
    data = cv2.imencode(f".{format}", values[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(read_image(Held(data)), values >> 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 11, 12, 14])
@pytest.mark.parametrize("written", ["as they are", "shifted", "repeated"])
def test_png_files_that_state_their_bits(written: str, bits: int, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**bits // 5, (8, 12, channels))  # dark
    values[0, 0] = 1
    scaled = values << (16 - bits)
    stored = {
        "as they are": values,
        "shifted": scaled,
        "repeated": scaled | (scaled >> bits),
    }[written]
    stated = [chunk(b"sBIT", bytes([bits] * channels))]
    kind = RGB if channels == 3 else GRAY
    data = encode(stored.astype(np.uint16), kind, 16, extra=stated)
    pixels, info = decode_image(Held(data), data)
    assert np.abs(pixels - values * 256.0 / 2**bits).max() <= 1
    assert info.bits == (bits if written == "as they are" else 16)


def pages(kind: int) -> bytes:
    """A TIFF file of two pages, the second of which says what it is."""
    first, second = (Image.new("L", (6, 4), value) for value in (1, 2))
    second.encoderinfo = {"tiffinfo": {254: kind}}
    return saved(first, "TIFF", save_all=True, append_images=[second])


@pytest.mark.parametrize("read", [read_image, read_labels, read_info])
def test_tiff_files_of_several_pages(read: Any) -> None:
    assert "has 2 pages, of which only one would be read" in refusal(pages(0), read)
    with Image.open(io.BytesIO(pages(1))) as image:
        image.seek(1)
        assert image.tag_v2[254] == 1  # type: ignore[attr-defined]
    for kind in (1, 4):  # a small version, a mask of transparency
        read(Held(pages(kind)))
    np.testing.assert_array_equal(read_labels(Held(pages(1))), 1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations(kind: str) -> None:
    frames = [Image.new("L", (6, 4), value) for value in (1, 99)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    said = refusal(data, read_image)
    assert "is an animation of 2 frames, of which only one would be read" in said
