"""Palettes of masks: whether an index has one meaning in all of them."""

from collections.abc import Iterable, Sequence

import numpy as np

from pne_seg.data.data_file import DataFile
from pne_seg.data.decoding import opened_image
from pne_seg.data.label_images import read_labels
from pne_seg.description import Color
from pne_seg.errors import UserError

_MOST_DECODED = 10  # masks of different palettes, in the cheap look
_PNG, _PALETTE = b"\x89PNG", 3  # beginning of a file, and its color type
_STEP = {"RGB": 3, "BGR": 3, "RGBX": 4, "BGRX": 4, "RGBA": 4, "BGRA": 4}  # bytes of an entry


class Palettes:
    """Compares the palettes of masks, by the entries that are used.

    Programs that make a palette for each picture number the same color differently from mask to
    mask, so that the indices are no classes. Another color for the same index does no harm.
    """

    def __init__(self) -> None:
        self.conflicts = 0
        self.first = ""  # describes the first conflict
        self._seen: dict[Color, tuple[frozenset[int], str]] = {}

    def add(self, file: str, colors: Sequence[Color], used: Iterable[int]) -> None:
        """Take a mask in: its palette, and the indices that occur in it."""
        meant: dict[Color, set[int]] = {}
        for index in used:
            if index < len(colors):
                meant.setdefault(colors[index], set()).add(index)
        conflicting = False
        for color, indices in meant.items():
            before, other = self._seen.setdefault(color, (frozenset(indices), file))
            if indices.isdisjoint(before):
                conflicting = True
                self.first = self.first or (
                    f"{file}: the color {list(color)} has index {min(indices)}, in {other} index "
                    f"{min(before)}. Their palettes differ, so that the indices are no classes: "
                    "give the color of each class, classes={name: [red, green, blue]}, and masks "
                    "are read by color."
                )
        self.conflicts += conflicting


def check_palettes(files: Iterable[DataFile]) -> None:
    """Refuse masks of contradicting palettes; without decoding if all palettes are the same."""
    found: dict[tuple[Color, ...], DataFile] = {}
    for file in files:
        if colors := read_palette(file):
            found.setdefault(colors, file)
    palettes = Palettes()
    for colors, file in [*found.items()][:_MOST_DECODED] if len(found) > 1 else ():
        palettes.add(str(file), colors, np.flatnonzero(np.bincount(read_labels(file).ravel())))
    if palettes.first:
        raise UserError(palettes.first)


def read_palette(file: DataFile) -> tuple[Color, ...]:
    """Read the palette of an image from its header; nothing of images without one."""
    with file.open() as stream:
        head = stream.read(26)
        if head.startswith(_PNG) and head[25:] != bytes([_PALETTE]):
            return ()
        stream.seek(0)
        with opened_image(file, stream) as image:
            palette = image.palette
            if image.mode != "P" or palette is None:
                return ()
            order, data = palette.rawmode or palette.mode, bytes(palette.palette)
    if order == "RGB;L":  # TIFF: all reds, all greens, all blues
        planes = np.frombuffer(data, np.uint8).reshape(3, -1)
    elif order in _STEP:
        entries = np.frombuffer(data[: len(data) // _STEP[order] * _STEP[order]], np.uint8)
        planes = entries.reshape(-1, _STEP[order]).T
        planes = planes[[order.index(part) for part in "RGB"]]
    else:
        return ()
    return tuple((int(red), int(green), int(blue)) for red, green, blue in planes.T)
