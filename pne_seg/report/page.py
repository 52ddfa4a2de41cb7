"""Pages of pictures: a heading, a grid of captioned pictures and legends, saved as a PNG file."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pne_seg.files import save_atomically
from pne_seg.report.colours import Colour, Pixels

_MIN_COLUMN = 190  # narrower columns leave no room for their titles, pixels
_GAP = 8
_GROUP_GAP = 28
_MARGIN = 24
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (34, 34, 34)
_FAINT_INK: Colour = (100, 100, 100)
_FRAME: Colour = (170, 170, 170)


@dataclass(frozen=True)
class Cell:
    """A picture of the grid; a caption may reach over the cells without one at its right."""

    picture: Pixels
    caption: str = ""


@dataclass(frozen=True)
class Legend:
    """Colours with their meanings, under a name."""

    name: str
    entries: Sequence[tuple[str, Colour]]


def save_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    columns: Sequence[str],
    group: int,
    rows: Sequence[Sequence[Cell]],
    legends: Sequence[Legend],
) -> None:
    """Lay out a page and save it.

    Args:
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.
        columns: the title of each column.
        group: so many columns belong together; a wider gap parts them from the next.
        rows: the grid, one cell a column; the last row may be shorter.
        legends: set below the grid, one under the other.
    """
    cells = [cell for row in rows for cell in row]
    column = max(_MIN_COLUMN, *(cell.picture.shape[1] for cell in cells))
    lefts = [
        _MARGIN + index * (column + _GAP) + (index // group) * (_GROUP_GAP - _GAP)
        for index in range(len(columns))
    ]
    page = _Page(width=lefts[-1] + column + _MARGIN)

    heading = _font(24, bold=True)
    page.y += 8 + page.text(
        _MARGIN, page.y, title, heading, width=page.width - 2 * _MARGIN, pitch=32
    )
    bold = _font(16, bold=True)
    for left, name in zip(lefts, columns, strict=True):
        page.text(left + column / 2, page.y, name, bold, anchor="ma")
    page.y += 26

    for row in rows:
        _draw_row(page, row, lefts, column)
    page.y += 8
    for legend in legends:
        _draw_legend(page, legend)

    picture = page.finish()
    # A fast compression level: photographs hardly shrink further.
    save_atomically(path, lambda file: picture.save(file, format="PNG", compress_level=3))


def _draw_row(page: "_Page", row: Sequence[Cell], lefts: Sequence[int], column: int) -> None:
    captioned = [index for index, cell in enumerate(row) if cell.caption]
    if captioned:
        font = _font(15)
        heights = []
        for index, end in zip(captioned, [*captioned[1:], len(row)], strict=True):
            left, width = lefts[index], lefts[end - 1] + column - lefts[index]
            heights.append(
                page.text(left, page.y, row[index].caption, font, width=width, ink=_FAINT_INK)
            )
        page.y += max(heights) + 2
    height = max(cell.picture.shape[0] for cell in row)
    for cell, left in zip(row, lefts, strict=False):  # the last row may be short
        own_height, own_width = cell.picture.shape[:2]
        x = left + (column - own_width) // 2
        page.picture(x, page.y + (height - own_height) // 2, cell.picture)
    page.y += height + (14 if captioned else _GAP)


def _draw_legend(page: "_Page", legend: Legend) -> None:
    """Swatches with names in columns of equal width."""
    entries = legend.entries
    if not entries:
        return
    font = _font(15)
    page.text(_MARGIN, page.y, legend.name, _font(16, bold=True))
    page.y += 26
    swatch, indent = 18, 26
    width = page.width - 2 * _MARGIN
    longest = max(font.getlength(text) for text, _ in entries)
    step = min(float(width), indent + longest + 24)
    per_line = min(len(entries), int(width // step))
    per_line = math.ceil(len(entries) / math.ceil(len(entries) / per_line))  # evenly filled
    step = max(step, min(width / per_line, 200.0))
    for start in range(0, len(entries), per_line):
        heights = []
        for number, (text, colour) in enumerate(entries[start : start + per_line]):
            x = _MARGIN + number * step
            page.swatch((x, page.y, x + swatch, page.y + swatch), colour)
            middle = page.y + swatch / 2
            heights.append(
                page.text(x + indent, middle, text, font, width=step - indent, anchor="lm")
            )
        page.y += max(heights) + 6
    page.y += 8


class _Page:
    """Drawing calls, noted while the page's height is not yet known, then carried out."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.y = _MARGIN
        self._calls: list[Callable[[Image.Image, ImageDraw.ImageDraw], object]] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        font: ImageFont.FreeTypeFont,
        *,
        width: float = math.inf,
        pitch: int = 20,
        ink: Colour = _INK,
        anchor: str = "la",
    ) -> int:
        """Write a text in lines of at most `width`, `pitch` apart; return how tall they are."""
        lines = _wrap(text, font, width)

        def write(_: Image.Image, draw: ImageDraw.ImageDraw) -> None:
            for number, line in enumerate(lines):
                draw.text((x, y + pitch * number), line, fill=ink, font=font, anchor=anchor)

        self._calls.append(write)
        return pitch * len(lines)

    def picture(self, x: int, y: int, picture: Pixels) -> None:
        """Set a picture with its top left corner at (x, y)."""
        self._calls.append(lambda page, _: page.paste(Image.fromarray(picture), (x, y)))

    def swatch(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Draw a patch of a colour."""
        self._calls.append(
            lambda _, draw: draw.rounded_rectangle(box, radius=3, fill=colour, outline=_FRAME)
        )

    def finish(self) -> Image.Image:
        """Carry out all calls, on a page that ends a margin below `y`."""
        page = Image.new("RGB", (self.width, self.y + _MARGIN), _PAPER)
        draw = ImageDraw.Draw(page)
        for call in self._calls:
            call(page, draw)
        return page


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # Imported here: matplotlib is slow to load. Its font is the one of the plots, and is installed
    # with it on every system.
    import matplotlib

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", file), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into lines that fit: at spaces, and inside words that are too long."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
