"""Label maps in MATLAB files of version 5 (`save -v7` too), read in plain Python.

SciPy's reader ends the process on some damaged files, and unpacks whatever a few kilobytes claim.
Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import hashlib
import math
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.images import MAX_PIXELS, Pixels
from pne_seg.data.label_formats import IndexLabels, LabelFormat
from pne_seg.data.label_images import read_labels
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically

_HEADER_END = 128
_BYTE_ORDERS = {b"\0\1IM": "<", b"\1\0MI": ">"}  # the header's end: version and byte order
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
            13: "u8"}  # fmt: skip  # types of data
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # of a matrix: double to uint64; the others are texts, cells, …
_COMPLEX = 0x0800
_HEAD_SIZE = 4096  # bytes of a matrix before its values, at most


class MatLabels(LabelFormat):
    """COCO-Stuff 10k's `.mat` files, whose field `S` is the label map.

    `labels` maps its values. `cache` is a folder for the same maps as PNG files, which are faster
    to read; None makes none.
    """

    def __init__(self, labels: IndexLabels, cache: Path | None = None) -> None:
        self.labels = labels
        self.identity = labels.identity
        self.cache = cache

    def read(self, file: DataFile) -> Pixels:
        """Read and map."""
        return self.labels.apply(self._values(file), file)

    def size(self, file: DataFile) -> tuple[int, int]:
        """Read the whole file: its size is in no header."""
        height, width = self._values(file).shape
        return height, width

    def _values(self, file: DataFile) -> Pixels:
        """Read the file, or its copy in the cache."""
        if self.cache is None:
            return read_mat(file)
        # Named by what the file is, so that a changed one is read again.
        key = hashlib.blake2b(file.identity().encode(), digest_size=6).hexdigest()
        place = self.cache / f"{file.stem}-{key}.png"
        if place.is_file():
            with suppress(UserError):  # a damaged one is made again
                return read_labels(open_file(place))
        values = read_mat(file)
        try:
            write_bytes_atomically(place, cv2.imencode(".png", values)[1].tobytes())
        except OSError as error:
            raise UserError(
                f"{place}: cannot be written ({error.strerror}). Give another folder as "
                "label_cache."
            ) from error
        return values


def read_mat(file: DataFile) -> Pixels:
    """Read the label map `S` of a MATLAB file, (H, W), its values untouched."""
    data = file.read_bytes()
    try:
        values = _read_matrix(data, "S")
    except KeyError as error:
        raise UserError(
            f"{file}: has no field S, which holds the labels in COCO-Stuff 10k. Fetch it again."
        ) from error
    except ValueError as error:
        raise UserError(f"{file}: not a readable MATLAB file ({error}). Fetch it again.") from error
    if values is not None:
        with np.errstate(invalid="ignore"):  # not a number is found by the comparison
            labels = values.astype(np.uint8, order="C")
        if labels.size and (labels == values).all():
            return labels
    raise UserError(f"{file}: S must be a matrix of values from 0 to 255. Fetch it again.")


def _read_matrix(data: bytes, name: str) -> npt.NDArray[Any] | None:
    """Read a real matrix of numbers, (H, W); return None if it is something else, or too large."""
    order = _BYTE_ORDERS.get(data[124:_HEADER_END])
    if order is None:
        raise ValueError("no MATLAB file of version 5")
    for kind, content in _elements(memoryview(data)[_HEADER_END:], order):
        if kind not in (_MATRIX, _COMPRESSED):
            continue
        compressed = kind == _COMPRESSED
        begin = _inflated(content, _HEAD_SIZE)[8:] if compressed else content
        head = [part for _, part in islice(_elements(begin, order, cut_short=True), 3)]
        if len(head) < 3 or bytes(head[2]).decode("latin-1") != name:
            continue
        flags = int(np.frombuffer(head[0], f"{order}u4", 1)[0])
        shape = np.frombuffer(head[1], f"{order}i4").tolist()
        if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX or len(shape) != 2:
            return None
        if min(shape) < 0 or math.prod(shape) > MAX_PIXELS:
            return None
        if compressed:
            whole = _inflated(content, _HEAD_SIZE + 8 * math.prod(shape), whole=True)
            _, content = next(_elements(whole, order))
        parts = [*_elements(content, order)]
        if len(parts) < 4 or parts[3][0] not in _NUMBERS:
            raise ValueError("its values are missing")
        kind, values = parts[3]
        found = np.frombuffer(values, order + _NUMBERS[kind])  # columns come first
        if len(found) != math.prod(shape):
            raise ValueError("it holds other numbers of values than it says")
        return found.reshape(shape, order="F")
    raise KeyError(name)


def _elements(
    content: memoryview, order: str, cut_short: bool = False
) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of the elements, one after the other."""
    place = 0
    while place + 8 <= len(content):
        kind, size = np.frombuffer(content[place : place + 8], f"{order}u4").tolist()
        if kind >> 16:  # a small one: size, kind and up to four bytes in one tag
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            start = place + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(content):
            if cut_short:
                return
            raise ValueError("it is cut short")
        yield kind, content[start : start + size]
        place = end


def _inflated(content: memoryview, limit: int, whole: bool = False) -> memoryview:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(content, limit)
    except zlib.error as error:
        raise ValueError("its compressed values are damaged") from error
    if whole and not stream.eof:  # with its end, a checksum would be missing
        raise ValueError("it is cut short, or holds more than it says")
    return memoryview(inflated)
