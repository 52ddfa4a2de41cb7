"""The confusion matrix: which class is taken for which."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.report.canvas import FAINT_INK, FONT, INK, figure_with_axes, save, text_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]

ANNOTATED_CLASSES = 20  # a larger confusion matrix has no room for numbers
LARGEST_CONFUSIONS = 8


def plot_confusion_matrix(
    matrix: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    path: str | os.PathLike[str],
    title: str,
) -> None:
    """Save a confusion matrix, each row in percent of the label's pixels.

    The colours follow the square root of the percentage, or confusions of a few percent would be
    white. Beside it stand the largest confusions, by their share of the label's pixels.

    Args:
        matrix: (C, C) counts; rows are labels, columns predictions.
        class_names: C names.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.

    Raises:
        ValueError: the matrix is not C × C, or a count is negative or not finite.
    """
    save(_figure(matrix, class_names, title), path)


def _figure(matrix: npt.ArrayLike, class_names: Sequence[str], title: str) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    percent = _row_percent(matrix, len(class_names))
    count = len(percent)
    names = [str(name) for name in class_names]
    annotated = count <= ANNOTATED_CLASSES
    edge = float(np.clip(0.62 * count, 3.2, 8.4)) if annotated else 10.0  # inches
    figure, (axes,) = figure_with_axes(title, [edge], edge, title_space=0.25)

    colours = colormaps["Blues"].with_extremes(bad="#ececec")
    image = axes.imshow(
        np.ma.masked_invalid(percent),
        cmap=colours,
        norm=PowerNorm(0.5, vmin=0, vmax=100),
        interpolation="nearest",
        aspect="auto",
        origin="upper",
    )
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
    _name_axes(axes, names, edge, annotated)
    if annotated:
        _annotate_cells(axes, percent, size=min(9.0, 72 * edge / count * 0.27))
    _colour_bar(figure, axes, image, edge)
    _list_confusions(axes, percent, names)
    return figure


def _name_axes(axes: "Axes", names: Sequence[str], edge: float, annotated: bool) -> None:
    size = 9.0 if annotated else 7.0  # points
    step = int(np.ceil(len(names) * 0.115 / edge))  # a label of 7 points needs 0.115 inches
    ticks = range(0, len(names), step)
    labels = [names[tick] for tick in ticks]
    axes.set_yticks(ticks, labels=labels)
    axes.set_xticks(ticks, labels=labels)
    axes.tick_params(axis="both", labelsize=size, length=0 if step == 1 else 2.5)
    for label in axes.get_xticklabels():
        label.set(rotation=45 if annotated else 90, ha="right", rotation_mode="anchor")
        if not annotated:
            label.set_verticalalignment("center")
    axes.set_ylabel("label", **text_style(11))
    axes.set_xlabel("prediction", **text_style(11))


def _row_percent(matrix: npt.ArrayLike, count: int) -> Floats:
    """Each row in percent of its sum; NaN where the label does not occur."""
    counts = np.asarray(matrix, dtype=np.float64)
    if counts.shape != (count, count):
        raise ValueError(f"the matrix has shape {counts.shape}, but there are {count} class names")
    if count == 0:
        raise ValueError("no class to draw")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError("counts of a confusion matrix are finite and not negative")
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, 100 * counts / np.where(sums > 0, sums, 1), np.nan)


def _annotate_cells(axes: "Axes", percent: Floats, size: float) -> None:
    for (row, column), value in np.ndenumerate(percent):
        if value >= 0.05:  # zeros stay empty; a row without pixels is NaN
            axes.text(
                column,
                row,
                f"{value:.1f}" if value < 99.95 else "100",
                ha="center",
                va="center",
                **text_style(size, "white" if value > 36 else INK),
            )


def _colour_bar(figure: "Figure", axes: "Axes", image: Any, edge: float) -> None:
    box = axes.get_position()
    inch = box.width / edge
    bar_axes = figure.add_axes((box.x1 + 0.18 * inch, box.y0, 0.16 * inch, box.height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_ticks([0, 1, 5, 10, 25, 50, 75, 100])
    bar.ax.tick_params(labelsize=8, length=2, color=FAINT_INK, labelcolor=INK, labelfontfamily=FONT)
    bar.ax.minorticks_off()
    bar.ax.set_title("%", **text_style(9))
    bar.outline.set_visible(False)


def _list_confusions(axes: "Axes", percent: Floats, names: Sequence[str]) -> None:
    """Write the largest confusions to the right of the matrix and its colour bar."""
    confusions = _largest_confusions(percent)
    left = 1.05 * 72  # points

    def write(
        x: float, y: float, text: str, size: float = 9.5, ink: str = INK, **options: Any
    ) -> None:
        axes.annotate(
            text,
            (1, 1),
            xycoords="axes fraction",
            xytext=(left + x, -y),
            textcoords="offset points",
            va="top",
            **text_style(size, ink),
            **options,
        )

    write(0, 0, "Largest confusions", 11, fontweight="bold")
    write(0, 17, "label → prediction, share of the label's pixels", 8.5, FAINT_INK)
    y = 38.0
    for row, column in confusions:
        write(36, y, f"{percent[row, column]:.1f}%", ha="right")
        write(44, y, f"{names[row]} → {names[column]}")
        y += 17
    if not confusions:
        write(0, y, "none")
        y += 17
    absent = int(np.isnan(percent).all(axis=1).sum())
    if absent:
        classes = "class does" if absent == 1 else "classes do"
        write(0, y + 8, f"gray rows: {absent} {classes} not occur", 8.5, FAINT_INK)


def _largest_confusions(percent: Floats) -> list[tuple[int, int]]:
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LARGEST_CONFUSIONS]
    places = [divmod(int(place), len(wrong)) for place in order]
    return [place for place in places if wrong[place] > 0]
