"""Arms against the baseline, paired by seed."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pne_seg.errors import UserError
from pne_seg.sweep.results import Arm
from pne_seg.sweep.statistics import (
    PairedDifference,
    holm,
    paired_bootstrap_interval,
)


@dataclass(frozen=True)
class Difference:
    """One metric of one arm, minus the baseline's, over the seeds that both have.

    Attributes:
        arm: its name.
        metric: its name.
        mean: of the arm over these seeds, as a fraction.
        baseline: the same of the baseline.
        paired: the statistics of the differences.
        p_holm: the p-value adjusted for the number of arms.
    """

    arm: str
    metric: str
    mean: float
    baseline: float
    paired: PairedDifference
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Arms of which the first is the baseline, measured on the same split in the same way.

    Raises:
        UserError: fewer than two arms, or an arm that shares no seed with the baseline.
    """

    arms: list[Arm]

    def __post_init__(self) -> None:
        if len(self.arms) < 2:
            raise UserError(
                "All runs have the same settings: there is one arm, and nothing to compare it with."
            )
        for arm in self.arms[1:]:
            if not self.seeds(arm):
                raise UserError(
                    f"{arm.name}: seeds {listed(arm.runs)}, but the baseline has seeds "
                    f"{listed(self.baseline.runs)}. Arms are compared within seeds: train both "
                    "with the same --seed_everything."
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

    def seeds(self, arm: Arm) -> list[int]:
        """Return the seeds that an arm shares with the baseline."""
        return sorted(arm.runs.keys() & self.baseline.runs.keys())

    def differences(self, metric: str) -> list[Difference]:
        """Compare every arm with the baseline by one metric; Holm over the arms."""
        return self._differences[metric]

    @cached_property
    def _differences(self) -> dict[str, list[Difference]]:
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

        Both are averaged over the shared seeds. NaN for an image without a labeled pixel; empty if
        the images were not scored one by one.
        """
        ours = [self.baseline.runs[seed].images for seed in self.seeds(arm)]
        theirs = [arm.runs[seed].images for seed in self.seeds(arm)]
        names = sorted(set.intersection(*(set(images) for images in (*ours, *theirs))))
        pairs = [*zip(theirs, ours, strict=True)]
        return {
            name: float(np.mean([after[name] - before[name] for after, before in pairs]))
            for name in names
        }

    def image_interval(self, arm: Arm) -> tuple[float, float, float] | None:
        """Return the mean of `image_differences` and its paired-bootstrap interval, if known."""
        each = np.array([*self.image_differences(arm).values()])
        each = each[np.isfinite(each)]
        return (float(each.mean()), *paired_bootstrap_interval(each)) if len(each) else None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, as JSON holds them."""
        return {
            "split": self.split,
            "arms": {
                arm.name: {
                    "runs": {str(seed): str(run.folder) for seed, run in sorted(arm.runs.items())},
                    "metrics": {
                        metric: arm.values(metric, sorted(arm.runs)) for metric in self.metrics
                    },
                }
                for arm in self.arms
            },
            "differences": [
                asdict(difference)
                for metric in self.metrics
                for difference in self.differences(metric)
            ],
        }


def listed(seeds: Iterable[int]) -> str:
    """Return seeds as messages and tables show them."""
    return " ".join(map(str, sorted(seeds)))
