"""Label maps as colours, overlays, maps of wrong pixels, and mosaics of them.

Images are (H, W, 3) uint8 RGB, labels and predictions (H, W) integers, palettes (C, 3) in 0..255.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pne_seg.files import save_atomically

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]  # any integer type
Colour = tuple[int, int, int]

# A vermilion rather than a pure red: to a red-blind eye pure red is as dark as the dimmed image,
# this one keeps another hue and is as light as the lightest gray of `error_map`.
WRONG: Colour = (255, 80, 30)
IGNORED: Colour = (24, 44, 140)
DARKEST_RIGHT = 32
RIGHT_CONTRAST = 0.36

MAX_IMAGES = 8
MAX_LEGEND = 30  # with more classes than this, a legend lists those on show only

_CELL = (400, 300)  # width and height that a picture of a mosaic is fitted into, pixels
_MIN_COLUMN = 190  # narrower columns leave no room for their titles, pixels
_GAP = 8
_GROUP_GAP = 28
_MARGIN = 24
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (34, 34, 34)
_FAINT_INK: Colour = (100, 100, 100)
_FRAME: Colour = (170, 170, 170)


def colour_labels(labels: Labels, palette: npt.ArrayLike, ignore_index: int) -> Pixels:
    """Colour a label map.

    Args:
        labels: (H, W) integers, each a class (0..C-1) or `ignore_index`.
        palette: (C, 3) colours, 0..255.
        ignore_index: the value shown black.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: a label is neither a class nor `ignore_index`, or a shape is wrong.
    """
    colours = _checked_palette(palette)
    labels = _checked_labels(labels, len(colours), ignore_index, "labels")
    ignored = labels == ignore_index
    picture: Pixels = colours[np.where(ignored, 0, labels)]
    picture[ignored] = 0
    return picture


def overlay(
    image: Pixels,
    labels: Labels,
    palette: npt.ArrayLike,
    ignore_index: int,
    opacity: float = 0.5,
) -> Pixels:
    """Lay the colours of a label map over its image; ignored pixels are darkened.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) integers, each a class (0..C-1) or `ignore_index`.
        palette: (C, 3) colours, 0..255.
        ignore_index: the value without a class.
        opacity: 0 shows the image alone, 1 the colours alone.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: sizes differ, a label is out of range, or `opacity` is outside 0..1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity}")
    image = _checked_image(image)
    colours = colour_labels(labels, palette, ignore_index)
    _check_same_size(image, colours, "labels")
    mixed = image * np.float32(1 - opacity) + colours * np.float32(opacity)
    return np.rint(mixed).astype(np.uint8)


def error_map(
    image: Pixels, labels: Labels, prediction: Labels, ignore_index: int
) -> npt.NDArray[np.uint8]:
    """Show where a prediction is wrong.

    Right pixels show the image in dimmed gray, wrong ones `WRONG`, ignored ones `IGNORED`.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) integers.
        prediction: (H, W) integers.
        ignore_index: pixels with this label are neither right nor wrong.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the sizes differ.
    """
    image = _checked_image(image)
    labels, prediction = np.asarray(labels), np.asarray(prediction)
    _check_same_size(image, labels, "labels")
    _check_same_size(image, prediction, "prediction")
    luma = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
    gray = np.rint(DARKEST_RIGHT + RIGHT_CONTRAST * luma).astype(np.uint8)
    picture = np.repeat(gray[..., None], 3, axis=2)
    picture[labels != prediction] = WRONG
    picture[labels == ignore_index] = IGNORED
    return picture


