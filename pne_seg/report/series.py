"""The points of a logged curve, made ready to draw: in order, smoothed, and no more than needed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def points(pairs: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Steps and values in the order of the steps, without what is not finite."""
    array = np.asarray(list(pairs), dtype=np.float64).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    array = array[np.argsort(array[:, 0], kind="stable")]
    return array[:, 0], array[:, 1]


def smooth(values: Floats) -> Floats:
    """Two passes of a centred mean (it does not lag behind), its window cut off at both ends."""
    index = np.arange(len(values))
    half = max(2, len(values) // 60)
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    for _ in range(2):
        sums = np.concatenate([[0.0], np.cumsum(values)])
        values = (sums[last] - sums[first]) / (last - first)
    return values


def thin(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
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
