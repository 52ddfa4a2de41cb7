"""What decoders of image files share: the header, PNG's pixels, the turn for display, damage."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pne_seg.data.data_file import DataFile
from pne_seg.errors import UserError

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Pixels of an image beyond which its header is not believed; Pillow's limit, kept if lifted."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
_ANIMATED = ("PNG", "WEBP")  # formats that can hold several frames
_ORIENTATION = 0x0112  # tags of EXIF and TIFF
_BITS_PER_SAMPLE, _COMPRESSION, _MAX_VALUE = 0x0102, 0x0103, 0x0119
_SUBFILE_TYPE, _NO_PAGE = 0x00FE, 0x1 | 0x4
_LOSSY_COMPRESSIONS = (6, 7, 34892, 50001)  # in TIFF: JPEG of three kinds, WebP
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations that swap height and width
_FLIPS = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}  # axes, after that
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk, which libpng reads nothing of

_BEGINNING = 352  # bytes that tell the kind of a file
_OTHER_KINDS = {
    b"GIF8": "a GIF image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"8BPS": "a Photoshop file",
    b"v/1\x01": "an OpenEXR image",
    b"DDS ": "a DDS image",
    b"qoif": "a QOI image",
    **{b"P%d" % number: "a PNM image (PBM, PGM, PPM)" for number in range(1, 8)},
    b"PF\n": "a PFM image",
    b"#?RA": "a Radiance HDR image",
    b"II\xbc\x01": "a JPEG XR image",
    b"gimp xcf": "a GIMP file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"MATLAB 5.0": "a MATLAB file",
    b"II*\0\x10\0\0\0CR": "a camera's raw file (Canon)",
    b"FUJIFILM": "a camera's raw file (Fujifilm)",
    b"IIRO": "a camera's raw file (Olympus)",
    b"IIU\0": "a camera's raw file (Panasonic)",
    b"\0\0\1\0": "an icon",
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, such as an SVG drawing",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"SIMPLE  =": "a FITS file",
    b"\x1f\x8b": "a gzip file",
    b"PK\3\4": "a zip archive",
    b"version https://git-lfs": "a pointer of Git LFS (run `git lfs pull` to fetch the image)",
    b"II*\0": "a TIFF file of a kind that is not supported",
    b"MM\0*": "a TIFF file of a kind that is not supported",
    b"II+\0": "a TIFF file of a kind that is not supported (BigTIFF)",
}

# It warns about color profiles, which many files have and nothing here reads.
logging.getLogger("imagecodecs").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says."""

    size: tuple[int, int]  # height and width in pixels, as displayed (EXIF rotation applied)
    format: str  # such as `JPEG` or `PNG`
    mode: str  # Pillow's: `RGB`, `L` (gray), `P` (palette), `CMYK`, `I;16`, …
    orientation: int  # how EXIF data turn the stored picture for display, 1 (not at all) to 8
    lossy: bool = False  # whether compression changes values
    depth: int = 8  # bits per channel in a TIFF or PNG file
    range: int | None = None  # the largest value that more than 8 bits hold, if a tag says it
    palette: bytes = b""  # red, green and blue of each index
    bits: int | None = None  # that were reduced to 8 in decoding, by `range` or as they are used

    @property
    def rotated(self) -> bool:
        """Whether the picture is displayed otherwise than it is stored."""
        return self.orientation != 1

    @property
    def on_its_side(self) -> bool:
        """Whether height and width are swapped for display."""
        return self.orientation in _ON_ITS_SIDE


def header_info(image: Image.Image) -> ImageInfo:
    """Return what the header of an opened image says."""
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
    lossy, depth, most = image.format in ("JPEG", "WEBP"), 8, None
    if isinstance(image, TiffImageFile):
        lossy = image.tag_v2.get(_COMPRESSION) in _LOSSY_COMPRESSIONS
        depth = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
        most = image.tag_v2.get(_MAX_VALUE)
        most = most[0] if isinstance(most, tuple) else most
    elif isinstance(image, PngImageFile) and image.tile:
        depth = 16 if str(image.tile[0][3]).endswith("16B") else 8
    palette = _palette(image) if image.mode == "P" else b""
    return ImageInfo(
        (height, width), str(image.format), image.mode, orientation, lossy, depth, most, palette
    )