def training_mosaic(
    images: Sequence[Pixels],
    labels: Sequence[Labels],
    *,
    class_names: Sequence[str],
    palette: npt.ArrayLike,
    ignore_index: int,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Save a mosaic of training images, each beside its labels laid over it.

    Args:
        images: (H, W, 3) uint8 each, as augmented; the first `MAX_IMAGES` are drawn.
        labels: (H, W) integers each.
        class_names: C names.
        palette: (C, 3) colours, 0..255.
        ignore_index: the label without a class.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.

    Raises:
        ValueError: nothing to draw, lists of different lengths, or a label out of range.
    """
    colours = _checked_palette(palette, class_names)
    _check_equally_many(images=images, labels=labels)
    _check_labels_of_all(labels, len(colours), ignore_index, "labels")

    cells: list[_Cell] = []
    shown: list[Labels] = []
    for image, label in list(zip(images, labels, strict=True))[:MAX_IMAGES]:
        small_image, small_label = _shrink(image, label)
        shown.append(small_label)
        cells.append(_Cell(small_image))
        cells.append(_Cell(overlay(small_image, small_label, colours, ignore_index, opacity=0.55)))
    pairs = 1 if len(shown) == 1 else 2
    _compose(
        title=title,
        columns=["image", "labels over it"] * pairs,
        group=2,
        rows=[cells[start : start + 2 * pairs] for start in range(0, len(cells), 2 * pairs)],
        legends=[("Classes", _class_legend(shown, class_names, colours, ignore_index))],
        path=path,
    )


def validation_mosaic(
    images: Sequence[Pixels],
    labels: Sequence[Labels],
    predictions: Sequence[Labels],
    *,
    names: Sequence[str],
    class_names: Sequence[str],
    palette: npt.ArrayLike,
    ignore_index: int,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Save a mosaic with a row per image: image, label, prediction, map of wrong pixels.

    The pixel accuracy in a row is that of the whole image at its own size, ignored pixels left out.

    Args:
        images: (H, W, 3) uint8 each, of any sizes; the first `MAX_IMAGES` are drawn.
        labels: (H, W) integers each.
        predictions: (H, W) integers each.
        names: a heading for each row, such as the file name.
        class_names: C names.
        palette: (C, 3) colours, 0..255.
        ignore_index: the label without a class.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.

    Raises:
        ValueError: nothing to draw, lists of different lengths, sizes that differ, or a label or
            prediction out of range.
    """
    colours = _checked_palette(palette, class_names)
    _check_equally_many(images=images, labels=labels, predictions=predictions, names=names)
    _check_labels_of_all(labels, len(colours), ignore_index, "labels")
    _check_labels_of_all(predictions, len(colours), ignore_index, "predictions")

    rows: list[list[_Cell]] = []
    shown: list[Labels] = []
    everything = list(zip(images, labels, predictions, names, strict=True))[:MAX_IMAGES]
    for image, label, prediction, name in everything:
        small_image, small_label, small_prediction = _shrink(image, label, prediction)
        shown += [small_label, small_prediction]
        rows.append(
            [
                _Cell(small_image, str(name)),
                _Cell(colour_labels(small_label, colours, ignore_index)),
                _Cell(colour_labels(small_prediction, colours, ignore_index)),
                _Cell(
                    error_map(small_image, small_label, small_prediction, ignore_index),
                    f"pixel accuracy {_accuracy(label, prediction, ignore_index)}",
                ),
            ]
        )
    middle_gray = round(DARKEST_RIGHT + RIGHT_CONTRAST * 128)
    _compose(
        title=title,
        columns=["image", "label", "prediction", "wrong pixels"],
        group=4,
        rows=rows,
        legends=[
            ("Classes", _class_legend(shown, class_names, colours, ignore_index)),
            (
                "Wrong pixels",
                [
                    ("wrong", WRONG),
                    ("right (the image, dimmed)", (middle_gray,) * 3),
                    ("ignored", IGNORED),
                ],
            ),
        ],
        path=path,
    )


# ---- checks ----------------------------------------------------------------------------------


def _checked_palette(palette: npt.ArrayLike, class_names: Sequence[str] | None = None) -> Pixels:
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) == 0:
        raise ValueError(f"a palette has shape (classes, 3), not {colours.shape}")
    if colours.dtype.kind not in "ui" or colours.min() < 0 or colours.max() > 255:
        raise ValueError("palette colours are whole numbers from 0 to 255")
    if class_names is not None and len(class_names) != len(colours):
        raise ValueError(f"{len(class_names)} class names but {len(colours)} colours")
    return colours.astype(np.uint8)


