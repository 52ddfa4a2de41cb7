"""Mosaics: the images of a batch beside their labels, and beside predictions and errors."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.report.colours import (
    IGNORED,
    RIGHT,
    WRONG,
    Colour,
    Labels,
    Pixels,
    check_same_size,
    checked_image,
    checked_labels,
    checked_palette,
    colour_labels,
    error_map,
    overlay,
)
from pne_seg.report.page import Cell, Legend, save_page

MAX_IMAGES = 8
MAX_LEGEND = 30  # with more classes than this, a legend lists those on show only

_CELL = (400, 300)  # width and height that a picture is fitted into, pixels


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
    colours = checked_palette(palette, class_names)
    _check_equally_many(images=images, labels=labels)
    _check_labels_of_all(labels, len(colours), ignore_index, "labels")

    cells: list[Cell] = []
    shown: list[Labels] = []
    for image, label in list(zip(images, labels, strict=True))[:MAX_IMAGES]:
        small_image, small_label = shrink(image, label)
        shown.append(small_label)
        cells.append(Cell(small_image))
        cells.append(Cell(overlay(small_image, small_label, colours, ignore_index, opacity=0.55)))
    pairs = 1 if len(shown) == 1 else 2
    save_page(
        path,
        title=title,
        columns=["image", "labels over it"] * pairs,
        group=2,
        rows=[cells[start : start + 2 * pairs] for start in range(0, len(cells), 2 * pairs)],
        legends=[_class_legend(shown, class_names, colours, ignore_index)],
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
    colours = checked_palette(palette, class_names)
    _check_equally_many(images=images, labels=labels, predictions=predictions, names=names)
    _check_labels_of_all(labels, len(colours), ignore_index, "labels")
    _check_labels_of_all(predictions, len(colours), ignore_index, "predictions")

    rows: list[list[Cell]] = []
    shown: list[Labels] = []
    everything = list(zip(images, labels, predictions, names, strict=True))[:MAX_IMAGES]
    for image, label, prediction, name in everything:
        small_image, small_label, small_prediction = shrink(image, label, prediction)
        shown += [small_label, small_prediction]
        rows.append(
            [
                Cell(small_image, str(name)),
                Cell(colour_labels(small_label, colours, ignore_index)),
                Cell(colour_labels(small_prediction, colours, ignore_index)),
                Cell(
                    error_map(small_image, small_label, small_prediction, ignore_index),
                    f"pixel accuracy {_accuracy(label, prediction, ignore_index)}",
                ),
            ]
        )
    save_page(
        path,
        title=title,
        columns=["image", "label", "prediction", "wrong pixels"],
        group=4,
        rows=rows,
        legends=[
            _class_legend(shown, class_names, colours, ignore_index),
            Legend(
                "Wrong pixels",
                [("wrong", WRONG), ("right (the image, dimmed)", RIGHT), ("ignored", IGNORED)],
            ),
        ],
    )


def _check_equally_many(**lists: Sequence[object]) -> None:
    lengths = {name: len(items) for name, items in lists.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"as many of each are needed, not {counted}")
    if 0 in lengths.values():
        raise ValueError("no image to draw")


def _check_labels_of_all(
    maps: Sequence[Labels], num_classes: int, ignore_index: int, what: str
) -> None:
    # At full size: a few bad pixels may not survive the shrinking.
    for labels in maps[:MAX_IMAGES]:
        checked_labels(labels, num_classes, ignore_index, what)


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


def _accuracy(label: Labels, prediction: Labels, ignore_index: int) -> str:
    counted = label != ignore_index
    total = int(np.count_nonzero(counted))
    if total == 0:
        return "n/a"
    return f"{100 * np.count_nonzero((label == prediction) & counted) / total:.1f}%"


def _class_legend(
    shown: Sequence[Labels], class_names: Sequence[str], palette: Pixels, ignore_index: int
) -> Legend:
    """Names and colours: all classes, or those on show where there are many."""
    values = np.unique(np.concatenate([labels.ravel() for labels in shown]))
    present = set(values.tolist())
    entries: list[tuple[str, Colour]] = []
    for index, (name, colour) in enumerate(zip(class_names, palette, strict=True)):
        if index != ignore_index and (len(class_names) <= MAX_LEGEND or index in present):
            entries.append((str(name), (int(colour[0]), int(colour[1]), int(colour[2]))))
    if ignore_index in present:
        entries.append(("ignored", (0, 0, 0)))
    return Legend("Classes", entries)
