"""Curves, IoU bars and confusion matrices.

Scores come as fractions and are shown as percent. matplotlib is imported inside the functions, as
it is slow to load and few commands draw; only its object-oriented interface with the Agg canvas is
used. Colours and fonts are set on the objects, so that the user's `rcParams` neither change nor
show, and threads may draw at the same time.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.files import save_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
History = Mapping[str, Sequence[tuple[float, float]]]

DPI = 120
ANNOTATED_CLASSES = 20  # a larger confusion matrix has no room for numbers
LARGEST_CONFUSIONS = 8

_FONT = "DejaVu Sans"
_INK = "#222222"
_FAINT_INK = "#6b6b6b"
_GRID = "#e3e3e3"
_BLUE = "#2b6ca3"
_VERMILION = "#d55e00"

# Colours that stay apart for colour-blind eyes (Okabe and Ito).
_LOSSES = (
    ("train/loss", _INK),
    ("train/loss_ce", "#0072b2"),
    ("train/loss_contrast", "#d55e00"),
    ("train/loss_auxiliary", "#009e73"),
    ("val/loss", "#cc79a7"),
)
_SMOOTHED_FROM = 30  # shorter series are drawn as they are, with a marker at each point


def plot_curves(history: History, *, path: str | os.PathLike[str], title: str) -> None:
    """Save the losses and the validation mIoU over the optimiser steps.

    Args:
        history: (step, value) pairs under the names they are logged with: `train/loss`,
            `train/loss_ce`, `train/loss_contrast`, `train/loss_auxiliary`, `val/loss`, and
            `val/mIoU` as a fraction. Missing series and values that are not finite are left out.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.
    """
    _save(_figure_curves(history, title), path)


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
    _save(_figure_class_iou(class_names, iou, title, pixel_share), path)


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
    _save(_figure_confusion_matrix(matrix, class_names, title), path)


# ---- curves ----------------------------------------------------------------------------------


def _figure_curves(history: History, title: str) -> "Figure":
    figure, (losses, scores) = _figure_with_axes(
        title, [(6.4, 4.2), (5.2, 4.2)], space=0.85, title_space=0.36
    )
    _draw_losses(losses, history)
    _draw_miou(scores, history)
    names = [*(name for name, _ in _LOSSES), "val/mIoU"]
    steps = np.concatenate([_series(history.get(name, ()))[0] for name in names])
    for axes in (losses, scores):
        if axes.lines:
            _step_axis(axes, steps)
    return figure


def _draw_losses(axes: "Axes", history: History) -> None:
    axes.set_title("Losses", loc="left", fontsize=11, color=_INK, fontfamily=_FONT)
    solid: list[Floats] = []  # what must be seen whole
    faint: list[Floats] = []  # what may leave the picture for a spike or two
    for name, colour in _LOSSES:
        steps, values = _series(history.get(name, ()))
        if len(values) == 0:
            continue
        line: dict[str, Any] = {
            "color": colour,
            "label": name,
            "linewidth": 1.8,
            "solid_capstyle": "round",
        }
        if len(values) >= _SMOOTHED_FROM and name.startswith("train/"):
            smooth = _smooth(values)
            axes.plot(*_thin(steps, values), color=colour, alpha=0.22, linewidth=0.7, zorder=1.5)
            axes.plot(*_thin(steps, smooth), zorder=3, **line)
            solid.append(smooth)
            faint.append(values)
        else:
            few = len(values) < 2 * _SMOOTHED_FROM
            axes.plot(steps, values, marker="o" if few else "", markersize=4, zorder=4, **line)
            solid.append(values)
    if not solid:
        _note(axes, "no loss logged yet")
        return
    _loss_axis(axes, np.concatenate(solid), np.concatenate([*faint, *solid]))
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.13),  # below the axes, where it hides no curve
        borderaxespad=0,
        borderpad=0,
        ncols=3,
        prop={"family": _FONT, "size": 9},
        labelcolor=_INK,
        frameon=False,
    )


def _loss_axis(axes: "Axes", solid: Floats, everything: Floats) -> None:
    low, high = float(solid.min()), float(solid.max())
    if low > 0 and high / low > 30:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.6)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("loss (log scale)", color=_INK, fontfamily=_FONT, fontsize=10)
        return
    # A first loss far above the rest, or one spike, would flatten everything else.
    top = max(high, float(np.percentile(everything, 99)))
    bottom = min(low, float(np.percentile(everything, 1)), 0.0)
    margin = 0.06 * (top - bottom) or 1.0
    axes.set_ylim(bottom - (margin if bottom < 0 else 0), top + margin)
    axes.set_ylabel("loss", color=_INK, fontfamily=_FONT, fontsize=10)


def _draw_miou(axes: "Axes", history: History) -> None:
    axes.set_title("Validation mIoU", loc="left", fontsize=11, color=_INK, fontfamily=_FONT)
    steps, values = _series(history.get("val/mIoU", ()))
    if len(values) == 0:
        _note(axes, "no validation yet")
        return
    axes.set_ylabel("mIoU (%)", color=_INK, fontfamily=_FONT, fontsize=10)
    percent = 100 * values
    many = len(values) > 60
    axes.plot(
        steps,
        percent,
        color=_BLUE,
        linewidth=1.6,
        marker="o",
        markersize=2.5 if many else 4.5,
        zorder=3,
    )
    best = int(np.argmax(percent))
    axes.plot(
        steps[best : best + 1],
        percent[best : best + 1],
        color=_VERMILION,
        marker="o",
        markersize=8,
        markerfacecolor="white",
        markeredgecolor=_VERMILION,
        markeredgewidth=2,
        linestyle="",
        zorder=4,
    )
    spread = float(np.ptp(percent)) or 20.0
    axes.set_ylim(percent.min() - 0.08 * spread, percent.max() + 0.18 * spread)
    where = (steps[best] - steps[0]) / ((steps[-1] - steps[0]) or 1)
    side = "left" if where < 0.3 else "right" if where > 0.7 else "center"
    axes.annotate(
        f"best {percent[best]:.1f}% at step {steps[best]:,.0f}",
        (steps[best], percent[best]),
        xytext=({"left": -4, "right": 4, "center": 0}[side], 9),
        textcoords="offset points",
        ha="center" if len(values) == 1 else side,
        va="bottom",
        fontsize=10,
        fontfamily=_FONT,
        color=_VERMILION,
        zorder=5,
    )


def _series(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Steps and values in the order of the steps, without what is not finite."""
    array = np.asarray(list(pairs), dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    array = array[np.argsort(array[:, 0], kind="stable")]
    return array[:, 0], array[:, 1]


def _smooth(values: Floats) -> Floats:
    """Two passes of a centred mean (it does not lag behind), its window cut off at both ends."""
    index = np.arange(len(values))
    half = max(2, len(values) // 60)
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(values)])
        values = (sums[last] - sums[first]) / (last - first)
    return values


