"""Palettes of masks: whether an index has one meaning in all of them."""

from collections.abc import Iterable

import numpy as np

from pne_seg.data.data_file import DataFile
from pne_seg.data.images import read_info
from pne_seg.data.label_images import read_labels
from pne_seg.errors import UserError

_MOST_DECODED = 10  # masks of different palettes, in the cheap look


class Palettes:
    """Compares the palettes of masks, by the entries that are used.

    Programs that make a palette for each picture number the same color differently from mask to
    mask, so that the indices are no classes. Another color for the same index does no harm.
    """

    def __init__(self) -> None:
        self.conflicts = 0
        self.first = ""  # describes the first conflict
        self._seen: dict[bytes, tuple[str, bytes, int]] = {}  # by color: file, palette and index

    def add(self, file: str, palette: bytes, used: Iterable[int]) -> None:
        """Take a mask in: red, green and blue of each index, and the indices that occur in it."""
        conflicting = False
        for index in used:
            color = palette[3 * index : 3 * index + 3]
            other, before, known = self._seen.setdefault(color, (file, palette, index))
            # Several indices may have one color, such as the black that fills a palette up.
            if not color or before == palette or _indices(before, color) & _indices(palette, color):
                continue
            conflicting = True
            self.first = self.first or (
                f"{file}: the color {list(color)} has index {index}, in {other} index {known}. "
                "Their palettes differ, so that the indices are no classes: give the color of each "
                "class, classes={name: [red, green, blue]}, and masks are read by color."
            )
        self.conflicts += conflicting


def _indices(palette: bytes, color: bytes) -> set[int]:
    return {start // 3 for start in range(0, len(palette), 3) if palette.startswith(color, start)}


def check_palettes(files: Iterable[DataFile]) -> None:
    """Refuse masks of contradicting palettes; without decoding if all palettes are the same."""
    found: dict[bytes, DataFile] = {}
    for file in files:
        if palette := read_info(file).palette:
            found.setdefault(palette, file)
    palettes = Palettes()
    for palette, file in [*found.items()][:_MOST_DECODED] if len(found) > 1 else ():
        palettes.add(str(file), palette, np.unique(read_labels(file)))
    if palettes.first:
        raise UserError(palettes.first)
