"""Arms against the baseline, paired by seed, with their tables as Markdown, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pne_seg.errors import UserError
from pne_seg.metrics import percent
from pne_seg.sweep.results import Arm, differences
from pne_seg.sweep.statistics import (
    ENOUGH_SEEDS,
    PairedDifference,
    holm,
    paired_bootstrap_interval,
)

Table = tuple[list[str], list[list[str]]]
"""A header and rows."""

COSTS = "s/batch: median in training. GB: most memory in training, of the GPU or a CPU's process."
"""Explains the columns of `arms_table`."""


@dataclass(frozen=True)
class Difference:
    """One metric of one arm, minus the baseline's, over the seeds that both have.

    `mean` and `baseline` are the arm's and the baseline's fractions; `p_holm` is adjusted for the
    number of arms.
    """

    arm: str
    metric: str
    mean: float
    baseline: float
    paired: PairedDifference
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Arms of which the first is the baseline, measured on the same split in the same way."""

    arms: list[Arm]

    def __post_init__(self) -> None:
        if len(self.arms) < 2:
            raise UserError(
                "All runs have the same settings: there is one arm, and nothing to compare it with."
            )
        for arm in self.arms[1:]:
            if not self.seeds(arm):
                raise UserError(
                    f"{arm.name}: seeds {_listed(arm.runs)}, but the baseline has seeds "
                    f"{_listed(self.baseline.runs)}. Arms are compared within seeds: train both "
                    "with the same seed_everything."
                )

    @property
    def baseline(self) -> Arm:
        """The first arm."""
        return self.arms[0]

    @property
    def split(self) -> str:
        """`val` or `test`."""
        return next(iter(self.baseline.runs.values())).split

    @property
    def metrics(self) -> list[str]:
        """Metrics that all runs have, in the order of the baseline's."""
        runs = [run for arm in self.arms for run in arm.runs.values()]
        return [name for name in runs[0].metrics if all(name in run.metrics for run in runs)]

    @property
    def shows_p_values(self) -> bool:
        """Whether every arm has seeds enough for a p-value of 0.05."""
        return all(len(self.seeds(arm)) >= ENOUGH_SEEDS for arm in self.arms[1:])

    def seeds(self, arm: Arm) -> list[int]:
        """Return the seeds that an arm shares with the baseline."""
        return sorted(arm.runs.keys() & self.baseline.runs.keys())

    @cached_property
    def differences(self) -> dict[str, list[Difference]]:
        """Every arm's differences from the baseline, by metric."""
        return {metric: self._compare(metric) for metric in self.metrics}

    def _compare(self, metric: str) -> list[Difference]:
        compared = []
        for arm in self.arms[1:]:
            seeds = self.seeds(arm)
            ours, theirs = self.baseline.values(metric, seeds), arm.values(metric, seeds)
            paired = PairedDifference.of(np.subtract(theirs, ours))
            compared.append((arm, np.mean(theirs), np.mean(ours), paired))
        adjusted = holm([paired.p_value for *_, paired in compared])
        return [
            Difference(arm.name, metric, float(mean), float(baseline), paired, p_holm)
            for (arm, mean, baseline, paired), p_holm in zip(compared, adjusted, strict=True)
        ]

    def image_differences(self, arm: Arm) -> dict[str, float]:
        """Return how much each test image's mIoU differs from the baseline's, by its name.

        Averaged over the shared seeds. NaN for an image without a labeled pixel.
        """
        ours = [self.baseline.runs[seed].images for seed in self.seeds(arm)]
        theirs = [arm.runs[seed].images for seed in self.seeds(arm)]
        names = sorted(set.intersection(*(set(images) for images in (*ours, *theirs))))
        pairs = [*zip(theirs, ours, strict=True)]
        return {
            name: float(np.mean([after[name] - before[name] for after, before in pairs]))
            for name in names
        }

    def image_notes(self) -> dict[str, str]:
        """Describe the arms' differences over images, by arm; none where they are not known."""
        notes = {}
        for arm in self.arms[1:]:
            each = np.array([*self.image_differences(arm).values()])
            each = each[np.isfinite(each)]
            if len(each):
                values = (float(each.mean()), *paired_bootstrap_interval(each))
                mean, low, high = map(_signed, values)
                notes[arm.name] = (
                    f"{arm.name}: mean difference of the images' mIoU {mean}, paired bootstrap "
                    f"over images {low} to {high}: of these trained networks on other such images, "
                    "not of the methods."
                )
        return notes


