"""Plots by class: bars of the IoU, and of the labeled pixels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.description import DataDescription
from pne_seg.visualization.figure import (
    BLACK,
    BLUE,
    GRAY,
    VERMILION,
    add_title,
    figure_with_axes,
    text_style,
)
from pne_seg.visualization.fonts import drawable

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
    """Draw (C,) IoUs as fractions, best first, with the mean over classes that have one, not NaN.

    The classes' shares of the labeled pixels, (C,) fractions, are listed at the side.
    """
    percent = 100 * checked_values(iou, (len(class_names),), "iou", are_fractions=True)
    order = np.argsort(-percent, kind="stable")  # NaN sorts last
    percent = percent[order]
    absent = np.isnan(percent)
    names = drawable(class_names)
    figure, (axes,), size = _figure_with_rows([names[index] for index in order], [6.6])
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
        for row, value in enumerate(100 * np.asarray(pixel_share)[order]):
            text = "n/a" if np.isnan(value) else "<0.1%" if 0 < value < 0.05 else f"{value:.1f}%"
            axes.text(1.07, row, text, va="center_baseline", **style, **text_style(size, GRAY))
    add_title(figure, title)
    return figure


def plot_label_histogram(
    data: DataDescription, pixels: Mapping[str, npt.ArrayLike], *, title: str
) -> "Figure":
    """Draw each class's share of the (C,) labeled pixels on a logarithmic scale, a panel per split.

    All panels have the order of the shares in the first split.
    """
    colors = np.array(data.palette) / 255
    percent: dict[str, Floats] = {}
    for split, values in pixels.items():
        counts = checked_values(values, (len(colors),), split)
        if not counts.any():
            raise ValueError(f"{split} has no labeled pixel.")
        percent[split] = 100 * counts / counts.sum()
    if not percent:
        raise ValueError("There is no split to draw.")
    order = np.argsort(-next(iter(percent.values())), kind="stable")
    lowest = min(values[values > 0].min() for values in percent.values())
    # From a whole power of ten that leaves the shortest bar a length.
    start = 10.0 ** np.floor(np.log10(lowest) - 0.15)
    powers = np.arange(2, round(np.log10(start)) - 1, -1)
    ticks = 10.0 ** powers[:: 1 + (len(powers) - 1) // 5]  # five labels fit
    names = [drawable(data.class_names)[index] for index in order]
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
            ["none" if not v else f"{v:.1f}" if v >= 0.1 else f"{v:.1g}" for v in values],
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
    figure, panels = figure_with_axes(widths, row * (len(names) + 0.6), gap=0.2)
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


def checked_values(
    values: npt.ArrayLike, shape: tuple[int, ...], what: str, are_fractions: bool = False
) -> Floats:
    """Return counts, or fractions or NaN, as an array; raise ValueError if they are not."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape or not array.size:
        raise ValueError(f"{what} has shape {array.shape}, but there are {shape[0]} class names.")
    valid = (array >= 0) & (array < (1 + 1e-6 if are_fractions else np.inf))
    valid |= np.isnan(array) & are_fractions
    if not valid.all():
        expected = "from 0 to 1" if are_fractions else "finite and not negative"
        raise ValueError(f"{what} must be {expected}, got {array[~valid][0]:g}.")
    return array
