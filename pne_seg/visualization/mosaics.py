"""Mosaics: the images of a batch beside their labels, and beside predictions and errors."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.visualization.colors import (
    IGNORED,
    RIGHT,
    WRONG,
    Labels,
    Pixels,
    check_same_size,
    checked_image,
    checked_labels,
    checked_palette,
    color_labels,
    error_map,
    overlay,
)
from pne_seg.visualization.figure import (
    DPI,
    GRAY,
    add_legend,
    add_title,
    figure_with_axes,
    text_style,
    wrap,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 8
_MAX_LEGEND = 30  # with more classes than this, a legend lists only those that are shown
_CELL = (400, 300)  # width and height that a picture is fitted into, pixels


def training_mosaic(
    images: Sequence[Pixels],
    labels: Sequence[Labels],
    *,
    class_names: Sequence[str],
    palette: npt.ArrayLike,
    ignore_index: int,
    title: str,
) -> "Figure":
    """Draw training images, each beside its labels laid over it.

    Args:
        images: (H, W, 3) uint8 each, as augmented; the first `MAX_IMAGES` are drawn.
        labels: (H, W) integers each.
        class_names: C names.
        palette: (C, 3) colors, 0..255.
        ignore_index: the label without a class.
        title: the heading.

    Raises:
        ValueError: nothing to draw, lists of different lengths, or a label out of range.
    """
    colors = checked_palette(palette, class_names)
    _check_lengths(images=images, labels=labels)
    pairs: list[tuple[Pixels, ...]] = []
    shown: list[Labels] = []
    for image, label in list(zip(images, labels, strict=True))[:MAX_IMAGES]:
        # At full size: a few bad pixels may not survive the shrinking.
        checked_labels(label, len(colors), ignore_index, "labels")
        image, label = shrink(image, label)
        shown.append(label)
        pairs.append((image, overlay(image, label, colors, ignore_index, opacity=0.55)))
    pair = ["image", "labels over it"]
    headings = pair if len(pairs) == 1 else [*pair, "", *pair]
    beside = zip_longest(pairs[::2], pairs[1::2], fillvalue=())
    figure = _mosaic(headings, [[*left, None, *right] for left, right in beside])
    add_legend(figure, _shown_classes(shown, class_names, colors, ignore_index), "Classes")
    add_title(figure, title)
    return figure


def validation_mosaic(
    images: Sequence[Pixels],
    labels: Sequence[Labels],
    predictions: Sequence[Labels],
    *,
    names: Sequence[str],
    class_names: Sequence[str],
    palette: npt.ArrayLike,
    ignore_index: int,
    title: str,
) -> "Figure":
    """Draw a row per image: image, label, prediction, map of wrong pixels.

    The pixel accuracy in a row is that of the whole image at its own size, without ignored pixels.

    Args:
        images: (H, W, 3) uint8 each, of any sizes; the first `MAX_IMAGES` are drawn.
        labels: (H, W) integers each.
        predictions: (H, W) integers each.
        names: a heading for each row, such as the file name.
        class_names: C names.
        palette: (C, 3) colors, 0..255.
        ignore_index: the label without a class.
        title: the heading.

    Raises:
        ValueError: nothing to draw, lists of different lengths, sizes that differ, or a label or
            prediction out of range.
    """
    colors = checked_palette(palette, class_names)
    _check_lengths(images=images, labels=labels, predictions=predictions, names=names)
    rows: list[list[Pixels]] = []
    captions: list[tuple[str, str]] = []
    shown: list[Labels] = []
    samples = list(zip(images, labels, predictions, names, strict=True))
    for image, label, prediction, name in samples[:MAX_IMAGES]:
        checked_labels(label, len(colors), ignore_index, "labels")
        checked_labels(prediction, len(colors), ignore_index, "predictions")
        counted = label != ignore_index
        right = (label == prediction)[counted]
        accuracy = f"{100 * right.mean():.1f}%" if right.size else "n/a"
        captions.append((str(name), f"pixel accuracy {accuracy}"))
        image, label, prediction = shrink(image, label, prediction)
        shown += [label, prediction]
        rows.append(
            [
                image,
                color_labels(label, colors, ignore_index),
                color_labels(prediction, colors, ignore_index),
                error_map(image, label, prediction, ignore_index),
            ]
        )
    figure = _mosaic(["image", "label", "prediction", "wrong pixels"], rows, captions)
    add_legend(figure, _shown_classes(shown, class_names, colors, ignore_index), "Classes")
    kinds = [("wrong", WRONG), ("right (the image, dimmed)", RIGHT), ("ignored", IGNORED)]
    add_legend(figure, kinds, "Wrong pixels")
    add_title(figure, title)
    return figure


def shrink(image: Pixels, *maps: Labels) -> list[Labels]:
    """Fit an image and its label maps into a mosaic cell, keeping the aspect ratio.

    Args:
        image: (H, W, 3) uint8.
        maps: (H, W) integers each.

    Returns:
        The image and the maps, 400 × 300 pixels at most.

    Raises:
        ValueError: a map of another size than the image, or an image without pixels.
    """
    image = checked_image(image)
    for labels in maps:
        check_same_size(image, np.asarray(labels), "labels")
    height, width = image.shape[:2]
    if height == 0 or width == 0:
        raise ValueError(f"An image of size {height} × {width} has no pixels to draw.")
    scale = min(_CELL[0] / width, _CELL[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    # With a box filter first, which is several times faster for large images.
    resized = [np.asarray(Image.fromarray(image).resize(size, smooth, reducing_gap=3.0))]
    for labels in maps:  # a class number must not be interpolated
        picture = Image.fromarray(np.asarray(labels, np.int32))
        resized.append(np.asarray(picture.resize(size, Image.Resampling.NEAREST)))
    return resized


def _mosaic(
    headings: Sequence[str],
    rows: Sequence[Sequence[Pixels | None]],
    captions: Sequence[tuple[str, str]] = (),
) -> "Figure":
    """Draw a grid of pictures, pixel by pixel.

    Args:
        headings: of the columns; an empty one makes a narrow column that separates the others.
        rows: pictures, or None for an empty place; the last row may be shorter.
        captions: above the first and above the last picture of each row.
    """
    # Narrower columns leave no room for their headings.
    sizes = [[picture.shape[:2] for picture in row if picture is not None] for row in rows]
    width = max(1.6, *(width / DPI for row in sizes for _, width in row))
    heights = [max(height for height, _ in row) / DPI for row in sizes]
    captions = [(wrap(left, 2.8 * width, 9), right) for left, right in captions]
    lines = max((left.count("\n") + 1 for left, _ in captions), default=0)
    widths = [width if heading else 0.03 for heading in headings]
    figure, grid = figure_with_axes(widths, heights, gaps=(0.07, 0.07 + 0.17 * lines))
    for axes in grid.flat:
        axes.set_axis_off()
        axes.set(xticks=[], yticks=[])  # invisible ticks take half of the time
    for axes, heading in zip(grid[0], headings, strict=True):
        axes.set_title(heading, loc="left", pad=4 + 12.5 * lines, weight="bold", **text_style(10))
    for line, row in zip(grid, rows, strict=True):
        for axes, picture in zip(line, row, strict=False):
            if picture is not None:
                axes.imshow(picture, interpolation="nearest", origin="upper", aspect="equal")
                axes.set_anchor("NW")
    for line, (left, right) in zip(grid, captions, strict=False):
        for axes, caption in ((line[0], left), (line[-1], right)):
            write_beside(axes, caption, (0, 1), (0, 3), va="bottom", **text_style(9, GRAY))
    return figure


def _shown_classes(
    shown: Sequence[Labels], class_names: Sequence[str], palette: Pixels, ignore_index: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and colors: all classes, or if they are many those that are shown."""
    present = set(np.unique(np.concatenate([labels.ravel() for labels in shown])).tolist())
    listed = present if len(class_names) > _MAX_LEGEND else range(len(class_names))
    classes = [
        (str(name), tuple(color))
        for index, (name, color) in enumerate(zip(class_names, palette.tolist(), strict=True))
        if index in listed and index != ignore_index
    ]
    return [*classes, ("ignored", (0, 0, 0))] if ignore_index in present else classes


def _check_lengths(**lists: Sequence[object]) -> None:
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"Expected equally many of each, got {counted}.")
    if 0 in lengths.values():
        raise ValueError("There is no image to draw.")
