"""Plots by class: bars of the IoU, bars of the labeled pixels, and the confusion matrix."""

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
    style_ticks,
    text_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

_ANNOTATED_CLASSES = 20  # a larger confusion matrix has no room for numbers
_LARGEST_CONFUSIONS = 8


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
    percent = 100 * _checked(iou, (len(class_names),), "iou", are_fractions=True)
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
        counts = _checked(values, (len(colors),), split)
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
    names = [data.class_names[index] for index in order]
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


def plot_confusion_matrix(
    matrix: npt.ArrayLike, class_names: Sequence[str], *, title: str
) -> "Figure":
    """Draw a (C, C) count matrix in percent of the labels (rows), and list the largest confusions.

    The colors follow the square root of the percentage, or confusions of a few percent would be
    white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    names = [str(name) for name in class_names]
    counts = _checked(matrix, (len(names), len(names)), "matrix")
    sums = counts.sum(axis=1, keepdims=True)
    percent = np.where(sums > 0, 100 * counts / np.where(sums > 0, sums, 1), np.nan)
    annotated = len(names) <= _ANNOTATED_CLASSES
    edge = float(np.clip(0.62 * len(names), 3.2, 8.4)) if annotated else 10.0  # inches
    figure, (axes,) = figure_with_axes([edge], edge)
    cmap, norm = colormaps["Blues"].with_extremes(bad="#ececec"), PowerNorm(0.5, vmin=0, vmax=100)
    shown = np.ma.masked_invalid(percent)
    style: dict[str, Any] = {"interpolation": "nearest", "aspect": "auto", "origin": "upper"}
    image = axes.imshow(shown, cmap=cmap, norm=norm, **style)
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    if annotated:
        size = min(9.0, 72 * edge / len(names) * 0.27)
        for row, column in np.argwhere(percent >= 0.05):  # zeros stay empty
            value = percent[row, column]
            text = f"{value:.1f}" if value < 99.95 else "100"
            style = text_style(size, "white" if value > 36 else BLACK)
            axes.text(column, row, text, ha="center", va="center", **style)

    step = int(np.ceil(len(names) * 0.115 / edge))  # a label of 7 points needs 0.115 inches
    style_ticks(axes, size=9 if annotated else 7, length=0 if step == 1 else 2.5)
    ticks = range(0, len(names), step)
    axes.set_yticks(ticks, labels=names[::step])
    axes.set_xticks(ticks, labels=names[::step])
    angle, side = (45, "top") if annotated else (90, "center")
    for label in axes.get_xticklabels():
        label.set(rotation=angle, ha="right", va=side, rotation_mode="anchor")
    axes.set_ylabel("label", **text_style(11))
    axes.set_xlabel("prediction", **text_style(11))

    scale = axes.inset_axes((1 + 0.18 / edge, 0, 0.16 / edge, 1))
    bar = figure.colorbar(image, cax=scale, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    style_ticks(scale, size=8, length=2)
    scale.tick_params(right=True)
    scale.minorticks_off()
    scale.set_title("%", **text_style(9))
    bar.outline.set_visible(False)
    _list_confusions(axes, percent, names)
    add_title(figure, title)
    return figure


def _list_confusions(axes: "Axes", percent: Floats, names: Sequence[str]) -> None:
    """Write the largest confusions to the right of the matrix and its color bar."""
    lines = [
        # A space as wide as a digit aligns the numbers.
        f"{percent[row, column]:.1f}%".rjust(6, "\u2007") + f"   {names[row]} → {names[column]}"
        for row, column in largest_confusions(percent)
    ] or ["none"]
    if absent := int(np.isnan(percent).all(axis=1).sum()):
        lines += [
            "",
            f"gray rows: {absent} {'class does' if absent == 1 else 'classes do'} not occur",
        ]
    note = "label → prediction, share of the label's pixels"
    for text, down, weight, style in (
        ("Largest confusions", 0, "bold", text_style(11)),
        (note, 17, "normal", text_style(8.5, GRAY)),
        ("\n".join(lines), 38, "normal", text_style(9.5)),
    ):
        place: Any = {"xytext": (76, -down), "textcoords": "offset points", "linespacing": 1.55}
        place |= {"xycoords": "axes fraction", "va": "top", "fontweight": weight}
        axes.annotate(text, (1, 1), **place, **style)


def largest_confusions(percent: Floats) -> list[tuple[int, int]]:
    """Return (label, prediction) of the largest values off the diagonal, largest first."""
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LARGEST_CONFUSIONS]
    places = [divmod(int(place), len(wrong)) for place in order]
    return [place for place in places if wrong[place] > 0]


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


def _checked(
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
