"""Bars by class: the IoU, and the share of the labeled pixels in each split."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.visualization.colors import checked_palette
from pne_seg.visualization.figure import (
    BLACK,
    BLUE,
    GRAY,
    VERMILION,
    add_title,
    figure_with_axes,
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
    title: str,
    pixel_share: npt.ArrayLike | None = None,
) -> "Figure":
    """Draw the IoU of each class, best first, with the mean over classes that have one.

    Args:
        class_names: C names.
        iou: (C,) fractions; NaN for a class without pixels, shown as n/a.
        title: the heading.
        pixel_share: (C,) fractions of the labeled pixels that are of each class, listed at the
            side.

    Raises:
        ValueError: the lengths differ, or a value is not a fraction.
    """
    percent = 100 * _fractions(iou, len(class_names), "iou")
    order = np.argsort(-percent, kind="stable")  # NaN sorts last
    percent = percent[order]
    absent = np.isnan(percent)
    figure, (axes,), size = _figure_with_rows([class_names[index] for index in order], [6.6])
    colors = [GRAY if missing else BLACK for missing in absent]
    texts = ["n/a" if np.isnan(value) else f"{value:.1f}" for value in percent]
    _draw_bars(axes, np.nan_to_num(percent), texts, size, colors, color=BLUE)
    for name, color in zip(axes.get_yticklabels(), colors, strict=True):
        name.set_color(color)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("IoU (%)", **text_style(10))

    above = -0.9  # the first row is at 0
    if not absent.all():
        mean = float(percent[~absent].mean())
        axes.axvline(mean, color=VERMILION, linewidth=1.3, linestyle=(0, (4, 3)), zorder=3)
        counted = f" over {(~absent).sum()} of {len(absent)} classes" if absent.any() else ""
        side = "right" if mean > 50 else "left"  # away from the nearer edge
        text = f"mean {mean:.1f}%{counted}"
        axes.text(mean, above, text, ha=side, va="bottom", **text_style(10, VERMILION))
    if pixel_share is not None:
        style: dict[str, Any] = {"ha": "right", "transform": axes.get_yaxis_transform()}
        axes.text(1.07, above, "pixels", va="bottom", **style, **text_style(10, GRAY))
        shares = 100 * _fractions(pixel_share, len(percent), "pixel_share")[order]
        for row, value in enumerate(shares):
            tiny = 0 < value < 0.05
            text = "n/a" if np.isnan(value) else "<0.1%" if tiny else f"{value:.1f}%"
            axes.text(1.07, row, text, va="center_baseline", **style, **text_style(size, GRAY))
    add_title(figure, title)
    return figure


def plot_label_histogram(
    class_names: Sequence[str],
    pixels: Mapping[str, npt.ArrayLike],
    *,
    palette: npt.ArrayLike,
    title: str,
) -> "Figure":
    """Draw each class's share of the labeled pixels, on a logarithmic scale, a panel per split.

    Classes stand in the order of their shares in the first split, in all panels alike.

    Args:
        class_names: C names.
        pixels: by split, (C,) numbers of labeled pixels.
        palette: (C, 3) colors of the bars, 0..255.
        title: the heading.

    Raises:
        ValueError: no split, no class, lengths that differ, a negative number, or no pixel at all.
    """
    colors = checked_palette(palette, class_names) / 255
    percent: dict[str, Floats] = {}
    for split, values in pixels.items():
        counts = _checked(values, len(class_names), split)
        if not (counts >= 0).all() or counts.sum() == 0:
            raise ValueError(f"{split}: numbers of pixels must be 0 or more, and some above 0.")
        percent[split] = 100 * counts / counts.sum()
    if not percent:
        raise ValueError("There is no split to draw.")
    order = np.argsort(-next(iter(percent.values())), kind="stable")
    lowest = min(values[values > 0].min() for values in percent.values())
    # From a whole power of ten that leaves the shortest bar a length.
    start = 10.0 ** np.floor(np.log10(lowest) - 0.15)
    powers = np.arange(2, round(np.log10(start)) - 1, -1)
    ticks = 10.0 ** powers[:: 1 + (len(powers) - 1) // 5]  # five labels fit
    names = [class_names[index] for index in order]
    figure, panels, size = _figure_with_rows(names, [3.1] * len(percent))
    for axes, (split, shares) in zip(panels, percent.items(), strict=True):
        values = shares[order]
        axes.set_xscale("log")
        axes.set_xlim(start, 600)  # beyond 100 % there is room for a number
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        _draw_bars(
            axes,
            np.maximum(values, start),
            [_share_text(value) for value in values],
            size,
            [BLACK if value else VERMILION for value in values],
            color=colors[order],
            edgecolor=GRAY,  # otherwise white classes have no bar
            linewidth=np.where(values > 0, 0.5, 0),
        )
        axes.set_xlabel("share of labeled pixels (%)", **text_style(10))
        axes.set_title(split, loc="left", pad=4, fontweight="bold", **text_style(11))
    add_title(figure, title)
    return figure


def _figure_with_rows(
    names: Sequence[str], widths: Sequence[float]
) -> tuple["Figure", Sequence["Axes"], float]:
    """Make panels with a row for each name; return figure, axes and font size of the rows."""
    row = float(np.clip(9 / len(names), 0.15, 0.3))  # inches
    size = min(10.0, 0.65 * 72 * row)
    figure, (panels,) = figure_with_axes(widths, [row * (len(names) + 0.6)], gaps=(0.2, 0))
    for axes in panels:
        axes.set_ylim(len(names) - 0.2, -0.8)  # from the top down
        axes.set_yticks(range(len(names)), labels=[""] * len(names))
        axes.tick_params(axis="y", labelsize=size, length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
    panels[0].set_yticklabels([str(name) for name in names])
    return figure, panels, size


def _draw_bars(
    axes: "Axes",
    lengths: Floats,
    texts: Sequence[str],
    size: float,
    text_colors: Sequence[str],
    **style: Any,
) -> None:
    """Draw a bar in each row, with a text at its end."""
    bars = axes.barh(range(len(lengths)), lengths, height=0.72, zorder=2, **style)
    # The box hides a line that would run through the text.
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    written = axes.bar_label(bars, texts, padding=4, zorder=5, bbox=box, **text_style(size))
    for text, color in zip(written, text_colors, strict=True):
        text.set(color=color, verticalalignment="center_baseline")


def _share_text(percent: float) -> str:
    if not percent:
        return "none"
    if percent >= 0.1:
        return f"{percent:.1f}"
    return f"{percent:.1g}" if percent >= 1e-4 else f"{percent:.0e}"


def _checked(values: npt.ArrayLike, count: int, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (count,):
        raise ValueError(f"{what} has shape {array.shape}, but there are {count} class names.")
    if count == 0:
        raise ValueError("There is no class to draw.")
    return array


def _fractions(values: npt.ArrayLike, count: int, what: str) -> Floats:
    array = _checked(values, count, what)
    outside = array[(array < 0) | (array > 1 + 1e-6)]
    if len(outside):
        raise ValueError(f"{what} holds {outside[0]:g}; fractions must be from 0 to 1.")
    return array