def comparison_json(comparison: Comparison) -> str:
    """Return all figures as JSON; what is unknown is null."""
    arms = {
        arm.name: {
            "runs": {str(seed): str(run.folder) for seed, run in sorted(arm.runs.items())},
            "metrics": {name: arm.values(name, sorted(arm.runs)) for name in comparison.metrics},
        }
        for arm in comparison.arms
    }
    differences = [asdict(found) for each in comparison.differences.values() for found in each]
    figures = {"split": comparison.split, "arms": arms, "differences": differences}
    return json.dumps(_without_nan(figures), indent=1, ensure_ascii=False) + "\n"


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
        _markdown(miou_table(comparison)),
        *(f"{note}\n" for note in [*notes(comparison), *comparison.image_notes().values()]),
        "## Arms\n",
        _markdown(arms_table(comparison)),
        f"{COSTS}\n",
    ]
    for index, arm in enumerate(comparison.arms[1:]):
        parts += [f"## {arm.name}\n", _markdown(difference_table(comparison, index))]
    return "\n".join(parts)


def miou_table(comparison: Comparison) -> Table:
    """Return the arms' mIoU, in percent."""
    header = ["arm", "seeds", "mIoU", "std", *_difference_columns(comparison)]
    header += ["smallest shown", "seeds needed"]
    rows = []
    compared = [None, *comparison.differences["mIoU"]]
    for arm, difference in zip(comparison.arms, compared, strict=True):
        values = arm.values("mIoU", sorted(arm.runs))
        std = percent(float(np.std(values, ddof=1))) if len(values) > 1 else "-"
        row = [arm.name, _listed(arm.runs), percent(float(np.mean(values))), std]
        if difference is None:
            row += ["-"] * (len(header) - len(row))
        else:
            paired = difference.paired
            row += [*_cells(difference, comparison.shows_p_values)[2:], percent(paired.detectable)]
            row += [str(paired.seeds_needed or "-")]
        rows.append(row)
    return header, rows


def difference_table(comparison: Comparison, arm: int) -> Table:
    """Return all metrics but mIoU of `arms[1:][arm]`."""
    header = ["metric", "baseline", "arm", *_difference_columns(comparison)]
    rows = [
        [metric, *_cells(found[arm], comparison.shows_p_values)]
        for metric, found in comparison.differences.items()
        if metric != "mIoU"
    ]
    return header, rows


def arms_table(comparison: Comparison) -> Table:
    """Return the arms' settings and costs."""
    rows = []
    for arm in comparison.arms:
        seconds = np.median([run.seconds_per_batch for run in arm.runs.values()])
        memory = np.median([run.peak_memory for run in arm.runs.values()]) / 1e9
        costs = [f"{cost:.3g}" if math.isfinite(cost) else "-" for cost in (seconds, memory)]
        differing = ", ".join(differences(comparison.baseline.settings, arm.settings)) or "-"
        rows.append([arm.name, differing, *costs])
    return ["arm", "differs from the baseline in", "s/batch", "GB"], rows


def notes(comparison: Comparison) -> list[str]:
    """Return what explains the columns of `miou_table`."""
    p_values = "p: exact sign-flip test; Holm: adjusted for the number of arms."
    if not comparison.shows_p_values:
        few = min(len(comparison.seeds(arm)) for arm in comparison.arms[1:])
        p_values = (
            f"With {few} shared seed{'s' if few > 1 else ''} no test can give a p-value of 0.05: "
            f"none is shown below {ENOUGH_SEEDS}."
        )
    return [
        "Interval: 95%, Student's t on the differences. Smallest shown: the true difference that "
        "these seeds detect with a chance of 80%. Seeds needed: for the difference seen, if it is "
        "the true one.",
        p_values,
    ]


def _difference_columns(comparison: Comparison) -> list[str]:
    return ["difference", "interval", *(["p", "p (Holm)"] if comparison.shows_p_values else [])]


def _cells(difference: Difference, shows_p: bool) -> list[str]:
    paired = difference.paired
    cells = [percent(difference.baseline), percent(difference.mean), _signed(paired.mean)]
    known = math.isfinite(paired.low)
    cells.append(f"{_signed(paired.low)} to {_signed(paired.high)}" if known else "-")
    return [*cells, f"{paired.p_value:.3f}", f"{difference.p_holm:.3f}"] if shows_p else cells


def _markdown(table: Table) -> str:
    """Return a Markdown table whose columns are aligned, as a terminal shows it."""
    header, rows = table
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n"
        for line in lines
    )


def _listed(seeds: Iterable[int]) -> str:
    return " ".join(map(str, sorted(seeds)))


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