def _checked_labels(labels: Labels, num_classes: int, ignore_index: int, what: str) -> Labels:
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"{what} have shape (height, width), not {labels.shape}")
    if labels.dtype.kind not in "uib":
        raise ValueError(f"{what} are integers, not {labels.dtype}")
    bad = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)
    if bad.any():
        values = np.unique(labels[bad])
        listed = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
        raise ValueError(
            f"{what} hold {listed}, which is neither a class (0 to {num_classes - 1}) "
            f"nor the ignore index ({ignore_index})"
        )
    return labels


def _check_labels_of_all(
    maps: Sequence[Labels], num_classes: int, ignore_index: int, what: str
) -> None:
    # At full size: a few bad pixels may not survive the shrinking.
    for labels in maps[:MAX_IMAGES]:
        _checked_labels(labels, num_classes, ignore_index, what)


def _checked_image(image: Pixels) -> Pixels:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an image is uint8 of shape (height, width, 3), not {image.dtype} {image.shape}"
        )
    return image


def _check_same_size(image: Pixels, other: Labels, what: str) -> None:
    if image.shape[:2] != other.shape[:2]:
        raise ValueError(f"image {image.shape[:2]} and {what} {other.shape[:2]} differ in size")


def _check_equally_many(**lists: Sequence[object]) -> None:
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"as many of each are needed, not {counted}")
    if 0 in lengths.values():
        raise ValueError("no image to draw")


# ---- parts of a mosaic -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    picture: Pixels
    caption: str = ""


def _accuracy(label: Labels, prediction: Labels, ignore_index: int) -> str:
    counted = label != ignore_index
    total = int(np.count_nonzero(counted))
    if total == 0:
        return "n/a"
    return f"{100 * np.count_nonzero((label == prediction) & counted) / total:.1f}%"


def _shrink(image: Pixels, *maps: Labels) -> list[Any]:
    """Fit an image and its label maps into a mosaic cell, keeping the aspect ratio."""
    image = _checked_image(image)
    for labels in maps:
        _check_same_size(image, np.asarray(labels), "labels")
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        raise ValueError(f"an image of size {height} × {width} cannot be drawn")
    scale = min(_CELL[0] / width, _CELL[1] / height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (new_width, new_height),
        Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC,
        reducing_gap=3.0,  # a box filter first: several times faster for large images
    )
    # The source pixel under each new pixel's centre; a class number must not be interpolated.
    rows = ((np.arange(new_height) + 0.5) * height / new_height).astype(int)
    columns = ((np.arange(new_width) + 0.5) * width / new_width).astype(int)
    return [np.asarray(resized)] + [np.asarray(labels)[np.ix_(rows, columns)] for labels in maps]


def _class_legend(
    shown: Sequence[Labels], class_names: Sequence[str], palette: Pixels, ignore_index: int
) -> list[tuple[str, Colour]]:
    """Names and colours: all classes, or those on show where there are many."""
    values = np.unique(np.concatenate([labels.ravel() for labels in shown]))
    present = set(values.tolist())
    entries: list[tuple[str, Colour]] = []
    for index, (name, colour) in enumerate(zip(class_names, palette, strict=True)):
        if index != ignore_index and (len(class_names) <= MAX_LEGEND or index in present):
            entries.append((str(name), (int(colour[0]), int(colour[1]), int(colour[2]))))
    if ignore_index in present:
        entries.append(("ignored", (0, 0, 0)))
    return entries


