"""Bars of the IoU of each class."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pne_seg.report.canvas import (
    BLUE,
    FAINT_INK,
    INK,
    VERMILION,
    figure_with_axes,
    save,
    text_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]


def plot_class_iou(
    class_names: Sequence[str],
    iou: npt.ArrayLike,
    *,
    path: str | os.PathLike[str],
    title: str,
    pixel_share: npt.ArrayLike | None = None,
) -> None:
    """Save the IoU of each class as bars, best first, with the mean over classes that have one.

    Args:
        class_names: C names.
        iou: (C,) fractions; NaN for a class without pixels, shown as n/a.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.
        pixel_share: (C,) fractions of the labelled pixels that are of each class, listed at the
            side.

    Raises:
        ValueError: the lengths differ, or a value is not a fraction.
    """
    save(_figure(class_names, iou, title, pixel_share), path)


def _figure(
    class_names: Sequence[str],
    iou: npt.ArrayLike,
    title: str,
    pixel_share: npt.ArrayLike | None = None,
) -> "Figure":
    percent = 100 * _fractions(iou, len(class_names), "iou")
    order = np.argsort(-percent, kind="stable")  # NaN sorts last
    percent = percent[order]
    count = len(percent)
    row = float(np.clip(9 / count, 0.15, 0.3))  # inches
    size = min(10.0, 0.65 * 72 * row)  # points

    figure, (axes,) = figure_with_axes(title, [6.6], row * (count + 0.6), title_space=0.34)
    _draw_bars(axes, percent, size)
    _name_axes(axes, [str(class_names[index]) for index in order], np.isnan(percent), size)
    if not np.isnan(percent).all():
        _draw_mean(axes, percent)
    if pixel_share is not None:
        _list_shares(axes, 100 * _fractions(pixel_share, count, "pixel_share")[order], size)
    return figure


def _draw_bars(axes: "Axes", percent: Floats, size: float) -> None:
    """Bars from the top down, each with its number."""
    axes.barh(
        np.arange(len(percent)),
        np.nan_to_num(percent),
        height=0.72,
        color=BLUE,
        linewidth=0,
        zorder=2,
    )
    for place, value in enumerate(percent):
        axes.annotate(
            "n/a" if np.isnan(value) else f"{value:.1f}",
            (0 if np.isnan(value) else value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            **text_style(size, FAINT_INK if np.isnan(value) else INK),
            zorder=5,
            # hides the mean line where it would run through the number
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )


def _name_axes(
    axes: "Axes", names: Sequence[str], absent: npt.NDArray[np.bool_], size: float
) -> None:
    axes.set_ylim(len(names) - 0.2, -0.8)
    axes.set_yticks(range(len(names)), labels=names)
    axes.tick_params(axis="y", labelsize=size, length=0)
    for label, missing in zip(axes.get_yticklabels(), absent, strict=True):
        label.set_color(FAINT_INK if missing else INK)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("IoU (%)", **text_style(10))


def _draw_mean(axes: "Axes", percent: Floats) -> None:
    """A line at the mean over the classes that have an IoU."""
    count, absent = len(percent), int(np.isnan(percent).sum())
    mean = float(np.nanmean(percent))
    axes.axvline(mean, color=VERMILION, linewidth=1.3, linestyle=(0, (4, 3)), zorder=3)
    counted = f" over {count - absent} of {count} classes" if absent else ""
    axes.annotate(
        f"mean {mean:.1f}%{counted}",
        (mean, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right" if mean > 50 else "left",  # away from the nearer edge
        va="bottom",
        **text_style(10, VERMILION),
    )


def _list_shares(axes: "Axes", percent: Floats, size: float) -> None:
    """A column of pixel shares at the right, a row for each bar."""
    style = {"ha": "right", **text_style(size, FAINT_INK)}
    side = axes.get_yaxis_transform()
    for place, value in enumerate(percent):
        text = "n/a" if np.isnan(value) else _share_text(value)
        axes.text(1.07, place, text, transform=side, va="center_baseline", **style)
    axes.annotate(
        "pixels",
        (1.07, 1),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        va="bottom",
        ha="right",
        **text_style(10, FAINT_INK),
    )


def _share_text(percent: float) -> str:
    return f"{percent:.1f}%" if percent >= 0.05 or percent == 0 else "<0.1%"


def _fractions(values: npt.ArrayLike, count: int, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{what} has shape {array.shape}, but there are {count} class names")
    if count == 0:
        raise ValueError("no class to draw")
    outside = array[(array < 0) | (array > 1 + 1e-6)]
    if len(outside):
        raise ValueError(f"{what} holds {outside[0]:g}; fractions from 0 to 1 are expected")
    return array
