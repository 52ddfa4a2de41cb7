"""Decode image files to RGB; damage is an error."""

import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pne_seg.data.data_file import DataFile
from pne_seg.data.decoding import (
    MAX_PIXELS,
    ImageInfo,
    Pixels,
    decode_png,
    displayed,
    header_info,
    opened_image,
    unreadable,
)
from pne_seg.data.label_images import read_labels
from pne_seg.errors import UserError

__all__ = [
    "MAX_PIXELS", "ImageInfo", "Pixels", "as_input", "decode_image", "fitted_size", "read_image",
    "read_info", "read_labels",
]  # fmt: skip
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give
# What a JPEG is made of (ITU-T T.81, B.1.1.3): 0xFF and one of these. In compressed pixels the
# others occur: a plain 0xFF, and the marks to restart at, neither of which has a length.
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_MOST_SCANS = 100  # progressive files have about ten; each passes over all pixels again


def read_info(file: DataFile) -> ImageInfo:
    """Read the header only."""
    with file.open() as stream, opened_image(file, stream) as image:
        return header_info(image)


def read_image(file: DataFile) -> Pixels:
    """Read a color image as (H, W, 3) RGB, turned as its EXIF data say."""
    return decode_image(file, file.read_bytes())[0]


def decode_image(file: DataFile, data: bytes) -> tuple[Pixels, ImageInfo]:
    """Decode the bytes of a file as `read_image` does; the header comes along.

    More than 8 bits are reduced to 8 by the range that a tag of the file states, or else by the
    least of 8, 10, 12, 14 and 16 bits that holds its values: cameras use a part of 16 bits.
    """
    with opened_image(file, io.BytesIO(data)) as opened:
        info = header_info(opened)
        if info.format == "TIFF" and info.depth == 8 and info.mode in ("LA", "La", "PA", "RGBA"):
            # OpenCV multiplies the colors by the transparency.
            straight = opened.convert("LA") if info.mode == "La" else opened
            return np.asarray(straight.convert("RGBA"))[..., :3].copy(), info
        if info.format == "TIFF" and info.mode == "F":
            pixels, info = _eight_bits(file, np.asarray(opened)[..., None], info)
            return pixels[..., [0, 0, 0]], info
    if info.format == "PNG":
        values = decode_png(file, data)
        if values.dtype == np.uint16:
            info = replace(info, range=_stated_by_png(data, values))
        pixels, info = _eight_bits(file, values, info)
        # Gray has one channel, all may have one more of transparency.
        channels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., [0, 0, 0]]
        return displayed(file, channels, info), info
    if info.format == "JPEG":
        _check_jpeg(file, data)
    decoded: npt.NDArray[Any] | None = None
    with suppress(cv2.error):
        flags, content = cv2.IMREAD_IGNORE_ORIENTATION, np.frombuffer(data, np.uint8)
        if info.format == "TIFF":
            # Not to RGB at once: OpenCV 5.0 leaves 16 bits of three channels uninitialized then.
            decoded = cv2.imdecode(content, flags | cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
            decoded = None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        else:
            decoded = cv2.imdecode(content, flags | cv2.IMREAD_COLOR_RGB)
    if decoded is None:
        raise unreadable(file, "it cannot be decoded")
    pixels, info = _eight_bits(file, decoded, info)
    return displayed(file, pixels, info), info


def _eight_bits(
    file: DataFile, values: npt.NDArray[Any], info: ImageInfo
) -> tuple[Pixels, ImageInfo]:
    """Reduce the values of an image to 8 bits."""
    if values.dtype == np.uint8:
        return cast(Pixels, values), info
    low, most = (values.min(), values.max()) if values.size else (0, 0)
    if not (np.isfinite(low) and np.isfinite(most) and low >= 0):
        raise UserError(
            f"{file}: holds values from {low} to {most}; an image must have none below 0. Save it "
            "with 8 or 16 bits."
        )
    if values.dtype.kind == "f" and most <= 1:  # a fraction of full brightness
        return (values * 255 + 0.5).astype(np.uint8), replace(info, bits=32)
    stated = (info.range or 0).bit_length()
    used = int(most).bit_length()
    bits = max(8, stated, used)
    if not stated:
        bits = next((depth for depth in _DEPTHS if depth >= used), used)
    if values.dtype.kind == "f":
        return (values / 2.0 ** (bits - 8)).astype(np.uint8), replace(info, bits=bits)
    return (values >> (bits - 8)).astype(np.uint8), replace(info, bits=bits)


def _stated_by_png(data: bytes, values: npt.NDArray[np.uint16]) -> int | None:
    """Return the largest value by the `sBIT` chunk of a PNG file, if it states fewer than 16 bits.

    By the standard (11.3.2.3) values are scaled up to 16 bits: the bits below are 0, or the upper
    ones again. Many programs write them as they are.
    """
    place = 8
    while data[place + 4 : place + 8] not in (b"IDAT", b""):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"sBIT" and 0 < length <= 4:
            bits = max(data[place + 8 : place + 8 + length])
            if not 0 < bits < 16:
                return None
            low = values & np.uint16((1 << (16 - bits)) - 1)
            scaled = not low.any() or bool((low == values >> bits).all())
            return 65535 if scaled else (1 << bits) - 1
        place += length + 12
    return None


def _check_jpeg(file: DataFile, data: bytes) -> None:
    """Refuse a JPEG that is cut short, as OpenCV would make up the rest, or takes forever.

    It is followed from one marker to the next, as a thumbnail in it has an end of its own.
    """
    place, scans = 2, 0
    while found := _JPEG_MARKER.search(data, place):
        kind, place = data[found.start() + 1], found.end()
        if kind == _JPEG_END and scans:
            return
        scans += kind == _JPEG_SCAN
        if scans > _MOST_SCANS:
            raise unreadable(file, f"more than {_MOST_SCANS} scans, as no encoder makes")
        place += int.from_bytes(data[place : place + 2], "big")
    raise unreadable(file, "it is cut short")


def fitted_size(size: Sequence[int], base: tuple[int, int], factor: float = 1.0) -> tuple[int, int]:
    """Return the size of an image that keeps its ratio and fits a box as closely as it can.

    As the field's codebases have it: the long side of the image goes with the long side of the box,
    so that a box of 2048×512 brings the short side to 512 unless the long one would pass 2048.

    Args:
        size: height and width of the image, in pixels; so is the result, 1 or more.
        base: width and height of the box, in either order.
        factor: of the box, whose sides are then cut to whole pixels.
    """
    longest, shortest = (int(side * factor) for side in (max(base), min(base)))
    scale = min(longest / max(size[:2]), shortest / min(size[:2]))
    height, width = (max(1, int(side * scale + 0.5)) for side in size[:2])
    return height, width


def as_input(image: Pixels, resize_base: tuple[int, int] | None) -> torch.Tensor:
    """Fit an (H, W, 3) image to a box, if there is one, and put its channels first: (3, h, w)."""
    if resize_base is not None:
        width_height = fitted_size(image.shape[:2], resize_base)[::-1]
        image = cast(Pixels, cv2.resize(image, width_height, interpolation=cv2.INTER_LINEAR))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # several times as fast as transposing
    return torch.from_numpy(planes)
