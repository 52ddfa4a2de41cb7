"""Figures in words, the same on the screen and in files."""

import math
from collections.abc import Iterable


def percent(fraction: float | None) -> str:
    """`0.1234` as `12.34`; `n/a` for NaN or None."""
    return "n/a" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"


def pixel_sizes(sizes: Iterable[tuple[int, int]]) -> str:
    """(height, width) of the smallest and the largest as width × height, as pictures are named."""
    return " to ".join(f"{width}×{height}" for height, width in sizes) + " pixels"
