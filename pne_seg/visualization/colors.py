"""Label maps as colors: (H, W) integer labels, (C, 3) palettes in 0..255, (H, W, 3) uint8 RGB."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.description import Color

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[Any]  # any integer type

# A vermilion rather than a pure red: to a red-blind eye pure red is as dark as the dimmed image,
# this one keeps another hue and is as light as the lightest gray of `error_map`.
WRONG: Color = (255, 80, 30)
IGNORED: Color = (24, 44, 140)
RIGHT: Color = (78, 78, 78)  # a middle gray in `error_map`; for legends


def color_labels(labels: Labels, palette: npt.ArrayLike, ignore_index: int) -> Pixels:
    """Color a label map; `ignore_index` is black, and any other label without a class an error."""
    colors = np.asarray(palette)
    if colors.ndim != 2 or colors.shape[1] != 3 or len(colors) == 0:
        raise ValueError(f"palette must have shape (classes, 3), got {colors.shape}.")
    if colors.dtype.kind not in "ui" or colors.min() < 0 or colors.max() > 255:
        raise ValueError("The colors of palette must be integers from 0 to 255.")
    colors = colors.astype(np.uint8)
    labels = checked_labels(labels, len(colors), ignore_index, "labels")
    ignored = labels == ignore_index
    # `take` copies three bytes at a time, four times as fast as indexing does.
    picture: Pixels = np.take(colors, np.where(ignored, 0, labels), axis=0)
    picture[ignored] = 0
    return picture


def overlay(
    image: Pixels, labels: Labels, palette: npt.ArrayLike, ignore_index: int, opacity: float = 0.5
) -> Pixels:
    """Lay the colors of a label map over its image; ignored pixels are darkened.

    An opacity of 0 shows only the image, 1 only the colors.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, got {opacity}.")
    check_same_size(image, labels, "labels")
    colors = color_labels(labels, palette, ignore_index)
    return np.asarray(cv2.addWeighted(image, 1 - opacity, colors, opacity, 0), np.uint8)


def error_map(image: Pixels, labels: Labels, prediction: Labels, ignore_index: int) -> Pixels:
    """Show right pixels in dimmed gray, wrong ones as `WRONG` and ignored ones as `IGNORED`."""
    check_same_size(image, labels, "labels")
    check_same_size(image, prediction, "prediction")
    luma = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
    gray = np.rint(32 + 0.36 * luma).astype(np.uint8)
    picture = np.repeat(gray[..., None], 3, axis=2)
    picture[labels != prediction] = WRONG
    picture[labels == ignore_index] = IGNORED
    return picture


def checked_labels(labels: Labels, num_classes: int, ignore_index: int, what: str) -> Labels:
    """Return labels as an array, or raise ValueError if one is no class and not ignored."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "uib":
        got = f"{labels.dtype} of shape {labels.shape}"
        raise ValueError(f"{what} must be (height, width) integers, got {got}.")
    bad = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)
    if bad.any():
        values = np.unique(labels[bad])
        listed = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
        raise ValueError(
            f"{what} hold {listed}, which is neither a class (0 to {num_classes - 1}) "
            f"nor the ignore index ({ignore_index})."
        )
    return labels


def check_same_size(image: Pixels, other: Labels, what: str) -> None:
    """Raise ValueError if an image is not (H, W, 3) uint8, or a map is not of its size."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"An image must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
        )
    if image.shape[:2] != other.shape[:2]:
        raise ValueError(
            f"The image {image.shape[:2]} and the {what} {other.shape[:2]} differ in size."
        )
