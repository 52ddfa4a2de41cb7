"""Curves of a run: the losses and the validation mIoU over the optimizer steps."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

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


def plot_curves(history: History, *, title: str) -> "Figure":
    """Draw the losses and the validation mIoU over the optimizer steps.

    Args:
        history: (step, value) pairs under the names they are logged with: `train/loss`,
            `train/loss_ce`, `train/loss_contrast` and any other `train/loss_…`, `val/loss`, and
            `val/mIoU` as a fraction. Missing series and values that are not finite are left out.
        title: the heading.
    """
    figure, ((losses, miou),) = figure_with_axes([6.4, 5.2], [4.2], gaps=(0.85, 0))
    losses.set_title("Losses", loc="left", **text_style(11))
    miou.set_title("Validation mIoU", loc="left", **text_style(11))
    lines = _draw_losses(losses, history)
    _draw_miou(miou, *_points(history.get("val/mIoU", ())))
    drawn = [np.asarray(line.get_xdata(), float) for axes in (losses, miou) for line in axes.lines]
    for axes, text in ((losses, "no loss logged yet"), (miou, "no validation yet")):
        if axes.lines:
            _set_steps(axes, np.concatenate(drawn))
        else:
            axes.set_xticks([])
            axes.set_yticks([])
            style = {"ha": "center", "va": "center", **text_style(11, GRAY)}
            axes.text(0.5, 0.5, text, transform=axes.transAxes, **style)
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
    """Return steps and values in the order of the steps, without what is not finite."""
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
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = float(solid.min()), float(solid.max())
    if low > 0 and high / low > 30:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.6)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
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
    (circle,) = axes.plot(steps[[best]], percent[[best]], color=VERMILION, marker="o", zorder=4)
    circle.set(markersize=8, markerfacecolor="white", markeredgewidth=2)
    spread = float(np.ptp(percent)) or 20.0
    axes.set_ylim(percent.min() - 0.08 * spread, percent.max() + 0.18 * spread)
    axes.set_ylabel("mIoU (%)", **text_style(10))
    where = (steps[best] - steps[0]) / ((steps[-1] - steps[0]) or 1)
    single = len(values) == 1
    axes.annotate(
        f"best {percent[best]:.1f}% at step {steps[best]:,.0f}",
        (steps[best], percent[best]),
        xytext=(0, 9),
        textcoords="offset points",
        ha="center" if single else "left" if where < 0.3 else "right" if where > 0.7 else "center",
        va="bottom",
        zorder=5,
        **text_style(10, VERMILION),
    )


def _set_steps(axes: "Axes", steps: Floats) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    margin = 0.03 * float(np.ptp(steps)) or 2.0
    axes.set_xlim(steps.min() - margin, steps.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("step", **text_style(10))
