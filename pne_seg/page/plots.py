"""Plots as inline SVG, their texts escaped, which take their colors from the page around them."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Curve = Mapping[int, float]
"""A metric by optimizer step."""

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Distinct to color-blind people, on light and on dark (Okabe and Ito)."""
_ROW = 24
_WIDTH = 600
_MARKED = 30  # points of a curve that is shorter have a dot


class Span(NamedTuple):
    """The values of a curve at a step."""

    step: float
    low: float
    mean: float
    high: float


class Interval(NamedTuple):
    """A mean with its interval, in percent; NaN bounds where it is unknown."""

    name: str
    mean: float
    low: float
    high: float


def color(index: int) -> str:
    """Return the color of the curve at an index; colors repeat."""
    return _COLORS[index % len(_COLORS)]


def forest_plot(rows: Sequence[Interval], label: str, colors: Sequence[str]) -> str:
    """Draw means with their intervals, from top to bottom, and a line at 0; colors repeat."""
    left = min(260, 20 + 8 * max(len(row.name) for row in rows))
    right, top = _WIDTH - 160, 6
    bottom = top + _ROW * len(rows)
    ends = [value for row in rows for value in row[1:] if math.isfinite(value)]
    scale = _Scale(min(0.0, *ends), max(0.0, *ends), left, right)
    parts = []
    for tick in scale.ticks:
        x = f"{scale(tick):.1f}"
        parts += [
            f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>',
            _text(x, bottom + 16, f"{tick:+g}" if tick else "0", "middle"),
        ]
    zero = f"{scale(0):.1f}"
    parts.append(f'<line class="zero" x1="{zero}" x2="{zero}" y1="{top}" y2="{bottom}"/>')
    for index, row in enumerate(rows):
        dot = colors[index % len(colors)]
        y = top + _ROW * (index + 0.5)
        text = f"{row.mean:+.2f}"
        parts.append(_text(left - 10, y + 4, row.name, "end", kind="name"))
        if math.isfinite(row.low):
            text += f" ({row.low:+.2f}, {row.high:+.2f})"
            parts.append(
                f'<line stroke="{dot}" stroke-width="2" x1="{scale(row.low):.1f}" '
                f'x2="{scale(row.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(f'<circle fill="{dot}" cx="{scale(row.mean):.1f}" cy="{y}" r="4"/>')
        parts.append(_text(right + 8, y + 4, text, "start", kind="value"))
    parts.append(_text((left + right) / 2, bottom + 34, label, "middle"))
    return _svg(parts, bottom + 40, f"{label}: {', '.join(row.name for row in rows)}")


def curve_plot(arms: Mapping[str, Sequence[Curve]], label: str) -> str:
    """Draw each arm's mean over its seeds by step, on a band from their lowest to their highest."""
    bands = []
    for curves in arms.values():
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        each = [(step, [curve[step] for curve in curves]) for step in steps]
        bands.append([Span(step, min(v), sum(v) / len(v), max(v)) for step, v in each])
    return band_plot(bands, label, f"step; {label}")


def band_plot(
    bands: Sequence[Sequence[Span]], label: str, below: str = "step", focus: bool = False
) -> str:
    """Draw means by step, each on a band from the lowest to the highest value.

    With `focus` the scale is that of the means without a few that lie far above the others; values
    beyond it are drawn at its edge.
    """
    left, right, top, bottom = 56, _WIDTH - 16, 8, 300
    points = [point for band in bands for point in band]
    if not points:
        return "<p>No curve is known.</p>"
    steps = [point.step for point in points]
    low, high = min(point.low for point in points), max(point.high for point in points)
    if focus:
        values = sorted(point.mean for point in points)
        low, usual = values[0], values[-1 - len(values) // 100]
        high = min(values[-1], usual + (usual - low) / 2)
    across = _Scale(min(steps), max(steps), left, right, whole=True)
    up = _Scale(low, high, bottom, top)
    parts = []
    for tick in up.ticks:
        y = up(tick)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            + _text(left - 8, f"{y + 4:.1f}", f"{tick:g}", "end")
        )
    parts += [_text(f"{across(t):.1f}", bottom + 18, f"{t:,g}", "middle") for t in across.ticks]
    means = []
    for index, band in enumerate(bands):
        outline = [(p.step, p.high) for p in band] + [(p.step, p.low) for p in band[::-1]]
        places = [
            [(across(s), up(v)) for s, v in line] for line in (outline, [p[:3:2] for p in band])
        ]
        paths = [" ".join(f"{x:.1f},{y:.1f}" for x, y in line) for line in places]
        dot = color(index)
        parts.append(f'<polygon fill="{dot}" fill-opacity="0.15" points="{paths[0]}"/>')
        means.append(f'<polyline fill="none" stroke="{dot}" stroke-width="2" points="{paths[1]}"/>')
        if len(band) < _MARKED:
            circles = (
                f'<circle fill="{dot}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places[1]
            )
            means += circles
    axis = _text((left + right) / 2, bottom + 36, below, "middle")
    return _svg([*parts, *means, axis], bottom + 42, f"{label} by step")


class _Scale:
    """Maps values between two bounds to pixels, those beyond to the edge, with round ticks.

    Those of `whole` are numbers of steps: whole and not negative.
    """

    def __init__(
        self, low: float, high: float, begin: float, end: float, whole: bool = False
    ) -> None:
        margin = 0.05 * (high - low) or 1.0
        self.low, self.high = low - margin, high + margin
        if whole:
            self.low = max(0.0, self.low)
        self.begin, self.end = begin, end
        rough = (self.high - self.low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        step = max(1, step) if whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        self.ticks = [round(index * step, 10) for index in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.begin + share * (self.end - self.begin)


def _text(x: float | str, y: float | str, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, description: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{html.escape(description)}">{"".join(parts)}</svg>'
    )
