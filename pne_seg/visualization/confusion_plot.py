"""The confusion matrix, with the names that matter where there are too many for all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.visualization.class_plots import Floats, checked_values
from pne_seg.visualization.figure import (
    BLACK,
    GRAY,
    LIGHT_GRAY,
    VERMILION,
    add_title,
    figure_with_axes,
    style_ticks,
    text_style,
)
from pne_seg.visualization.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ANNOTATED_CLASSES = 20  # a larger confusion matrix has no room for numbers
_LARGEST_CONFUSIONS = 8
_LISTED_OF_MANY = 20  # if the numbers are not in the matrix


def plot_confusion_matrix(
    matrix: npt.ArrayLike, class_names: Sequence[str], *, title: str
) -> "Figure":
    """Draw a (C, C) count matrix in percent of the labels (rows), and list the largest confusions.

    The colors follow the square root of the percentage, or confusions of a few percent would be
    white.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    names = drawable(class_names)
    percent = label_percent(checked_values(matrix, (len(names), len(names)), "matrix"))
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

    listed = largest_confusions(percent, _LARGEST_CONFUSIONS if annotated else _LISTED_OF_MANY)
    pads = [4.0, 4.0]  # between the names of rows and columns and those of the axes, in points
    if len(names) * 0.115 <= edge:  # inches that a name of 7 points needs
        style_ticks(axes, size=9 if annotated else 7, length=0)
        axes.set_yticks(range(len(names)), labels=names)
        axes.set_xticks(range(len(names)), labels=names)
        angle, side = (45, "top") if annotated else (90, "center")
        for label in axes.get_xticklabels():
            label.set(rotation=angle, ha="right", va=side, rotation_mode="anchor")
    else:
        axes.set(xticks=[], yticks=[])
        pads = [
            32 + 4.6 * max((len(names[place[axis]]) for place in listed), default=0)
            for axis in (0, 1)
        ]
        _name_confused(axes, listed, names, edge)
    axes.set_ylabel("label", labelpad=pads[0], **text_style(11))
    axes.set_xlabel("prediction", labelpad=pads[1], **text_style(11))

    scale = axes.inset_axes((1 + 0.18 / edge, 0, 0.16 / edge, 1))
    bar = figure.colorbar(image, cax=scale, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    style_ticks(scale, size=8, length=2)
    scale.tick_params(right=True)
    scale.minorticks_off()
    scale.set_title("%", **text_style(9))
    bar.outline.set_visible(False)
    _list_confusions(axes, percent, listed, names)
    add_title(figure, title)
    return figure


def _name_confused(
    axes: "Axes", listed: Sequence[tuple[int, int]], names: Sequence[str], edge: float
) -> None:
    """Box the listed cells, and name their rows and columns beside a matrix of many classes."""
    gap = 0.14 * len(names) / edge  # of a name of 8 points, in classes
    line = {"arrowstyle": "-", "color": LIGHT_GRAY, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0}
    rows, columns = (
        (sorted({*places}) for places in zip(*listed, strict=True)) if listed else ([], [])
    )
    for index, place in zip(rows, spread(rows, gap), strict=True):
        style = {"ha": "right", "va": "center", **text_style(8)}
        transform = axes.get_yaxis_transform()
        axes.annotate(names[index], (0, index), (-0.03, place), transform, arrowprops=line, **style)
    for index, place in zip(columns, spread(columns, gap), strict=True):
        style = {"ha": "center", "va": "top", "rotation": 90, **text_style(8)}
        transform = axes.get_xaxis_transform()
        axes.annotate(names[index], (index, 0), (place, -0.03), transform, arrowprops=line, **style)
    if listed:
        y, x = zip(*listed, strict=True)
        box: dict[str, Any] = {"facecolors": "none", "edgecolors": VERMILION, "linewidths": 0.9}
        axes.scatter(x, y, s=70, marker="s", **box)


def spread(places: Sequence[float], gap: float) -> Floats:
    """Move ascending places as little as possible so that each is a gap from the next."""
    steps = gap * np.arange(len(places))
    groups: list[list[float]] = []  # sum and number of places that touch
    for place in np.asarray(places, np.float64) - steps:
        groups.append([place, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, number = groups.pop()
            groups[-1][0] += total
            groups[-1][1] += number
    means = [total / number for total, number in groups for _ in range(int(number))]
    return np.asarray(np.array(means) + steps)


def _list_confusions(
    axes: "Axes", percent: Floats, listed: Sequence[tuple[int, int]], names: Sequence[str]
) -> None:
    """Write the largest confusions to the right of the matrix and its color bar."""
    lines = [
        # A space as wide as a digit aligns the numbers.
        f"{percent[row, column]:.1f}%".rjust(6, "\u2007") + f"   {names[row]} → {names[column]}"
        for row, column in listed
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


def label_percent(counts: Floats) -> Floats:
    """Return (C, C) counts in percent of their row, NaN for labels that do not occur."""
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, 100 * counts / np.where(sums > 0, sums, 1), np.nan)


def largest_confusions(percent: Floats, count: int) -> list[tuple[int, int]]:
    """Return (label, prediction) of the largest values off the diagonal, largest first."""
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    places = [divmod(int(place), len(wrong)) for place in order]
    return [place for place in places if wrong[place] > 0]
