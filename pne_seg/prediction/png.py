"""Put a text or a palette into a PNG file that is encoded already.

Format: https://www.w3.org/TR/png-3/.
"""

import zlib
from collections.abc import Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER_END = 33  # the signature and the IHDR chunk
_GRAY_8, _PALETTE_8 = b"\x08\x00", b"\x08\x03"  # depth and color type


def is_png(data: bytes) -> bool:
    """Whether the file begins as a PNG does."""
    return data[:8] == SIGNATURE


def with_text(data: bytes, key: str, text: str) -> bytes:
    """Return the picture with a text in its file, right after the header.

    Args:
        data: a PNG file.
        key: 1 to 79 characters that say what the text is.
        text: Latin-1.
    """
    chunk = _chunk(b"tEXt", f"{key}\0{text}".encode("latin-1"))
    return data[:_HEADER_END] + chunk + data[_HEADER_END:]


def read_text(data: bytes, key: str) -> str | None:
    """Return what `with_text` wrote, None without it; the file's first 200 bytes suffice."""
    length = int.from_bytes(data[_HEADER_END : _HEADER_END + 4], "big")
    begin = b"tEXt" + key.encode("latin-1") + b"\0"
    content = data[_HEADER_END + 4 : _HEADER_END + 8 + length]
    if not is_png(data) or not content.startswith(begin):
        return None
    return content.removeprefix(begin).decode("latin-1")


def with_palette(data: bytes, palette: Sequence[Sequence[int]]) -> bytes:
    """Turn an 8-bit gray picture into one of indices into a palette, its pixels untouched.

    Args:
        data: a PNG file.
        palette: red, green and blue of each value that occurs, 0 to 255; at most 256.

    Raises:
        ValueError: the picture is of another kind, or there are too many colors.
    """
    if data[24:26] != _GRAY_8 or len(palette) > 256:
        raise ValueError("a palette has at most 256 colors and needs an 8-bit gray picture")
    header = _chunk(b"IHDR", data[16:24] + _PALETTE_8 + data[26:29])
    colors = _chunk(b"PLTE", bytes(value for color in palette for value in color))
    return SIGNATURE + header + colors + data[_HEADER_END:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + check.to_bytes(4, "big")
