"""PNG files as no common library writes them: every kind, filter, interlaced, in small chunks."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
KINDS = [
    *((GRAY, depth) for depth in (1, 2, 4, 8, 16)),
    *((PALETTE, depth) for depth in (1, 2, 4, 8)),
    *((kind, depth) for kind in (RGB, GRAY_ALPHA, RGBA) for depth in (8, 16)),
]
"""Color types with their depths, all that the format has."""
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
COLORS = [(index * 37 % 256, index * 91 % 256, index * 151 % 256) for index in range(256)]
"""The palette."""

Values = npt.NDArray[np.integer]


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with its checksum."""
    check = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")


def header(width: int, height: int, depth: int, kind: int, interlaced: bool = False) -> bytes:
    """The chunk IHDR."""
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return chunk(b"IHDR", sides + bytes([depth, kind, 0, 0, interlaced]))


def encode(
    values: Values,
    kind: int,
    depth: int = 8,
    filters: Sequence[int] = (0, 1, 2, 3, 4),
    interlaced: bool = False,
    chunk_size: int = 10**9,
    extra: Iterable[bytes] = (),
) -> bytes:
    """A PNG of (H, W) or (H, W, channels) values.

    Args:
        values: 0 to 2^depth − 1.
        kind: the color type.
        depth: bits a channel.
        filters: taken in turn for the rows.
        interlaced: by Adam7.
        chunk_size: bytes of compressed pixels in one chunk.
        extra: chunks before the pixels.
    """
    height, width = values.shape[:2]
    pixels = zlib.compress(filtered(values, depth, filters, interlaced))
    pieces = (pixels[at : at + chunk_size] for at in range(0, len(pixels), chunk_size))
    colors = bytes(part for color in COLORS[: 2**depth] for part in color)
    chunks = [
        header(width, height, depth, kind, interlaced),
        chunk(b"PLTE", colors) if kind == PALETTE else b"",
        *extra,
        *(chunk(b"IDAT", piece) for piece in pieces),
        chunk(b"IEND", b""),
    ]
    return SIGNATURE + b"".join(chunks)


def filtered(values: Values, depth: int, filters: Sequence[int], interlaced: bool) -> bytes:
    """What is to be compressed: https://www.w3.org/TR/png-3/, sections 7 to 9."""
    values = values.reshape(*values.shape[:2], -1)
    passes = [values]
    if interlaced:
        passes = [
            values[0::8, 0::8],
            values[0::8, 4::8],
            values[4::8, 0::4],
            values[0::4, 2::4],
            values[2::4, 0::2],
            values[0::2, 1::2],
            values[1::2, 0::1],
        ]
    return b"".join(_filtered(one, depth, filters) for one in passes if one.size)


def _filtered(values: Values, depth: int, filters: Sequence[int]) -> bytes:
    step = max(1, values.shape[2] * depth // 8)  # bytes from one pixel to the next
    out = b""
    above = None
    for number, row_values in enumerate(values):
        row = _packed(row_values.ravel(), depth)
        above = bytes(len(row)) if above is None else above
        kind = filters[number % len(filters)]
        out += bytes([kind])
        for place, byte in enumerate(row):
            left, corner = (row[place - step], above[place - step]) if place >= step else (0, 0)
            up = above[place]
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
            out += bytes([(byte - guess) % 256])
        above = row
    return out


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda near: abs(guess - near))


def _packed(values: Values, depth: int) -> bytes:
    bits = "".join(f"{value:0{depth}b}" for value in values.tolist())
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8))
