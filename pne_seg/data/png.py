"""PNG files as their chunks: faster to inflate, and palette indices read as what they are.

Most of the time of decoding a PNG goes into zlib. Intel's ISA-L inflates the same bytes more than
twice as fast; the pixels then go to OpenCV in a PNG that holds them uncompressed, so that nothing
of the format's filters is done here. Format: https://www.w3.org/TR/png-3/.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from isal import isal_zlib
from isal.igzip_lib import IsalError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAYSCALE, RGB, PALETTE = 0, 2, 3

_CHANNELS = {GRAYSCALE: 1, RGB: 3, PALETTE: 1, 4: 2, 6: 4}
_LONGEST_STORED = 0xFFFF  # bytes in an uncompressed block of deflate (RFC 1951, 3.2.4)


@dataclass(frozen=True, slots=True)
class Header:
    """The IHDR chunk: sides in pixels, bits a channel, colour type and interlacing."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    @property
    def channels(self) -> int:
        """Values a pixel; the index into a palette counts as one."""
        return _CHANNELS.get(self.colour_type, 0)


def is_png(data: bytes) -> bool:
    """Whether the file begins as a PNG does."""
    return data[:8] == SIGNATURE


def read_header(data: bytes) -> Header:
    """The header of a PNG.

    Raises:
        ValueError: the header is cut short or not as the format says.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise ValueError("its header is damaged")
    depth, colour_type, interlace = data[24], data[25], data[28]
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if colour_type not in _CHANNELS or not width or not height:
        raise ValueError("its header is damaged")
    return Header(width, height, depth, colour_type, bool(interlace))


def uncompressed(data: bytes, as_grayscale: bool = False) -> bytes:
    """The same pixels stored as they are, for a decoder that would be slow to inflate them.

    What is not needed to decode (transparency, rotation, colour profiles) is left out.

    Args:
        data: a PNG file.
        as_grayscale: drops the palette, so that its indices decode as grey values.

    Raises:
        ValueError: a chunk is damaged, or the file is cut short.
    """
    header = read_header(data)
    kept: list[tuple[bytes, bytes | memoryview]] = []
    pixels: list[memoryview] = []
    for kind, content in _chunks(data):
        if kind == b"IDAT":
            pixels.append(content)
        elif kind == b"IHDR" and as_grayscale:
            kept.append((kind, bytes(content[:9]) + bytes([GRAYSCALE]) + bytes(content[10:])))
        elif kind in (b"IHDR", b"IEND") or (kind == b"PLTE" and not as_grayscale):
            kept.append((kind, content))
    row = 1 + (header.width * header.channels * header.depth + 7) // 8
    try:
        inflated = isal_zlib.decompress(b"".join(pixels), bufsize=row * header.height)
    except IsalError as error:  # type: ignore[misc]  # its stub takes it for an instance
        raise ValueError(f"its pixels are damaged ({error})") from error
    if not header.interlaced and len(inflated) < row * header.height:
        raise ValueError("pixels are missing")
    kept.insert(-1, (b"IDAT", b"".join(_stored(inflated))))
    parts: list[bytes | memoryview] = [SIGNATURE]
    for kind, body in kept:
        check = isal_zlib.crc32(body, isal_zlib.crc32(kind))
        parts += [len(body).to_bytes(4, "big"), kind, body, check.to_bytes(4, "big")]
    return b"".join(parts)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Each chunk's kind and content, their checksums verified."""
    view, place = memoryview(data), len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        end = place + 8 + length
        if end + 4 > len(data):
            raise ValueError("it is cut short")
        content = view[place + 8 : end]
        if isal_zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError("a checksum is wrong")
        yield kind, content
        place = end + 4


def _stored(pixels: bytes) -> Iterator[bytes | memoryview]:
    """A zlib stream (RFC 1950) of uncompressed blocks."""
    yield b"\x78\x01"
    view = memoryview(pixels)
    for start in range(0, len(pixels), _LONGEST_STORED):
        block = view[start : start + _LONGEST_STORED]
        last = start + _LONGEST_STORED >= len(pixels)
        length = len(block).to_bytes(2, "little")
        yield bytes([last]) + length + bytes(byte ^ 0xFF for byte in length)
        yield block
    yield isal_zlib.adler32(pixels).to_bytes(4, "big")
