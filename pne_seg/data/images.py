"""Decoding: image files to RGB, label files to the values they hold; damage is an error."""

import io
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pne_seg.data import png
from pne_seg.data.sources import DataFile
from pne_seg.errors import UserError

Pixels = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""What image files may be called, in lower case."""

MAX_PIXELS = 2**28
"""Pixels of an image beyond which its header is not believed: 16384 × 16384."""

_ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = (5, 6, 7, 8)  # its values that swap height and width
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says.

    Attributes:
        size: height and width in pixels, as displayed (EXIF rotation applied).
        format: such as `JPEG` or `PNG`.
        mode: Pillow's name of the pixels: `RGB`, `L` (grey), `P` (palette), `CMYK`, `I;16`, …
        rotated: whether EXIF data turn or mirror the picture for display.
    """

    size: tuple[int, int]
    format: str
    mode: str
    rotated: bool


def read_info(file: DataFile) -> ImageInfo:
    """Read the header alone.

    Raises:
        UserError: the file is missing, no image, or too large to be true.
    """
    try:
        with file.open() as stream, Image.open(stream) as image:
            width, height = image.size
            orientation = image.getexif().get(_ORIENTATION, 1) if image.format != "PNG" else 1
            info = ImageInfo(
                (width, height) if orientation in _ON_ITS_SIDE else (height, width),
                str(image.format),
                image.mode,
                orientation not in (0, 1),
            )
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: {_bomb(str(error))}") from error
    except UserError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise _unreadable(file, str(error)) from error
    _check_pixels(file, width, height)
    return info


def read_image(file: DataFile) -> Pixels:
    """Read a colour image as (H, W, 3) RGB, turned as its EXIF data say.

    Raises:
        UserError: the file is missing, no image, damaged, cut short, or too large to be true.
    """
    data = file.read_bytes()
    if png.is_png(data):
        data = _prepare_png(file, data)
    else:
        _check_other(file, data)
    return cast(Pixels, _decode(file, data, cv2.IMREAD_COLOR_RGB))


def read_labels(file: DataFile) -> Pixels:
    """Read an 8-bit label image of one channel as (H, W), its values untouched.

    A palette image gives its indices, one of 1, 2 or 4 bits the values that its bits stand for.

    Raises:
        UserError: the file is missing, no image, damaged, or of another depth or number of
            channels.
    """
    data = file.read_bytes()
    if not png.is_png(data):
        _check_other(file, data)
        labels = _decode(file, data, cv2.IMREAD_UNCHANGED)
        _check_one_channel(file, labels.shape[2] if labels.ndim == 3 else 1, labels.itemsize * 8)
        return cast(Pixels, labels)
    header = _png_header(file, data)
    _check_one_channel(file, header.channels, header.depth)
    data = _prepare_png(file, data, as_grayscale=header.colour_type == png.PALETTE)
    labels = _decode(file, data, cv2.IMREAD_UNCHANGED)
    if header.depth < 8:
        # OpenCV spreads fewer bits over 0..255.
        labels = labels // (255 // (2**header.depth - 1))
    return cast(Pixels, labels)


def check_label_mode(file: DataFile, mode: str) -> None:
    """Refuse Pillow's modes of more than one channel or 8 bits, as `read_labels` would.

    Raises:
        UserError: the image cannot hold labels.
    """
    if mode not in ("1", "L", "P"):
        channels = Image.getmodebands(mode)
        _check_one_channel(file, channels, 16 if channels == 1 else 8)


def _png_header(file: DataFile, data: bytes) -> png.Header:
    try:
        return png.read_header(data)
    except ValueError as error:
        raise _unreadable(file, str(error)) from error


def _prepare_png(file: DataFile, data: bytes, as_grayscale: bool = False) -> bytes:
    header = _png_header(file, data)
    _check_pixels(file, header.width, header.height)
    try:
        return png.uncompressed(data, as_grayscale)
    except ValueError as error:
        raise _unreadable(file, str(error)) from error


def _check_other(file: DataFile, data: bytes) -> None:
    """Refuse what OpenCV would decode in part, or decode for ever."""
    if data[:2] == b"\xff\xd8":
        try:
            width, height, scan = _jpeg_header(data)
        except (IndexError, ValueError) as error:
            raise _unreadable(file, "its header is damaged") from error
        if data.rfind(b"\xff\xd9") < scan:
            raise _unreadable(file, "it is cut short")
    else:
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
        except Image.DecompressionBombError as error:
            raise UserError(f"{file}: {_bomb(str(error))}") from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise _unreadable(file, "it is no image of a known format") from error
    _check_pixels(file, width, height)


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Width, height and where the first scan begins; the end marker must come after that.

    A thumbnail inside the header has an end marker of its own (ITU-T T.81, annex B).
    """
    place, sides = 2, None
    while True:
        if data[place] != 0xFF:
            raise ValueError
        kind = data[place + 1]
        if kind == 0xFF:  # a filler
            place += 1
            continue
        if kind in _JPEG_WITHOUT_LENGTH:
            place += 2
            continue
        if kind in _JPEG_FRAMES:
            height = int.from_bytes(data[place + 5 : place + 7], "big")
            sides = int.from_bytes(data[place + 7 : place + 9], "big"), height
        if kind == 0xDA:
            if sides is None:
                raise ValueError
            return *sides, place
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def _decode(file: DataFile, data: bytes, flags: int) -> npt.NDArray[np.integer]:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise _unreadable(file, "it cannot be decoded") from error
    if decoded is None:
        raise _unreadable(file, "it cannot be decoded")
    return cast("npt.NDArray[np.integer]", decoded)


def _check_one_channel(file: DataFile, channels: int, depth: int) -> None:
    if channels == 1 and depth <= 8:
        return
    what = f"{depth} bits a channel" if channels == 1 else f"{channels} channels (colours)"
    mend = (
        "Save its class indices with 8 bits."
        if channels == 1
        else "Convert it to class indices; Folder also takes colours, with a table of them: "
        "--data.classes with name: [red, green, blue]."
    )
    raise UserError(f"{file}: labels must be 8-bit images of one channel, this has {what}. {mend}")


def _check_pixels(file: DataFile, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{file}: {_bomb(f'{width}×{height} pixels')}")


def _bomb(what: str) -> str:
    return (
        f"its header claims more pixels than are believed ({what}; {MAX_PIXELS} at most), as a "
        "decompression bomb does. Cut a real image of that size into tiles."
    )


def _unreadable(file: DataFile, why: str) -> UserError:
    return UserError(f"{file}: not a readable image ({why}). Fetch or save the file again.")