def _palette(image: Image.Image) -> bytes:
    """Return red, green and blue of each index, without decoding, as `getpalette` would."""
    if image.palette is None:
        return b""
    order, colors = image.palette.rawmode or image.palette.mode, bytes(image.palette.palette)
    if order == "RGB":
        return colors
    converted = Image.new("P", (1, 1))
    converted.putpalette(colors, order)
    return bytes(converted.getpalette() or ())


def kind_of(beginning: bytes) -> str | None:
    """Name the kind of a file that is no image to read, by its first bytes; None if unknown."""
    if beginning[4:8] == b"ftyp":
        return (
            "an AVIF image" if beginning[8:11] == b"avi" else "a HEIF image or a video (ISO media)"
        )
    if beginning[128:132] == b"DICM":
        return "a DICOM file"
    if beginning[344:348] in (b"n+1\0", b"ni1\0"):
        return "a NIfTI volume"
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()  # of XML
    for start, kind in _OTHER_KINDS.items():
        if beginning.startswith(start) or (start.startswith(b"<") and text.startswith(start)):
            return kind
    return None


@contextmanager
def opened_image(file: DataFile, stream: BinaryIO) -> Iterator[Image.Image]:
    """Open a file in Pillow and check its size; an error meanwhile names the file."""
    try:
        with Image.open(stream, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if isinstance(image, TiffImageFile):
                _check_pages(file, image)
            elif image.format in _ANIMATED and (frames := getattr(image, "n_frames", 1)) > 1:
                raise UserError(
                    f"{file}: is an animation of {frames} frames, of which only one would be "
                    "read. Save one frame as PNG."
                )
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{file}: its header claims more pixels than are believed ({MAX_PIXELS} at most), as a "
            "decompression bomb does. Cut a real image of that size into tiles."
        ) from error
    except Exception as error:  # Pillow's readers fail in many ways on damaged files
        if not isinstance(error, UnidentifiedImageError):
            raise unreadable(file, str(error)) from error
        stream.seek(0)
        if kind := kind_of(stream.read(_BEGINNING)):
            raise UserError(
                f"{file}: is {kind}; files must be JPEG, PNG, BMP, WebP or TIFF images, of up to "
                "four channels. Convert it, such as to PNG."
            ) from error
        why = "no JPEG, PNG, BMP, WebP or TIFF, or its header is damaged"
        raise unreadable(file, why) from error


def _check_pages(file: DataFile, image: TiffImageFile) -> None:
    """Refuse a TIFF file of several pages, small versions and transparency masks not counted."""
    for number in range(1, image.n_frames):
        image.seek(number)
        if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _NO_PAGE:
            raise UserError(
                f"{file}: has {image.n_frames} pages, of which only one would be read. Save each "
                "page as a file of its own."
            )
    image.seek(0)


def decode_png(file: DataFile, data: bytes) -> npt.NDArray[Any]:
    """Decode to (H, W, channels), uint8 or uint16; the pixels' checksums are verified."""
    if data.rfind(_PNG_END) < 0:
        raise unreadable(file, "it is cut short, or its end is damaged")
    try:
        decoded = imagecodecs.png_decode(data)
    except (RuntimeError, ValueError) as error:
        raise unreadable(file, f"its pixels are damaged or missing: {error}") from error
    return np.asarray(decoded).reshape(*decoded.shape[:2], -1)


def displayed(file: DataFile, decoded: npt.NDArray[Any], info: ImageInfo) -> Pixels:
    """Turn a picture as its EXIF data say."""
    # OpenCV turns TIFF files in any case; the others here, so that `read_info` agrees.
    orientation = 1 if info.format == "TIFF" else info.orientation
    if orientation in _ON_ITS_SIDE:
        decoded = decoded.swapaxes(0, 1)
    if decoded.shape[:2] != info.size:
        raise unreadable(file, "its header contradicts itself")
    flipped = np.flip(decoded, _FLIPS.get(orientation, ()))
    return cast(Pixels, np.ascontiguousarray(flipped))


def unreadable(file: DataFile, why: str) -> UserError:
    """Return the error of a file that is damaged or of an unknown kind."""
    return UserError(f"{file}: not a readable image ({why}). Fetch or save the file again.")
