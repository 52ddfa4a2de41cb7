"""Embeddings of pixels in two dimensions, by class, with the wrong pixels marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pne_seg.visualization.figure import (
    BLACK,
    add_legend,
    add_title,
    figure_with_axes,
    text_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_CLASSES = 10  # in the legend


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
    """Draw the directions of embeddings by their first two principal components.

    Each panel has components of its own. Dots are right pixels, crosses wrong ones, in the color of
    their label.

    Args:
        panels: side by side, such as before and after a training.
        class_names: C names.
        palette: (C, 3) colors, 0..255; matplotlib's if None.
        title: the heading.
    """
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    if palette is None:
        colors = np.array([colormaps["tab20"](i % 20)[:3] for i in range(len(class_names))])
    else:
        colors = np.asarray(palette) / 255
    figure, (all_axes,) = figure_with_axes([5.2] * len(panels), [5.2], gaps=(0.5, 0))
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, panel, colors)
    labels = np.concatenate([panel.labels for panel in panels]).astype(np.int64)
    number = np.bincount(labels, minlength=len(class_names))
    shown = [index for index in np.argsort(-number, kind="stable") if number[index]]

    def marker(kind: str, color: Any) -> Line2D:
        return Line2D([], [], linestyle="", marker=kind, color=color, markersize=6)

    entries = [(class_names[index], marker("o", colors[index])) for index in shown[:_MOST_CLASSES]]
    if more := len(shown[_MOST_CLASSES:]):
        entries.append((f"and {more} more", marker("", BLACK)))
    add_legend(figure, [*entries, ("wrong pixel", marker("x", BLACK))])
    add_title(figure, title)
    return figure


def principal_components(
    vectors: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the first two components (P, 2) of unit vectors, and their shares (2,) of variance."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    centered = (unit - unit.mean(0)).astype(np.float64) if len(unit) else unit.astype(np.float64)
    variance, axes = np.linalg.eigh(centered.T @ centered)  # ascending
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)
    points = centered @ axes
    shares = variance[::-1][:2].clip(min=0) / max(variance.sum(), 1e-12)
    missing = 2 - points.shape[1]  # of one channel only
    return np.pad(points, ((0, 0), (0, missing))), np.pad(shares, (0, missing))


def _draw(axes: "Axes", panel: Embeddings, colors: npt.NDArray[Any]) -> None:
    points, shares = principal_components(panel.vectors)
    labels = panel.labels.astype(np.int64)
    right = panel.labels == panel.predictions
    accuracy = f", {right.mean():.0%} right" if len(right) else ""
    axes.set_title(f"{panel.title}{accuracy}", loc="left", **text_style(11))
    dots: dict[str, Any] = {"marker": "o", "s": 9, "linewidths": 0.0}
    crosses: dict[str, Any] = {"marker": "x", "s": 20, "linewidths": 0.9}
    for chosen, style in ((right, dots), (~right, crosses)):
        across, up = points[chosen].T
        axes.scatter(across, up, c=colors[labels[chosen]], alpha=0.75, **style)
    axes.set_xticklabels([])
    axes.set_yticklabels([])
    axes.set_xlabel(f"{shares[0]:.0%} of the variance", **text_style(9))
    axes.set_ylabel(f"{shares[1]:.0%}", **text_style(9))
