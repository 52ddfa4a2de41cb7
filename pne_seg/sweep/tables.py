"""A comparison as Markdown, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pne_seg.sweep.comparison import Comparison, Difference, listed
from pne_seg.sweep.results import differences
from pne_seg.sweep.statistics import ENOUGH_SEEDS

Rows = list[list[str]]

COSTS = "s/batch: median in training. GB: most memory in training, of the GPU or a CPU's process."
"""Explains the columns of `arms_table`."""


def comparison_json(comparison: Comparison) -> str:
    """Return all figures as JSON; what is unknown is null."""
    return json.dumps(_without_nan(comparison.as_dict()), indent=1, ensure_ascii=False) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """Return one row for each run and metric: arm, seed, folder, metric, value as a fraction."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "run", "split", "metric", "value"])
    for arm in comparison.arms:
        for seed, run in sorted(arm.runs.items()):
            for metric in comparison.metrics:
                row = [arm.name, seed, run.folder, run.split, metric, run.metrics[metric]]
                writer.writerow(row)
    return text.getvalue()


def comparison_markdown(comparison: Comparison) -> str:
    """Return the tables, in percent: mIoU by arm, then every other metric."""
    folder = next(iter(comparison.baseline.runs.values())).folder
    parts = [
        f"# {len(comparison.arms)} arms, {comparison.split} split, in percent\n",
        f"The baseline is the arm of {folder}; differences are to it, within seeds.\n",
        _table(*miou_table(comparison)),
        *(f"{note}\n" for note in notes(comparison)),
    ]
    for arm in comparison.arms[1:]:
        if (images := comparison.image_interval(arm)) is not None:
            mean, low, high = (_signed(value) for value in images)
            parts.append(
                f"{arm.name}: mean difference of the images' mIoU {mean}, paired bootstrap over "
                f"images {low} to {high}: of these trained networks on other such images, not of "
                "the methods.\n"
            )
    parts += ["## Arms\n", _table(*arms_table(comparison)), f"{COSTS}\n"]
    for index, arm in enumerate(comparison.arms[1:]):
        parts += [f"## {arm.name}\n", _table(*difference_table(comparison, index))]
    return "\n".join(parts)


def difference_table(comparison: Comparison, arm: int) -> tuple[list[str], Rows]:
    """Return the header and the rows of all metrics but mIoU of `arms[1:][arm]`."""
    header = ["metric", "baseline", "arm", *_difference_columns(comparison)]
    rows = [
        [metric, *_cells(comparison.differences(metric)[arm], shows_p_values(comparison))]
        for metric in comparison.metrics
        if metric != "mIoU"
    ]
    return header, rows


def miou_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Return the header and the rows of the arms' mIoU, in percent."""
    header = ["arm", "seeds", "mIoU", "std", *_difference_columns(comparison)]
    header += ["smallest shown", "seeds needed"]
    rows = []
    compared = [None, *comparison.differences("mIoU")]
    for arm, difference in zip(comparison.arms, compared, strict=True):
        values = arm.values("mIoU", sorted(arm.runs))
        row = [arm.name, listed(arm.runs), _percent(float(np.mean(values)))]
        row += [_percent(float(np.std(values, ddof=1))) if len(values) > 1 else "-"]
        if difference is None:
            row += ["-"] * (len(header) - len(row))
        else:
            paired = difference.paired
            row += _cells(difference, shows_p_values(comparison))[2:]
            row += [_percent(paired.detectable)]
            row += ["-" if paired.seeds_needed is None else str(paired.seeds_needed)]
        rows.append(row)
    return header, rows


def arms_table(comparison: Comparison) -> tuple[list[str], Rows]:
    """Return the header and the rows of the arms' settings and costs."""
    header = ["arm", "differs from the baseline in", "s/batch", "GB"]
    rows = []
    for arm in comparison.arms:
        seconds = np.median([run.seconds_per_batch for run in arm.runs.values()])
        memory = np.median([run.peak_memory for run in arm.runs.values()])
        differing = ", ".join(differences(comparison.baseline.settings, arm.settings)) or "-"
        rows.append([arm.name, differing, _known(seconds), _known(memory / 1e9)])
    return header, rows


def notes(comparison: Comparison) -> list[str]:
    """Return what explains the columns of `miou_table`."""
    lines = [
        "Interval: 95%, Student's t on the differences. Smallest shown: the true difference that "
        "these seeds detect with a chance of 80%. Seeds needed: for the difference seen, if it is "
        "the true one."
    ]
    few = min(len(comparison.seeds(arm)) for arm in comparison.arms[1:])
    if shows_p_values(comparison):
        lines.append("p: exact sign-flip test; Holm: adjusted for the number of arms.")
    else:
        lines.append(
            f"With {few} shared seed{'s' if few > 1 else ''} no test can give a p-value of 0.05: "
            f"none is shown below {ENOUGH_SEEDS}."
        )
    return lines


def shows_p_values(comparison: Comparison) -> bool:
    """Tell whether every arm has seeds enough for a p-value of 0.05."""
    return all(len(comparison.seeds(arm)) >= ENOUGH_SEEDS for arm in comparison.arms[1:])


def _difference_columns(comparison: Comparison) -> list[str]:
    columns = ["difference", "interval"]
    return [*columns, "p", "p (Holm)"] if shows_p_values(comparison) else columns


def _cells(difference: Difference, shows_p: bool) -> list[str]:
    paired = difference.paired
    cells = [_percent(difference.baseline), _percent(difference.mean), _signed(paired.mean)]
    known = math.isfinite(paired.low)
    cells.append(f"{_signed(paired.low)} to {_signed(paired.high)}" if known else "-")
    if shows_p:
        cells += [f"{paired.p_value:.3f}", f"{difference.p_holm:.3f}"]
    return cells


def _table(header: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table whose columns are aligned, as a terminal shows it."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n"
        for line in lines
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float) -> str:
    return f"{100 * value:.2f}" if math.isfinite(value) else "-"


def _known(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-"


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"
