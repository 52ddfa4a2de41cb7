"""Decode image files to RGB and label files to the values they hold; damage is an error."""

import io
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from pne_seg.data.sources import DataFile
from pne_seg.errors import UserError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Pixels of an image beyond which its header is not believed; Pillow's limit, kept if lifted."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_LABEL_FORMATS = ("PNG", "BMP", "TIFF")  # those that give back the values that were saved
_ORIENTATION, _BITS_PER_SAMPLE = 0x0112, 0x0102  # tags of EXIF and TIFF
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that swap height and width
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}  # axes, after that
# What a JPEG is made of (ITU-T T.81, B.1.1.3): 0xFF and one of these. In compressed pixels the
# others occur: a plain 0xFF, and the marks to restart at, neither of which has a length.
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
_MOST_SCANS = 100  # progressive files have about ten; each passes over all pixels again
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk, which libpng reads nothing of

# It warns about color profiles, which many files have and nothing here reads.
logging.getLogger("imagecodecs").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says."""

    size: tuple[int, int]  # height and width in pixels, as displayed (EXIF rotation applied)
    format: str  # such as `JPEG` or `PNG`
    mode: str  # Pillow's: `RGB`, `L` (gray), `P` (palette), `CMYK`, `I;16`, …
    orientation: int  # how EXIF data turn the stored picture for display, 1 (not at all) to 8

    @property
    def rotated(self) -> bool:
        """Whether the picture is displayed otherwise than it is stored."""
        return self.orientation != 1


def read_info(file: DataFile) -> ImageInfo:
    """Read the header only."""
    with file.open() as stream, _opened(file, stream) as image:
        return _info(image)


def read_image(file: DataFile) -> Pixels:
    """Read a color image as (H, W, 3) RGB, turned as its EXIF data say."""
    return decode_image(file, file.read_bytes())[0]


def decode_image(file: DataFile, data: bytes) -> tuple[Pixels, ImageInfo]:
    """Decode the bytes of a file as `read_image` does; the header comes along."""
    with _opened(file, io.BytesIO(data)) as opened:
        info = _info(opened)
    if info.format == "PNG":
        pixels = _decode_png(file, data)
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        # Gray has one channel, all may have one more of transparency.
        channels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., [0, 0, 0]]
        return _displayed(file, channels, info), info
    if info.format == "JPEG":
        _check_jpeg(file, data)
    decoded = None
    with suppress(cv2.error):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded is None:
        raise _unreadable(file, "it cannot be decoded")
    return _displayed(file, decoded, info), info


def read_labels(file: DataFile) -> Pixels:
    """Read an 8-bit label image of one channel as (H, W), its values untouched.

    A palette image gives its indices, one of 1, 2 or 4 bits the values that its bits stand for. It
    is turned as its EXIF data say, as the image is.
    """
    data = file.read_bytes()
    with _opened(file, io.BytesIO(data)) as opened:
        info = _info(opened)
        check_label_kind(file, info)
        if info.format != "PNG":
            return _read_other_labels(file, opened, data)
    if info.mode == "P":  # decode the indices as gray values, by the color type in the header
        header = data[12:25] + b"\0" + data[26:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    labels = _displayed(file, _decode_png(file, data)[..., 0], info)
    depth = png_depth(data)
    # libpng spreads fewer bits over 0..255.
    return labels if depth == 8 else labels // np.uint8(255 // (2**depth - 1))


def png_depth(data: bytes) -> int:
    """Return the bits per channel of a PNG file."""
    return data[24]


def check_label_kind(file: DataFile, info: ImageInfo) -> None:
    """Refuse formats, channels and depths that cannot hold labels, as `read_labels` does."""
    channels = Image.getmodebands(info.mode)
    if info.format not in _LABEL_FORMATS:
        raise UserError(
            f"{file}: labels must be PNG, BMP or TIFF files; this is {info.format}, which changes "
            "values as it compresses. Save the labels as PNG."
        )
    if channels > 1:
        raise UserError(
            f"{file}: labels must be 8-bit images of one channel, this has {channels} channels "
            "(colors). Convert it to class indices; Folder also reads colors: pass "
            "classes={name: [red, green, blue]}."
        )
    if info.mode not in ("1", "L", "P"):
        raise UserError(
            f"{file}: labels must be 8-bit images of one channel, this has "
            f"{32 if info.mode in ('I', 'F') else 16} bits. Save its class indices with 8 bits."
        )


def _read_other_labels(file: DataFile, image: Image.Image, data: bytes) -> Pixels:
    """With Pillow, as OpenCV gives the colors of palettes. Slower; few keep labels this way."""
    if isinstance(image, TiffImageFile):
        depth = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
    else:
        depth = int.from_bytes(data[28:30], "little")  # a BMP's
    # Pillow spreads a few bits of gray over 0..255, or takes them for others.
    if image.mode != "P" and depth != (1 if image.mode == "1" else 8):
        raise UserError(
            f"{file}: labels of {depth} bits are read from PNG files only. Save it as PNG."
        )
    return np.asarray(image).astype(np.uint8)


def _info(image: Image.Image) -> ImageInfo:
    width, height = image.size
    if isinstance(image, TiffImageFile):
        orientation = image.tag_v2.get(_ORIENTATION, 1)  # the size is as displayed
    else:
        orientation = 1
        exif = Image.Exif()  # not `image.getexif`, which looks into XMP data, as few programs do
        with suppress(Exception):  # damaged EXIF data do not make the picture any worse
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(_ORIENTATION, 1)
        if orientation in _ON_ITS_SIDE:
            width, height = height, width
    if orientation not in range(1, 9):
        orientation = 1
    return ImageInfo((height, width), str(image.format), image.mode, orientation)


@contextmanager
def _opened(file: DataFile, stream: BinaryIO) -> Iterator[Image.Image]:
    """Open a file in Pillow and check its size; an error meanwhile names the file."""
    try:
        with Image.open(stream, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{file}: its header claims more pixels than are believed ({MAX_PIXELS} at most), as a "
            "decompression bomb does. Cut a real image of that size into tiles."
        ) from error
    except Exception as error:  # Pillow's readers fail in many ways on damaged files
        unknown = isinstance(error, UnidentifiedImageError)
        why = "no JPEG, PNG, BMP, WebP or TIFF, or its header is damaged" if unknown else str(error)
        raise _unreadable(file, why) from error


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
            raise _unreadable(file, f"more than {_MOST_SCANS} scans, as no encoder makes")
        place += int.from_bytes(data[place : place + 2], "big")
    raise _unreadable(file, "it is cut short")


def _decode_png(file: DataFile, data: bytes) -> npt.NDArray[Any]:
    """Decode to (H, W, channels), uint8 or uint16; the pixels' checksums are verified."""
    if data.rfind(_PNG_END) < 0:
        raise _unreadable(file, "it is cut short, or its end is damaged")
    try:
        decoded = imagecodecs.png_decode(data)
    except (RuntimeError, ValueError) as error:
        raise _unreadable(file, f"its pixels are damaged or missing: {error}") from error
    return np.asarray(decoded).reshape(*decoded.shape[:2], -1)


def _displayed(file: DataFile, decoded: npt.NDArray[Any], info: ImageInfo) -> Pixels:
    """Turn a picture as its EXIF data say."""
    # OpenCV turns TIFF files in any case; the others here, so that `read_info` agrees.
    orientation = 1 if info.format == "TIFF" else info.orientation
    if orientation in _ON_ITS_SIDE:
        decoded = decoded.swapaxes(0, 1)
    if decoded.shape[:2] != info.size:
        raise _unreadable(file, "its header contradicts itself")
    flipped = np.flip(decoded, _FLIPS.get(orientation, ()))
    return cast(Pixels, np.ascontiguousarray(flipped))


def _unreadable(file: DataFile, why: str) -> UserError:
    return UserError(f"{file}: not a readable image ({why}). Fetch or save the file again.")


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
