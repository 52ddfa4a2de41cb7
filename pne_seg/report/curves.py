"""Curves of a run: the losses and the validation mIoU over the optimiser steps."""

import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from pne_seg.report.canvas import (
    BLUE,
    FAINT_INK,
    FONT,
    INK,
    VERMILION,
    figure_with_axes,
    save,
    text_style,
)
from pne_seg.report.series import Floats, points, smooth, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Mapping[str, Sequence[tuple[float, float]]]

# Colours that stay apart for colour-blind eyes (Okabe and Ito).
_LOSSES = (
    ("train/loss", INK),
    ("train/loss_ce", "#0072b2"),
    ("train/loss_contrast", VERMILION),
    ("train/loss_auxiliary", "#009e73"),
    ("val/loss", "#cc79a7"),
)
_MORE = ("#e69f00", "#56b4e9", "#8c564b")  # for further losses, in the order they are logged
_SMOOTHED_FROM = 30  # shorter series are drawn as they are, with a marker at each point


def plot_curves(history: History, *, path: str | os.PathLike[str], title: str) -> None:
    """Save the losses and the validation mIoU over the optimiser steps.

    Args:
        history: (step, value) pairs under the names they are logged with: `train/loss`,
            `train/loss_ce`, `train/loss_contrast` and any other `train/loss_…`, `val/loss`, and
            `val/mIoU` as a fraction. Missing series and values that are not finite are left out.
        path: the PNG file; its folder is made where missing, an older file is replaced at once.
        title: the heading.
    """
    save(_figure(history, title), path)


def _figure(history: History, title: str) -> "Figure":
    figure, (losses, scores) = figure_with_axes(
        title, [6.4, 5.2], 4.2, title_space=0.36, space=0.85
    )
    _draw_losses(losses, history)
    _draw_miou(scores, history)
    names = [*(name for name, _ in _loss_colours(history)), "val/mIoU"]
    steps = np.concatenate([points(history.get(name, ()))[0] for name in names])
    for axes in (losses, scores):
        if axes.lines:
            _step_axis(axes, steps)
    return figure


def _loss_colours(history: History) -> list[tuple[str, str]]:
    """Each loss's name and colour: the usual ones, then whatever else was logged as a loss."""
    usual = dict(_LOSSES)
    others = [name for name in history if name.startswith("train/loss_") and name not in usual]
    return [*_LOSSES, *zip(others, cycle(_MORE), strict=False)]


def _draw_losses(axes: "Axes", history: History) -> None:
    axes.set_title("Losses", loc="left", **text_style(11))
    solid: list[Floats] = []  # what must be seen whole
    faint: list[Floats] = []  # what may leave the picture for a spike or two
    for name, colour in _loss_colours(history):
        steps, values = points(history.get(name, ()))
        if len(values) == 0:
            continue
        line: dict[str, Any] = {
            "color": colour,
            "label": name,
            "linewidth": 1.8,
            "solid_capstyle": "round",
        }
        if len(values) >= _SMOOTHED_FROM and name.startswith("train/"):
            smoothed = smooth(values)
            axes.plot(*thin(steps, values), color=colour, alpha=0.22, linewidth=0.7, zorder=1.5)
            axes.plot(*thin(steps, smoothed), zorder=3, **line)
            solid.append(smoothed)
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
        prop={"family": FONT, "size": 9},
        labelcolor=INK,
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
        axes.set_ylabel("loss (log scale)", **text_style(10))
        return
    # A first loss far above the rest, or one spike, would flatten everything else.
    top = max(high, float(np.percentile(everything, 99)))
    bottom = min(low, float(np.percentile(everything, 1)), 0.0)
    margin = 0.06 * (top - bottom) or 1.0
    axes.set_ylim(bottom - (margin if bottom < 0 else 0), top + margin)
    axes.set_ylabel("loss", **text_style(10))


def _draw_miou(axes: "Axes", history: History) -> None:
    axes.set_title("Validation mIoU", loc="left", **text_style(11))
    steps, values = points(history.get("val/mIoU", ()))
    if len(values) == 0:
        _note(axes, "no validation yet")
        return
    axes.set_ylabel("mIoU (%)", **text_style(10))
    percent = 100 * values
    many = len(values) > 60
    axes.plot(
        steps,
        percent,
        color=BLUE,
        linewidth=1.6,
        marker="o",
        markersize=2.5 if many else 4.5,
        zorder=3,
    )
    best = int(np.argmax(percent))
    axes.plot(
        steps[best : best + 1],
        percent[best : best + 1],
        color=VERMILION,
        marker="o",
        markersize=8,
        markerfacecolor="white",
        markeredgecolor=VERMILION,
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
        **text_style(10, VERMILION),
        zorder=5,
    )


def _step_axis(axes: "Axes", steps: Floats) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    margin = 0.03 * float(np.ptp(steps)) or 2.0
    axes.set_xlim(steps.min() - margin, steps.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("step", **text_style(10))


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
        **text_style(11, FAINT_INK),
    )
