"""Mosaics: the images of a batch beside their labels, and beside predictions and errors."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from PIL import Image

from pne_seg.description import DataDescription
from pne_seg.visualization.colors import (
    IGNORED,
    RIGHT,
    WRONG,
    Labels,
    Pixels,
    check_same_size,
    checked_labels,
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
)
from pne_seg.visualization.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_IMAGES = 8
_MAX_LEGEND = 30  # with more classes than this, a legend lists only those that are shown
_CELL = (400, 300)  # width and height that a picture is fitted into, pixels
_NARROWEST = 190  # a narrower column leaves no room for its heading
_GAP = 8
_LINE = 20  # height of a line of a caption


def training_mosaic(
    images: Sequence[Pixels], labels: Sequence[Labels], data: DataDescription, *, title: str
) -> "Figure":
    """Draw the first `MAX_IMAGES` images, (H, W, 3) uint8, each beside its labels laid over it."""
    ignore = data.ignore_index
    pairs: list[list[Pixels]] = []
    shown: list[Labels] = []
    for image, label in list(zip(images, labels, strict=True))[:MAX_IMAGES]:
        # At full size: a few bad pixels may not survive the shrinking.
        checked_labels(label, len(data.palette), ignore, "labels")
        image, label = shrink(image, label)
        shown.append(label)
        pairs.append([image, overlay(image, label, data.palette, ignore, opacity=0.55)])
    headings = ["image", "labels over it"]
    if len(pairs) > 1:
        headings = [*headings, "", *headings]
    beside = zip_longest(pairs[::2], pairs[1::2])
    figure = _mosaic(headings, [[*left, None, *(right or ())] for left, right in beside])
    add_legend(figure, shown_classes(shown, _drawable(data)), "Classes")
    add_title(figure, title)
    return figure


def validation_mosaic(
    images: Sequence[Pixels],
    labels: Sequence[Labels],
    predictions: Sequence[Labels],
    names: Sequence[str],
    data: DataDescription,
    *,
    title: str,
) -> "Figure":
    """Draw a row per image, headed by its name: image, label, prediction, map of wrong pixels."""
    ignore = data.ignore_index
    rows: list[list[Pixels]] = []
    captions: list[tuple[str, str]] = []
    shown: list[Labels] = []
    samples = list(zip(images, labels, predictions, names, strict=True))
    for image, label, prediction, name in samples[:MAX_IMAGES]:
        checked_labels(label, len(data.palette), ignore, "labels")
        checked_labels(prediction, len(data.palette), ignore, "predictions")
        right = (label == prediction)[label != ignore]
        accuracy = f"{100 * right.mean():.1f}%" if right.size else "n/a"
        captions.append((str(name), f"pixel accuracy {accuracy}"))
        image, label, prediction = shrink(image, label, prediction)
        shown += [label, prediction]
        maps = [color_labels(classes, data.palette, ignore) for classes in (label, prediction)]
        rows.append([image, *maps, error_map(image, label, prediction, ignore)])
    figure = _mosaic(["image", "label", "prediction", "wrong pixels"], rows, captions)
    add_legend(figure, shown_classes(shown, _drawable(data)), "Classes")
    kinds = [("wrong", WRONG), ("right (the image, dimmed)", RIGHT), ("ignored", IGNORED)]
    add_legend(figure, kinds, "Wrong pixels")
    add_title(figure, title)
    return figure


class SuspectCrop(NamedTuple):
    """A part of an image, (H, W, 3) uint8, with (H, W) maps of it."""

    image: Pixels
    labels: Labels
    prediction: Labels
    region: Labels  # 1 in the region that is suspect, else 0


def suspects_mosaic(
    suspects: Sequence[tuple[str, SuspectCrop]], data: DataDescription, *, title: str
) -> "Figure":
    """Draw a row per suspect, headed by its caption: image, label and prediction, outlined."""
    ignore = data.ignore_index
    rows: list[list[Pixels]] = []
    shown: list[Labels] = []
    for _, crop in suspects:
        image, label, prediction, region = shrink(*crop)
        shown += [label, prediction]
        maps = [overlay(image, of, data.palette, ignore, 0.55) for of in (label, prediction)]
        outlines, _ = cv2.findContours(
            region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        for picture in (pictures := [image.copy(), *maps]):
            cv2.drawContours(picture, outlines, -1, WRONG, 2)
        rows.append(pictures)
    captions = [(caption, "") for caption, _ in suspects]
    figure = _mosaic(["image", "label", "prediction"], rows, captions)
    add_legend(figure, shown_classes(shown, data), "Classes")
    add_title(figure, title)
    return figure


def plot_legend(class_names: Sequence[str], palette: Sequence[Sequence[int]]) -> "Figure":
    """Draw the color of each class, with its index and name."""
    figure, (axes,) = figure_with_axes([8], 0.01)
    axes.set_axis_off()
    entries = [
        (f"{index}  {name}", tuple(color))
        for index, (name, color) in enumerate(zip(drawable(class_names), palette, strict=True))
    ]
    add_legend(figure, entries, "Classes")
    return figure


def shrink(image: Pixels, *maps: Labels, box: tuple[int, int] = _CELL) -> list[Labels]:
    """Fit an image and its label maps into a box, width × height, keeping the aspect ratio."""
    for labels in maps:
        check_same_size(image, labels, "labels")
    height, width = image.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    # With a box filter first, which is several times faster for large images.
    picture = Image.fromarray(image).resize((across, down), smooth, reducing_gap=3.0)
    # The nearest pixel: a class number must not be interpolated.
    rows = ((np.arange(down) + 0.5) * height / down).astype(np.intp)
    columns = ((np.arange(across) + 0.5) * width / across).astype(np.intp)
    return [np.asarray(picture), *(labels[np.ix_(rows, columns)] for labels in maps)]


def _mosaic(
    headings: Sequence[str],
    rows: Sequence[Sequence[Pixels | None]],
    captions: Sequence[tuple[str, str]] = (),
) -> "Figure":
    """Draw a grid of pictures, pixel by pixel, as one picture; None is an empty place.

    A column without a heading is narrow and separates the others. The captions of a row are written
    above its first and its last picture.
    """
    if not rows:
        raise ValueError("There is no image to draw.")
    sizes = [[picture.shape[:2] for picture in row if picture is not None] for row in rows]
    cell = max(_NARROWEST, *(width for row in sizes for _, width in row))
    captions = [(wrap(left, 2.8 * cell / DPI, 9), right) for left, right in captions]
    above = _LINE * max((left.count("\n") + 1 for left, _ in captions), default=0)
    lefts = np.cumsum([0, *(_GAP + (cell if heading else 4) for heading in headings)])
    tops = np.cumsum([0, *(_GAP + above + max(height for height, _ in row) for row in sizes)])
    width, height = int(lefts[-1]) - _GAP, int(tops[-1]) - _GAP - above
    canvas = np.full((height, width, 4), 255, np.uint8)  # matplotlib is faster with alpha
    for top, row in zip(tops, rows, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            if picture is not None:
                canvas[top : top + picture.shape[0], left : left + picture.shape[1], :3] = picture
    figure, (axes,) = figure_with_axes([width / DPI], height / DPI)
    axes.set_axis_off()
    axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    for left, heading in zip(lefts, headings, strict=False):
        style = text_style(10)
        axes.text(left, -6 - above, heading, va="bottom", fontweight="bold", **style)
    for top, row_captions in zip(tops, captions, strict=False):
        for left, caption in zip((lefts[0], lefts[-2]), row_captions, strict=True):
            axes.text(left, top - 5, caption, va="bottom", **text_style(9, GRAY))
    return figure


def _drawable(data: DataDescription) -> DataDescription:
    return replace(data, class_names=tuple(drawable(data.class_names)))


def shown_classes(
    shown: Sequence[Labels], data: DataDescription
) -> list[tuple[str, tuple[int, ...]]]:
    """Return names and colors: all classes, or if they are many those that are shown."""
    values = np.concatenate([labels.ravel() for labels in shown])
    ignored = values == data.ignore_index
    found = np.bincount(values[~ignored], minlength=len(data.palette)) > 0
    found |= len(data.palette) <= _MAX_LEGEND
    classes: list[tuple[str, tuple[int, ...]]] = [
        (str(data.class_names[index]), data.palette[index])
        for index in np.flatnonzero(found).tolist()
        if index != data.ignore_index
    ]
    return [*classes, ("ignored", (0, 0, 0))] if ignored.any() else classes
