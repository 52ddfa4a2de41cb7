"""Plots of a comparison as inline SVG, which take their colors from the page around them."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Curve = Mapping[int, float]
"""A metric by optimizer step."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the arms; they can be told apart by color-blind eyes, on light and on dark (Okabe and Ito)."""

_ROW = 24
_WIDTH = 600


class Interval(NamedTuple):
    """A mean with its interval, in percent; NaN bounds where it is unknown."""

    name: str
    mean: float
    low: float
    high: float


def color(index: int) -> str:
    """Return the color of the arm at an index; the baseline, 0, has the first."""
    return COLORS[index % len(COLORS)]


def forest_plot(rows: Sequence[Interval], label: str, colors: Sequence[str]) -> str:
    """Draw means with their intervals, one under the other, and a line at 0.

    Args:
        rows: from top to bottom.
        label: of the axis.
        colors: of the rows; those of `color`, or one for all.
    """
    left = min(260, 20 + 8 * max(len(row.name) for row in rows))
    right, top = 160, 6
    bottom = top + _ROW * len(rows)
    ends = [value for row in rows for value in row[1:] if math.isfinite(value)]
    scale = _Scale(min(0.0, *ends), max(0.0, *ends), left, _WIDTH - right)
    parts = [
        f'<line class="grid" x1="{scale(tick):.1f}" x2="{scale(tick):.1f}" y1="{top}" '
        f'y2="{bottom}"/><text class="tick" x="{scale(tick):.1f}" y="{bottom + 16}" '
        f'text-anchor="middle">{f"{tick:+g}" if tick else 0}</text>'
        for tick in scale.ticks
    ]
    zero = f"{scale(0):.1f}"
    parts.append(f'<line class="zero" x1="{zero}" x2="{zero}" y1="{top}" y2="{bottom}"/>')
    for index, row in enumerate(rows):
        dot = colors[index % len(colors)]
        y = top + _ROW * (index + 0.5)
        text = f"{row.mean:+.2f}"
        parts.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{html.escape(row.name)}</text>'
        )
        if math.isfinite(row.low):
            text += f" ({row.low:+.2f}, {row.high:+.2f})"
            parts.append(
                f'<line stroke="{dot}" stroke-width="2" x1="{scale(row.low):.1f}" '
                f'x2="{scale(row.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle fill="{dot}" cx="{scale(row.mean):.1f}" cy="{y}" r="4"/>')
        parts.append(f'<text class="value" x="{_WIDTH - right + 8}" y="{y + 4}">{text}</text>')
    middle = (left + _WIDTH - right) / 2
    parts.append(
        f'<text class="tick" x="{middle}" y="{bottom + 34}" text-anchor="middle">'
        f"{html.escape(label)}</text>"
    )
    return _svg(parts, bottom + 40, f"{label}: {', '.join(row.name for row in rows)}")


def curve_plot(arms: Mapping[str, Sequence[Curve]], label: str) -> str:
    """Draw each arm's mean over its seeds by step, on a band from their lowest to their highest.

    Args:
        arms: the curves of an arm's seeds, by its name.
        label: of the vertical axis.
    """
    left, right, top, bottom = 56, 16, 8, 300
    means, bands = {}, {}
    for name, curves in arms.items():
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        values = [[curve[step] for curve in curves] for step in steps]
        means[name] = [(s, sum(v) / len(v)) for s, v in zip(steps, values, strict=True)]
        bands[name] = [(s, min(v), max(v)) for s, v in zip(steps, values, strict=True)]
    points = [point for band in bands.values() for point in band]
    if not points:
        return "<p>No curve is known.</p>"
    across = _Scale(min(p[0] for p in points), max(p[0] for p in points), left, _WIDTH - right)
    up = _Scale(min(p[1] for p in points), max(p[2] for p in points), bottom, top)
    parts = [
        f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{up(tick):.1f}" '
        f'y2="{up(tick):.1f}"/><text class="tick" x="{left - 8}" y="{up(tick) + 4:.1f}" '
        f'text-anchor="end">{tick:g}</text>'
        for tick in up.ticks
    ]
    parts += [
        f'<text class="tick" x="{across(tick):.1f}" y="{bottom + 18}" text-anchor="middle">'
        f"{tick:g}</text>"
        for tick in across.ticks
    ]
    for index, name in enumerate(arms):
        band = bands[name]
        outline = [(s, high) for s, _, high in band] + [(s, low) for s, low, _ in band[::-1]]
        path = " ".join(f"{across(s):.1f},{up(v):.1f}" for s, v in outline)
        parts.append(f'<polygon fill="{color(index)}" fill-opacity="0.15" points="{path}"/>')
    for index, name in enumerate(arms):
        path = " ".join(f"{across(s):.1f},{up(v):.1f}" for s, v in means[name])
        parts.append(
            f'<polyline fill="none" stroke="{color(index)}" stroke-width="2" points="{path}"/>'
        )
    parts.append(
        f'<text class="tick" x="{(left + _WIDTH - right) / 2}" y="{bottom + 36}" '
        f'text-anchor="middle">step; {html.escape(label)}</text>'
    )
    return _svg(parts, bottom + 42, f"{label} by step")


class _Scale:
    """Maps values between two bounds to pixels, with round ticks."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        margin = 0.05 * (high - low) or 1.0
        self.low, self.high = low - margin, high + margin
        self.begin, self.end = begin, end
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        self.ticks = [round(index * step, 10) for index in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def _svg(parts: Sequence[str], height: float, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(description)}">{"".join(parts)}</svg>'
    )
