"""Decode label files to the values that they hold; what could not be those is an error."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.data.causes import SameWords
from pne_seg.data.data_file import DataFile
from pne_seg.data.decoding import (
    ImageInfo,
    Pixels,
    decode_png,
    displayed,
    header_info,
    opened_image,
)
from pne_seg.errors import UserError

_FORMATS = ("PNG", "BMP", "TIFF")  # those that give back the values that were saved
_PLAIN = ("1", "L", "P")  # modes whose header shows that they hold labels
_MODES = (*_PLAIN, "LA", "RGB", "RGBA", "RGBX", "I;16", "I;16B", "I", "F")
_TIFF_DEPTHS = {"1": (1,), "I;16": (16,), "I;16B": (16,), "I": (16, 32), "F": (32, 64)}


def read_labels(file: DataFile) -> Pixels:
    """Read the label image of a file as (H, W), its values untouched."""
    return decode_labels(file)[0]


def decode_labels(file: DataFile) -> tuple[Pixels, ImageInfo]:
    """Read a label image as (H, W) uint8, its values untouched; the header comes along.

    A palette image gives its indices, one of 1, 2 or 4 bits the values that its bits stand for.
    Equal channels count as one, opaque transparency as none, and more than 8 bits must hold whole
    numbers up to 255. It is turned as its EXIF data say, as the image is.
    """
    data = file.read_bytes()
    with opened_image(file, io.BytesIO(data)) as opened:
        info = header_info(opened)
        check_label_kind(file, info)
        if info.format != "PNG":
            return _one_channel(file, _read_other(opened, data, info)), info
    if info.mode == "P":  # decode the indices as gray values, by the color type in the header
        header = data[12:25] + b"\0" + data[26:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    # Channels of the file: libpng makes one of a single transparent color or index.
    channels = decode_png(file, data)[..., : Image.getmodebands(info.mode)]
    labels = displayed(file, _one_channel(file, channels), info)
    depth = png_depth(data)
    # libpng spreads fewer bits over 0..255.
    return labels if depth >= 8 else labels // np.uint8(255 // (2**depth - 1)), info


def png_depth(data: bytes) -> int:
    """Return the bits per channel of a PNG file."""
    return data[24]


def check_labels(file: DataFile, info: ImageInfo) -> None:
    """Check a label file by its header, or by all of it where the header leaves it open."""
    check_label_kind(file, info)
    if info.mode not in _PLAIN:
        decode_labels(file)


def check_label_kind(file: DataFile, info: ImageInfo) -> None:
    """Refuse what the header shows that it cannot hold labels, as `decode_labels` does."""
    check_lossless(file, info)
    if info.mode not in _MODES:
        raise _in_colors(file, Image.getmodebands(info.mode))
    # Pillow spreads a few bits of gray over 0..255, or takes them for others.
    known = info.format != "TIFF" or info.depth in _TIFF_DEPTHS.get(info.mode, (8,))
    if not known and info.mode != "P":
        raise UserError(
            f"{file}: labels of {info.depth} bits are read from PNG files only. Save it as PNG."
        )


def check_lossless(file: DataFile, info: ImageInfo) -> None:
    """Refuse formats and compressions that change values."""
    if info.format not in _FORMATS or info.lossy:
        kind = info.format if info.format not in _FORMATS else f"{info.format} with JPEG or WebP"
        raise UserError(
            f"{file}: labels must be PNG, BMP or TIFF files; this is {kind}, which changes values "
            "as it compresses. Save the labels as PNG; Folder also takes the nearest class: pass "
            "mask_tolerance, such as 20."
        )


def _read_other(image: Image.Image, data: bytes, info: ImageInfo) -> npt.NDArray[Any]:
    """With Pillow, as OpenCV gives the colors of palettes. Slower; few keep labels this way."""
    if info.format == "BMP" and (indices := _bmp_indices(data)) is not None:
        return indices[..., None]
    values = np.asarray(image)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    return values.reshape(*values.shape[:2], -1)


def _bmp_indices(data: bytes) -> Pixels | None:
    """Read the indices of a BMP with a palette, which Pillow may take for gray; None of others."""
    start, header, width, height, _, depth, packed = struct.unpack_from("<IIiiHHI", data, 10)
    if header < 40 or packed or depth not in (1, 4, 8):
        return None
    stride = (width * depth + 31) // 32 * 4
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start).reshape(-1, stride)
    if depth == 1:
        rows = np.unpackbits(rows, axis=1)
    elif depth == 4:
        rows = np.stack([rows >> 4, rows & 15], axis=2).reshape(len(rows), -1)
    return np.ascontiguousarray((rows if height < 0 else rows[::-1])[:, :width])


def _one_channel(file: DataFile, values: npt.NDArray[Any]) -> Pixels:
    """Reduce (H, W, channels) to the values of the labels, (H, W) uint8."""
    channels = values.shape[2]
    if channels in (2, 4) and (values[..., -1] != np.iinfo(values.dtype).max).any():
        raise UserError(
            f"{file}: has transparent pixels, which labels cannot have. Save it without "
            "transparency, with a value of its own for pixels without a class."
        )
    gray = values[..., 0]
    if channels > 2 and not ((gray == values[..., 1]) & (gray == values[..., 2])).all():
        raise _in_colors(file, channels)
    if gray.dtype == np.uint8:
        return np.ascontiguousarray(gray)
    with np.errstate(invalid="ignore"):  # not a number is found by the comparison
        labels = gray.astype(np.uint8)
    if (labels != gray).any():
        raise UserError(
            f"{file}: labels must be whole numbers from 0 to 255, this has values of "
            f"{8 * gray.dtype.itemsize} bits from {gray.min()} to {gray.max()}. Save its class "
            "indices with 8 bits."
        )
    return labels


def _in_colors(file: DataFile, channels: int) -> UserError:
    return SameWords(
        f"{file}: labels must be images of one channel, this has {channels} channels (colors). "
        "Convert it to class indices; Folder also reads colors: pass "
        "classes={name: [red, green, blue]}.",
        "are in colors, while labels must be images of one channel. Convert them to class "
        "indices; Folder also reads colors: pass classes={name: [red, green, blue]}.",
    ).error(str(file))