# ---- layout ----------------------------------------------------------------------------------


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
        ink: Colour = _INK,
        anchor: str = "la",
    ) -> None:
        self._calls.append(
            lambda _, draw: draw.text((x, y), text, fill=ink, font=font, anchor=anchor)
        )

    def picture(self, x: int, y: int, picture: Pixels) -> None:
        self._calls.append(lambda page, _: page.paste(Image.fromarray(picture), (x, y)))

    def swatch(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        self._calls.append(
            lambda _, draw: draw.rounded_rectangle(box, radius=3, fill=colour, outline=_FRAME)
        )

    def finish(self) -> Image.Image:
        page = Image.new("RGB", (self.width, self.y + _MARGIN), _PAPER)
        draw = ImageDraw.Draw(page)
        for call in self._calls:
            call(page, draw)
        return page


def _compose(
    *,
    title: str,
    columns: Sequence[str],
    group: int,
    rows: Sequence[Sequence[_Cell]],
    legends: Sequence[tuple[str, Sequence[tuple[str, Colour]]]],
    path: str | os.PathLike[str],
) -> None:
    """Lay out a heading, a grid of pictures (`group` columns belong together) and legends."""
    cells = [cell for row in rows for cell in row]
    column = max(_MIN_COLUMN, *(cell.picture.shape[1] for cell in cells))
    lefts = [
        _MARGIN + index * (column + _GAP) + (index // group) * (_GROUP_GAP - _GAP)
        for index in range(len(columns))
    ]
    page = _Page(width=lefts[-1] + column + _MARGIN)

    heading = _font(24, bold=True)
    for line in _wrap(title, heading, page.width - 2 * _MARGIN):
        page.text(_MARGIN, page.y, line, heading)
        page.y += 32
    page.y += 8

    small_bold, small = _font(16, bold=True), _font(15)
    for left, name in zip(lefts, columns, strict=True):
        page.text(left + column / 2, page.y, name, small_bold, anchor="ma")
    page.y += 26

    for row in rows:
        _draw_row(page, row, lefts, column, small)
    page.y += 8
    for name, entries in legends:
        if entries:
            _draw_legend(page, name, entries)

    picture = page.finish()
    # A fast compression level: photographs hardly shrink further.
    save_atomically(path, lambda file: picture.save(file, format="PNG", compress_level=3))


def _draw_row(
    page: _Page,
    row: Sequence[_Cell],
    lefts: Sequence[int],
    column: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    captioned = [index for index, cell in enumerate(row) if cell.caption]
    if captioned:
        lines_of_row = 0
        ends = [*captioned[1:], len(row)]
        for index, end in zip(captioned, ends, strict=True):
            right = lefts[end - 1] + column
            lines = _wrap(row[index].caption, font, right - lefts[index])
            for number, line in enumerate(lines):
                page.text(lefts[index], page.y + 20 * number, line, font, _FAINT_INK)
            lines_of_row = max(lines_of_row, len(lines))
        page.y += 20 * lines_of_row + 2
    height = max(cell.picture.shape[0] for cell in row)
    for cell, left in zip(row, lefts, strict=False):  # the last row may be short
        own_height, own_width = cell.picture.shape[:2]
        x = left + (column - own_width) // 2
        page.picture(x, page.y + (height - own_height) // 2, cell.picture)
    page.y += height + (14 if captioned else _GAP)


def _draw_legend(page: _Page, name: str, entries: Sequence[tuple[str, Colour]]) -> None:
    """Swatches with names in columns of equal width."""
    bold, font = _font(16, bold=True), _font(15)
    page.text(_MARGIN, page.y, name, bold)
    page.y += 26
    swatch, indent = 18, 26
    width = page.width - 2 * _MARGIN
    longest = max(font.getlength(text) for text, _ in entries)
    step = min(float(width), indent + longest + 24)
    per_line = min(len(entries), int(width // step))
    per_line = math.ceil(len(entries) / math.ceil(len(entries) / per_line))  # evenly filled
    step = max(step, min(width / per_line, 200.0))
    for start in range(0, len(entries), per_line):
        lines_of_row = 1
        for number, (text, colour) in enumerate(entries[start : start + per_line]):
            x = _MARGIN + number * step
            page.swatch((x, page.y, x + swatch, page.y + swatch), colour)
            lines = _wrap(text, font, step - indent)
            for line_number, line in enumerate(lines):
                middle = page.y + swatch / 2 + 20 * line_number
                page.text(x + indent, middle, line, font, anchor="lm")
            lines_of_row = max(lines_of_row, len(lines))
        page.y += 20 * lines_of_row + 6
    page.y += 8
