"""The confusion matrix: which class is taken for which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.visualization.figure import (
    BLACK,
    GRAY,
    add_title,
    figure_with_axes,
    style_ticks,
    text_style,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

_ANNOTATED_CLASSES = 20  # a larger confusion matrix has no room for numbers
_LARGEST_CONFUSIONS = 8


def plot_confusion_matrix(
    matrix: npt.ArrayLike, class_names: Sequence[str], *, title: str
) -> "Figure":
    """Draw a confusion matrix, each row in percent of the label's pixels.

    The colors follow the square root of the percentage, or confusions of a few percent would be
    white. Beside it stand the largest confusions, by their share of the label's pixels.

    Args:
        matrix: (C, C) counts; rows are labels, columns predictions.
        class_names: C names.
        title: the heading.

    Raises:
        ValueError: the matrix is not C × C, or a count is negative or not finite.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    names = [str(name) for name in class_names]
    percent = _row_percent(matrix, len(names))
    annotated = len(names) <= _ANNOTATED_CLASSES
    edge = float(np.clip(0.62 * len(names), 3.2, 8.4)) if annotated else 10.0  # inches
    figure, ((axes,),) = figure_with_axes([edge], [edge])
    image = axes.imshow(
        np.ma.masked_invalid(percent),
        cmap=colormaps["Blues"].with_extremes(bad="#ececec"),
        norm=PowerNorm(0.5, vmin=0, vmax=100),
        interpolation="nearest",
        aspect="auto",
        origin="upper",
    )
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
    for label in axes.get_xticklabels():
        label.set(rotation=45 if annotated else 90, ha="right", rotation_mode="anchor")
        if not annotated:
            label.set_verticalalignment("center")
    axes.set_ylabel("label", **text_style(11))
    axes.set_xlabel("prediction", **text_style(11))

    side = axes.inset_axes((1 + 0.18 / edge, 0, 0.16 / edge, 1))
    bar = figure.colorbar(image, cax=side, ticks=[0, 1, 5, 10, 25, 50, 75, 100])
    style_ticks(side, size=8, length=2)
    side.tick_params(right=True)
    side.minorticks_off()
    side.set_title("%", **text_style(9))
    bar.outline.set_visible(False)

    _list_confusions(axes, percent, names)
    add_title(figure, title)
    return figure


def _row_percent(matrix: npt.ArrayLike, count: int) -> Floats:
    """Return each row in percent of its sum; NaN where the label does not occur."""
    counts = np.asarray(matrix, dtype=np.float64)
    if counts.shape != (count, count):
        raise ValueError(f"matrix has shape {counts.shape}, but there are {count} class names.")
    if count == 0:
        raise ValueError("There is no class to draw.")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError("The counts of matrix must be finite and not negative.")
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, 100 * counts / np.where(sums > 0, sums, 1), np.nan)


def _list_confusions(axes: "Axes", percent: Floats, names: Sequence[str]) -> None:
    """Write the largest confusions to the right of the matrix and its color bar."""

    def write(x: float, y: float, text: str, **style: Any) -> None:
        write_beside(axes, text, (1, 1), (76 + x, -y), va="top", **style)

    write(0, 0, "Largest confusions", fontweight="bold", **text_style(11))
    write(0, 17, "label → prediction, share of the label's pixels", **text_style(8.5, GRAY))
    confusions = _largest_confusions(percent)
    for index, (row, column) in enumerate(confusions):
        write(36, 38 + 17 * index, f"{percent[row, column]:.1f}%", ha="right", **text_style(9.5))
        write(44, 38 + 17 * index, f"{names[row]} → {names[column]}", **text_style(9.5))
    if not confusions:
        write(0, 38, "none", **text_style(9.5))
    absent = int(np.isnan(percent).all(axis=1).sum())
    if absent:
        below = 46 + 17 * max(1, len(confusions))
        classes = "class does" if absent == 1 else "classes do"
        write(0, below, f"gray rows: {absent} {classes} not occur", **text_style(8.5, GRAY))


def _largest_confusions(percent: Floats) -> list[tuple[int, int]]:
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_LARGEST_CONFUSIONS]
    places = [divmod(int(place), len(wrong)) for place in order]
    return [place for place in places if wrong[place] > 0]
