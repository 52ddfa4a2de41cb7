"""Plots of a training: curves of losses and mIoU, and embeddings of pixels in two dimensions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.visualization.figure import (
    BLACK,
    BLUE,
    GRAY,
    VERMILION,
    add_legend,
    add_title,
    figure_with_axes,
    text_style,
)
from pne_seg.visualization.fonts import drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = npt.NDArray[np.float64]
History = Mapping[str, Sequence[tuple[float, float]]]

# Colors that stay apart for color-blind eyes (Okabe and Ito).
_LOSSES = {
    "train/loss": BLACK,
    "train/loss_ce": "#0072b2",
    "train/loss_contrast": VERMILION,
    "train/loss_auxiliary": "#009e73",
    "val/loss": "#cc79a7",
}
_MORE = ("#e69f00", "#56b4e9", "#8c564b")  # for further losses, in the order they are logged
_SMOOTHED_FROM = 30  # shorter series are drawn as they are, with a marker at each point
_MOST_CLASSES = 10  # in the legend of embeddings


def plot_curves(history: History, *, title: str) -> "Figure":
    """Draw the losses and the validation mIoU of (steps, value) pairs by their logged names.

    Values that are not finite are left out.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure, (losses, miou) = figure_with_axes([6.4, 5.2], 4.2, gap=0.85)
    losses.set_title("Losses", loc="left", **text_style(11))
    miou.set_title("Validation mIoU", loc="left", **text_style(11))
    lines = _draw_losses(losses, history)
    _draw_miou(miou, *_points(history.get("val/mIoU", ())))
    drawn = [np.asarray(line.get_xdata(), float) for axes in (losses, miou) for line in axes.lines]
    for axes, text in ((losses, "no loss logged yet"), (miou, "no validation yet")):
        if not axes.lines:
            axes.set(xticks=[], yticks=[])
            style = {"ha": "center", "va": "center", **text_style(11, GRAY)}
            axes.text(0.5, 0.5, text, transform=axes.transAxes, **style)
            continue
        steps = np.concatenate(drawn)
        first, last = float(steps.min()), float(steps.max())
        # A training that was resumed late begins where it was resumed.
        start = first if last / 2 < first < last else 0.0
        margin = 0.03 * (last - start) or 1.0
        axes.set_xlim(max(0.0, start - margin), last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("steps", **text_style(10))
    add_legend(figure, lines)
    add_title(figure, title)
    return figure


def smooth(values: Floats) -> Floats:
    """Apply two passes of a centered mean, its window cut off at both ends; it does not lag."""
    window = np.ones(1 + 2 * max(2, len(values) // 60))
    inside = np.convolve(np.ones(len(values)), window, "same")
    for _ in range(2):
        values = np.convolve(values, window, "same") / inside
    return values


def _points(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return the steps in ascending order and their values, without what is not finite."""
    array = np.asarray(list(pairs), dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    array = array[np.argsort(array[:, 0], kind="stable")]
    return array[:, 0], array[:, 1]


def _draw_losses(axes: "Axes", history: History) -> list[tuple[str, "Line2D"]]:
    """Draw all losses; return the lines for the legend, with their names."""
    others = [name for name in history if name.startswith("train/loss_") and name not in _LOSSES]
    lines: list[tuple[str, Line2D]] = []
    solid: list[Floats] = []  # what must be seen whole
    faint: list[Floats] = []  # what may leave the picture for a spike or two
    for name, color in (*_LOSSES.items(), *zip(others, cycle(_MORE), strict=False)):
        steps, values = _points(history.get(name, ()))
        if len(values) == 0:
            continue
        marker = "o" if len(values) < 2 * _SMOOTHED_FROM else ""
        if name.startswith("train/") and len(values) >= _SMOOTHED_FROM:
            axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.7, zorder=1.5)
            faint.append(values)
            values, marker = smooth(values), ""
        solid.append(values)
        (line,) = axes.plot(steps, values, color=color, linewidth=1.8, marker=marker, markersize=4)
        lines.append((name, line))
    if solid:
        _set_loss_scale(axes, np.concatenate(solid), np.concatenate([*faint, *solid]))
    return lines


def _set_loss_scale(axes: "Axes", solid: Floats, everything: Floats) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = float(solid.min()), float(solid.max())
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.6)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("loss (log scale)", **text_style(10))
        return
    # A first loss far above the rest, or one spike, would flatten everything else.
    top = max(high, float(np.percentile(everything, 99)))
    bottom = min(low, float(np.percentile(everything, 1)), 0.0)
    margin = 0.06 * (top - bottom) or 1.0
    axes.set_ylim(bottom - (margin if bottom < 0 else 0), top + margin)
    axes.set_ylabel("loss", **text_style(10))


def _draw_miou(axes: "Axes", steps: Floats, values: Floats) -> None:
    if len(values) == 0:
        return
    percent = 100 * values
    size = 2.5 if len(values) > 60 else 4.5
    axes.plot(steps, percent, color=BLUE, linewidth=1.6, marker="o", markersize=size, zorder=3)
    best = int(np.argmax(percent))
    circle: dict[str, Any] = {"markersize": 8, "markerfacecolor": "white", "markeredgewidth": 2}
    axes.plot(steps[best], percent[best], color=VERMILION, marker="o", zorder=4, **circle)
    spread = float(np.ptp(percent)) or 20.0
    axes.set_ylim(max(0.0, percent.min() - 0.08 * spread), percent.max() + 0.18 * spread)
    axes.set_ylabel("mIoU (%)", **text_style(10))
    span = steps[-1] - steps[0]
    where = (steps[best] - steps[0]) / span if span else 1.0
    side = "left" if where < 0.3 else "right" if where > 0.7 else "center"
    text = f"best {percent[best]:.1f}% at step {steps[best]:,.0f}"
    offset: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points", "va": "bottom"}
    style = {"ha": side, "zorder": 5, **text_style(10, VERMILION)}
    axes.annotate(text, (steps[best], percent[best]), **offset, **style)


@dataclass(frozen=True)
class Embeddings:
    """Pixels of a batch at one time: (P, D) vectors, (P,) labels and predictions."""

    title: str
    vectors: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    predictions: npt.NDArray[Any]


def plot_embeddings(
    panels: Sequence[Embeddings],
    *,
    class_names: Sequence[str],
    palette: npt.ArrayLike | None,
    title: str,
) -> "Figure":
    """Draw the directions of embeddings by their first two principal components, side by side.

    Each panel has components of its own. Dots are right pixels, crosses wrong ones, in the color of
    their label by a (C, 3) palette in 0..255, or matplotlib's.
    """
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    if palette is None:
        colors = np.array([colormaps["tab20"](i % 20)[:3] for i in range(len(class_names))])
    else:
        colors = np.asarray(palette) / 255
    figure, all_axes = figure_with_axes([5.2] * len(panels), 5.2, gap=0.5)
    for axes, panel in zip(all_axes, panels, strict=True):
        points, shares = principal_components(panel.vectors)
        labels = panel.labels.astype(np.int64)
        right = panel.labels == panel.predictions
        accuracy = f", {right.mean():.0%} right" if len(right) else ""
        axes.set_title(f"{panel.title}{accuracy}", loc="left", **text_style(11))
        for chosen, marker, size, width in ((right, "o", 9, 0.0), (~right, "x", 20, 0.9)):
            style: dict[str, Any] = {"marker": marker, "s": size, "linewidths": width}
            across, up = points[chosen].T
            axes.scatter(across, up, c=colors[labels[chosen]], alpha=0.75, **style)
        axes.set(xticklabels=[], yticklabels=[])
        axes.set_xlabel(f"{shares[0]:.0%} of the variance", **text_style(9))
        axes.set_ylabel(f"{shares[1]:.0%}", **text_style(9))
    every_label = np.concatenate([panel.labels for panel in panels]).astype(np.int64).tolist()
    shown = [index for index, _ in Counter(sorted(every_label)).most_common()]
    names = drawable(class_names)
    entries = [(names[index], "o", colors[index]) for index in shown[:_MOST_CLASSES]]
    if more := len(shown[_MOST_CLASSES:]):
        entries.append((f"and {more} more", "", BLACK))
    entries.append(("wrong pixel", "x", BLACK))
    lines = [
        (name, Line2D([], [], linestyle="", marker=marker, color=color, markersize=6))
        for name, marker, color in entries
    ]
    add_legend(figure, lines)
    add_title(figure, title)
    return figure


def principal_components(vectors: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the first two components (P, 2) of unit vectors, and their shares (2,) of variance."""
    vectors = np.pad(vectors.astype(np.float64), ((0, 0), (0, max(0, 2 - vectors.shape[1]))))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centered = unit - unit.sum(0) / max(1, len(unit))
    variance, axes = np.linalg.eigh(centered.T @ centered)  # ascending
    axes = axes[:, :-3:-1]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), [0, 1]] < 0, -1, 1)  # a sign that stays
    return centered @ axes, variance[:-3:-1].clip(min=0) / max(variance.sum(), 1e-12)
