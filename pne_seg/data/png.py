"""PNG files as their chunks: faster to inflate, indices read as what they are, texts put in.

Half of the time of decoding a PNG goes into zlib. Intel's ISA-L inflates the same bytes twice as
fast; the pixels then go to OpenCV in a PNG that holds them uncompressed, so that nothing of the
format's filters is done here. Format: https://www.w3.org/TR/png-3/.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from isal import igzip_lib, isal_zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAYSCALE, RGB, PALETTE, GRAYSCALE_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6

_HEADER_END = 33  # the signature and the IHDR chunk
_CHANNELS = {GRAYSCALE: 1, RGB: 3, PALETTE: 1, GRAYSCALE_ALPHA: 2, RGB_ALPHA: 4}
_DEPTHS = {GRAYSCALE: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}  # of the others: 8 and 16
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip  # first column and row of each pass, and its steps
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
        return _CHANNELS[self.colour_type]

    @property
    def filtered_size(self) -> int:
        """Bytes of the pixels before compression, with the filter's kind before each row."""
        size = 0
        for left, top, across, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if width > 0:
                size += height * (1 + (width * self.channels * self.depth + 7) // 8)
        return size


def is_png(data: bytes) -> bool:
    """Whether the file begins as a PNG does."""
    return data[:8] == SIGNATURE


def read_header(data: bytes) -> Header:
    """The header of a PNG.

    Raises:
        ValueError: the header is cut short or not as the format says.
    """
    if len(data) < _HEADER_END or data[8:16] != b"\0\0\0\x0dIHDR":
        raise ValueError("its header is damaged")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour_type, _, _, interlace = data[24:29]
    known = colour_type in _CHANNELS and depth in _DEPTHS.get(colour_type, (8, 16))
    if not (known and width and height and interlace <= 1):
        raise ValueError("its header is damaged")
    return Header(width, height, depth, colour_type, bool(interlace))


def uncompressed(data: bytes, as_grayscale: bool = False) -> bytes:
    """The same pixels stored as they are, for a decoder that would be slow to inflate them.

    What is not needed to decode (transparency, rotation, colour profiles) is left out.

    Args:
        data: a PNG file.
        as_grayscale: drops the palette, so that its indices decode as grey values.

    Raises:
        ValueError: a chunk is damaged, the file is cut short, or it holds more pixels than its
            header says.
    """
    header = read_header(data)
    colour_type = bytes([GRAYSCALE]) if as_grayscale else data[25:26]
    parts = [SIGNATURE, *_chunk(b"IHDR", [data[16:25], colour_type, data[26:29]])]
    pixels: list[memoryview] = []
    for kind, content in _chunks(data):
        if kind == b"IDAT":
            pixels.append(content)
        elif kind == b"PLTE" and not as_grayscale:
            parts += _chunk(kind, [content])
    stream = list(_stored(_inflated(pixels, header.filtered_size)))
    return b"".join([*parts, *_chunk(b"IDAT", stream), *_chunk(b"IEND", [])])


def with_text(data: bytes, key: str, text: str) -> bytes:
    """The picture with a text in its file, right after the header.

    Args:
        data: a PNG file.
        key: 1 to 79 characters that say what the text is.
        text: Latin-1.
    """
    chunk = _chunk(b"tEXt", [f"{key}\0{text}".encode("latin-1")])
    return b"".join([data[:_HEADER_END], *chunk, data[_HEADER_END:]])


def read_text(data: bytes, key: str) -> str | None:
    """What `with_text` put in, None where it did not; the file's first 200 bytes will do."""
    length = int.from_bytes(data[_HEADER_END : _HEADER_END + 4], "big")
    begin = b"tEXt" + key.encode("latin-1") + b"\0"
    content = data[_HEADER_END + 4 : _HEADER_END + 8 + length]
    if not is_png(data) or not content.startswith(begin):
        return None
    return content.removeprefix(begin).decode("latin-1")


def with_palette(data: bytes, palette: Sequence[Sequence[int]]) -> bytes:
    """An 8-bit grey picture as one of indices into a palette, its pixels untouched.

    Args:
        data: a PNG file.
        palette: red, green and blue of each value that occurs, 0 to 255; 256 at most.

    Raises:
        ValueError: the picture is of another kind, or there are too many colours.
    """
    header = read_header(data)
    if (header.colour_type, header.depth) != (GRAYSCALE, 8) or len(palette) > 256:
        raise ValueError("a palette has 256 colours at most, and goes with 8-bit grey pictures")
    parts = [SIGNATURE, *_chunk(b"IHDR", [data[16:25], bytes([PALETTE]), data[26:29]])]
    parts += _chunk(b"PLTE", [bytes(value for colour in palette for value in colour)])
    return b"".join([*parts, data[_HEADER_END:]])


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
        if isal_zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError("a checksum is wrong")
        yield kind, view[place + 8 : end]
        place = end + 4


def _chunk(kind: bytes, content: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    parts = [kind, *content]
    check = length = 0
    for part in parts:
        check = isal_zlib.crc32(part, check)
        length += len(part)
    yield (length - len(kind)).to_bytes(4, "big")
    yield from parts
    yield check.to_bytes(4, "big")


def _inflated(pixels: Iterable[memoryview], size: int) -> Iterator[bytes]:
    """What a zlib stream holds, which must be `size` bytes, in pieces that stay in the caches."""
    stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    left = size
    for content in pixels:
        given: bytes | memoryview = content
        while not stream.eof:
            try:
                piece = stream.decompress(given, _LONGEST_STORED)
            except igzip_lib.IsalError as error:  # type: ignore[misc]  # its stub is wrong
                raise ValueError(f"its pixels are damaged ({error})") from error
            left -= len(piece)
            if left < 0:
                raise ValueError("it holds more pixels than its header says")
            if piece:
                yield piece
            if stream.needs_input:
                break
            given = b""
    if left or not stream.eof:
        raise ValueError("pixels are missing")


def _stored(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A zlib stream (RFC 1950) of the pieces as uncompressed blocks."""
    check = 1  # where Adler-32 begins
    yield b"\x78\x01"
    for piece in pieces:
        length = len(piece)
        yield b"\0" + length.to_bytes(2, "little") + (length ^ 0xFFFF).to_bytes(2, "little")
        yield piece
        check = isal_zlib.adler32(piece, check)
    yield b"\1\0\0\xff\xff" + check.to_bytes(4, "big")  # an empty last block
