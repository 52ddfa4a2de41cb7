"""Bars of how many of the labelled pixels each class takes, in each split."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pne_seg.report.canvas import (
    FAINT_INK,
    INK,
    VERMILION,
    figure_with_axes,
    save,
    text_style,
)
from pne_seg.report.colours import Pixels, checked_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

_PANEL = 3.1  # inches
_ROOM = 6.0  # beyond the longest bar, for its number: a factor, as the axis is logarithmic


def plot_label_histogram(
    class_names: Sequence[str],
    pixels: Mapping[str, npt.ArrayLike],
    *,
    palette: npt.ArrayLike,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Save each class's share of the labelled pixels as bars, a logarithmic panel for each split.

    Classes stand in the order of their shares in the first split, in all panels alike.

    Args:
        class_names: C names.
        pixels: by split, (C,) numbers of labelled pixels.
        palette: (C, 3) colours of the bars, 0..255.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.

    Raises:
        ValueError: no split, no class, lengths that differ, a negative number, or no pixel at all.
    """
    save(_figure(class_names, pixels, palette, title), path)


def _figure(
    class_names: Sequence[str],
    pixels: Mapping[str, npt.ArrayLike],
    palette: npt.ArrayLike,
    title: str,
) -> "Figure":
    count = len(class_names)
    colours = checked_palette(palette, class_names)
    percent: dict[str, Floats] = {
        split: 100 * _shares(values, count, split) for split, values in pixels.items()
    }
    if not percent:
        raise ValueError("no split to draw")
    order = np.argsort(-next(iter(percent.values())), kind="stable")
    present = np.concatenate([values[values > 0] for values in percent.values()])
    # From a whole power of ten that leaves the shortest bar a length.
    start = 10.0 ** np.floor(np.log10(present.min()) - 0.15)
    row = float(np.clip(9 / count, 0.15, 0.3))  # inches
    size = min(10.0, 0.65 * 72 * row)  # points

    figure, panels = figure_with_axes(
        title, [_PANEL] * len(percent), row * (count + 0.6), title_space=0.42, space=0.2
    )
    names = [str(class_names[index]) for index in order]
    for axes, (split, values) in zip(panels, percent.items(), strict=True):
        _draw_bars(axes, values[order], colours[order], start, size)
        _name_axes(axes, names if axes is panels[0] else [], count, size)
        axes.set_xlim(start, max(100.0, present.max()) * _ROOM)
        axes.set_xscale("log")
        _draw_scale(axes, start, split)
    return figure


def _draw_bars(axes: "Axes", percent: Floats, colours: Pixels, start: float, size: float) -> None:
    """Bars from the top down, each with its number."""
    places = np.flatnonzero(percent)
    axes.barh(
        places,
        percent[places] - start,
        left=start,
        height=0.72,
        color=colours[places] / 255,
        edgecolor=FAINT_INK,  # else white classes have no bar
        linewidth=0.5,
        zorder=2,
    )
    for place, value in enumerate(percent):
        axes.annotate(
            _text(value),
            (value or start, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            **text_style(size, INK if value else VERMILION),
            zorder=5,
        )


def _name_axes(axes: "Axes", names: Sequence[str], count: int, size: float) -> None:
    axes.set_ylim(count - 0.2, -0.8)
    axes.set_yticks(range(count), labels=names or [""] * count)
    axes.tick_params(axis="y", labelsize=size, length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _draw_scale(axes: "Axes", start: float, split: str) -> None:
    """Powers of ten below, the split's name above."""
    from matplotlib.ticker import NullLocator

    exponents = range(round(np.log10(start)), 3)
    step = 1 + (len(exponents) - 1) // 5  # five labels fit
    ticks = [10.0**exponent for exponent in reversed(exponents[::-1][::step])]
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("share of labelled pixels (%)", **text_style(10))
    axes.annotate(
        split,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        va="bottom",
        fontweight="bold",
        **text_style(11),
    )


def _text(percent: float) -> str:
    if not percent:
        return "none"
    if percent >= 0.1:
        return f"{percent:.1f}"
    return f"{percent:.1g}" if percent >= 1e-4 else f"{percent:.0e}"


def _shares(values: npt.ArrayLike, count: int, split: str) -> Floats:
    """Fractions of the sum, or ValueError."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{split} has shape {array.shape}, but there are {count} class names")
    if not (array >= 0).all() or array.sum() == 0:
        raise ValueError(f"{split}: numbers of pixels are expected, 0 or more and some above 0")
    shares: Floats = array / array.sum()
    return shares