def _thin(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Keep the lowest and highest of every few points where there are more than pixels.

    The picture stays the same: the line covers the same height in every column of pixels.
    """
    size = len(values) // 1000
    if size <= 2:
        return steps, values
    starts = range(0, len(values), size)
    extremes = [
        start + extreme(values[start : start + size])
        for start in starts
        for extreme in (np.argmin, np.argmax)
    ]
    kept = np.unique([0, *extremes, len(values) - 1])
    return steps[kept], values[kept]


def _step_axis(axes: "Axes", steps: Floats) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    margin = 0.03 * float(np.ptp(steps)) or 2.0
    axes.set_xlim(steps.min() - margin, steps.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("step", color=_INK, fontfamily=_FONT, fontsize=10)


def _note(axes: "Axes", text: str) -> None:
    """Write into empty axes."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=11,
        fontfamily=_FONT,
        color=_FAINT_INK,
    )


# ---- IoU of each class -----------------------------------------------------------------------


def _figure_class_iou(
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

    figure, (axes,) = _figure_with_axes(title, [(6.6, row * (count + 0.6))], title_space=0.34)
    places = np.arange(count)
    absent = np.isnan(percent)
    axes.barh(places, np.nan_to_num(percent), height=0.72, color=_BLUE, linewidth=0, zorder=2)
    for place, value in enumerate(percent):
        axes.annotate(
            "n/a" if np.isnan(value) else f"{value:.1f}",
            (0 if np.isnan(value) else value, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=size,
            fontfamily=_FONT,
            color=_FAINT_INK if np.isnan(value) else _INK,
            zorder=5,
            # hides the mean line where it would run through the number
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    axes.set_ylim(count - 0.2, -0.8)
    axes.set_yticks(places, labels=[str(class_names[index]) for index in order])
    axes.tick_params(axis="y", labelsize=size, length=0)
    for label, missing in zip(axes.get_yticklabels(), absent, strict=True):
        label.set_color(_FAINT_INK if missing else _INK)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("IoU (%)", color=_INK, fontfamily=_FONT, fontsize=10)

    if not absent.all():
        mean = float(np.nanmean(percent))
        axes.axvline(mean, color=_VERMILION, linewidth=1.3, linestyle=(0, (4, 3)), zorder=3)
        counted = f" over {count - absent.sum()} of {count} classes" if absent.any() else ""
        axes.annotate(
            f"mean {mean:.1f}%{counted}",
            (mean, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right" if mean > 50 else "left",  # away from the nearer edge
            va="bottom",
            fontsize=10,
            fontfamily=_FONT,
            color=_VERMILION,
        )
    if pixel_share is not None:
        share = 100 * _fractions(pixel_share, count, "pixel_share")[order]
        texts = ["n/a" if np.isnan(value) else _share_text(value) for value in share]
        column: dict[str, Any] = {
            "ha": "right",
            "color": _FAINT_INK,
            "fontfamily": _FONT,
            "fontsize": size,
        }
        side = axes.get_yaxis_transform()
        for place, text in enumerate(texts):
            axes.text(1.07, place, text, transform=side, va="center_baseline", **column)
        axes.annotate(
            "pixels",
            (1.07, 1),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            va="bottom",
            **{**column, "fontsize": 10},
        )
    return figure


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


# ---- confusion matrix ------------------------------------------------------------------------


def _figure_confusion_matrix(
    matrix: npt.ArrayLike, class_names: Sequence[str], title: str
) -> "Figure":
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    percent = _row_percent(matrix, len(class_names))
    count = len(percent)
    names = [str(name) for name in class_names]
    annotated = count <= ANNOTATED_CLASSES
    edge = float(np.clip(0.62 * count, 3.2, 8.4)) if annotated else 10.0  # inches
    size = 9.0 if annotated else 7.0  # points
    figure, (axes,) = _figure_with_axes(title, [(edge, edge)], title_space=0.25)

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
    step = int(np.ceil(count * 0.115 / edge))  # a label of 7 points needs 0.115 inches
    ticks = np.arange(0, count, step)
    labels = [names[tick] for tick in ticks]
    axes.set_yticks(ticks, labels=labels)
    axes.set_xticks(ticks, labels=labels)
    axes.tick_params(axis="both", labelsize=size, length=0 if step == 1 else 2.5)
    for label in axes.get_xticklabels():
        label.set(rotation=45 if annotated else 90, ha="right", rotation_mode="anchor")
        if not annotated:
            label.set_verticalalignment("center")
    axes.set_ylabel("label", color=_INK, fontfamily=_FONT, fontsize=11)
    axes.set_xlabel("prediction", color=_INK, fontfamily=_FONT, fontsize=11)
    if annotated:
        _annotate_cells(axes, percent, size=min(9.0, 72 * edge / count * 0.27))

    _colour_bar(figure, axes, image, edge)
    _list_confusions(axes, percent, names, offset=1.05)
    return figure


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
                fontsize=size,
                fontfamily=_FONT,
                color="white" if value > 36 else _INK,
            )


def _colour_bar(figure: "Figure", axes: "Axes", image: Any, edge: float) -> None:
    box = axes.get_position()
    inch = box.width / edge
    bar_axes = figure.add_axes((box.x1 + 0.18 * inch, box.y0, 0.16 * inch, box.height))
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_ticks([0, 1, 5, 10, 25, 50, 75, 100])
    bar.ax.tick_params(labelsize=8, length=2, color=_FAINT_INK, labelcolor=_INK)
    bar.ax.tick_params(labelfontfamily=_FONT)
    bar.ax.minorticks_off()
    bar.ax.set_title("%", fontsize=9, color=_INK, fontfamily=_FONT)
    bar.outline.set_visible(False)


def _list_confusions(axes: "Axes", percent: Floats, names: Sequence[str], offset: float) -> None:
    """Write the largest confusions, `offset` inches to the right of the matrix."""
    confusions = _largest_confusions(percent)
    style = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
    start = 72 * offset

    def write(x: float, y: float, text: str, **options: Any) -> None:
        options = {"fontsize": 9.5, "color": _INK, "fontfamily": _FONT, **style, **options}
        axes.annotate(text, (1, 1), xytext=(start + x, -y), **options)

    write(0, 0, "Largest confusions", fontsize=11, fontweight="bold")
    write(0, 17, "label → prediction, share of the label's pixels", color=_FAINT_INK, fontsize=8.5)
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
        write(0, y + 8, f"gray rows: {absent} {classes} not occur", color=_FAINT_INK, fontsize=8.5)


def _largest_confusions(percent: Floats) -> list[tuple[int, int]]:
    wrong = np.nan_to_num(percent)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:LARGEST_CONFUSIONS]
    places = [divmod(int(place), len(wrong)) for place in order]
    return [place for place in places if wrong[place] > 0]


# ---- figure and file -------------------------------------------------------------------------


def _figure_with_axes(
    title: str,
    sizes: Sequence[tuple[float, float]],
    *,
    space: float = 0.0,
    title_space: float = 0.3,
) -> tuple["Figure", list["Axes"]]:
    """Make a figure with axes of fixed sizes in inches, side by side under a title.

    The picture is cropped to (or grown to) what is drawn when it is saved: names of any length
    stay whole, and do not squeeze the axes as a layout engine would.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = sum(size[0] for size in sizes) + space * (len(sizes) - 1)
    height = max(size[1] for size in sizes)
    figure = Figure(figsize=(width, height + title_space), dpi=DPI, facecolor="white")
    figure.set_layout_engine("none")  # `rcParams` may ask for one
    FigureCanvasAgg(figure)
    left = 0.0
    all_axes: list[Axes] = []
    for own_width, own_height in sizes:
        full = height + title_space
        box = (left / width, (height - own_height) / full, own_width / width, own_height / full)
        axes = figure.add_axes(box, facecolor="white")
        _style(axes)
        all_axes.append(axes)
        left += own_width + space
    figure.text(
        0,
        1,
        title,
        ha="left",
        va="bottom",
        fontsize=13,
        fontweight="bold",
        fontfamily=_FONT,
        color=_INK,
    )
    return figure, all_axes


def _style(axes: "Axes") -> None:
    for side, spine in axes.spines.items():
        spine.set(color="#b5b5b5", linewidth=0.8, visible=side in ("left", "bottom"))
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=_GRID, linewidth=0.8, linestyle="-", alpha=1.0)
    axes.tick_params(
        which="both",
        color="#b5b5b5",
        labelcolor=_INK,
        labelsize=9,
        labelfontfamily=_FONT,
        direction="out",
        top=False,
        right=False,
    )


def _save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # A dollar sign in a class or file name is no formula.
        text.set_parse_math(False)
        text.set_usetex(False)
    save_atomically(
        path,
        lambda file: figure.savefig(
            file,
            format="png",
            dpi=DPI,
            facecolor="white",
            transparent=False,
            bbox_inches="tight",
            pad_inches=0.18,
        ),
    )
