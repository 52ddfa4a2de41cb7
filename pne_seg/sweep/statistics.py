"""Statistics of paired seeds: intervals, exact tests, corrections, and what the seeds can show.

A seed gives every arm the same initial weights, order and augmentation, so that arms are compared
by their differences within seeds.
"""

import functools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Values = Sequence[float] | npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
ENOUGH_SEEDS = 6
"""Fewer seeds cannot give a sign-flip p-value of 0.05 or less: the smallest is 2 / 2^n."""

_EXACT_UP_TO = 20  # seeds, a million sign flips; beyond, flips are drawn
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class PairedDifference:
    """The difference between an arm and the baseline over the n seeds that both have.

    Attributes:
        std: sample standard deviation of the differences; NaN with one seed, as `low` and `high`.
        low: lower bound of the 95% t interval of the mean.
        high: upper bound.
        p_value: two-sided, of the exact sign-flip test of a mean of 0.
        detectable: smallest true difference whose 95% t interval would exclude 0 with a chance of
            80%, at this standard deviation and number of seeds.
        seeds_needed: seeds for which the difference seen would be detected so, if it and its
            standard deviation are the true ones; None if more than 1000.
    """

    num_seeds: int
    mean: float
    std: float
    low: float
    high: float
    p_value: float
    detectable: float
    seeds_needed: int | None

    @classmethod
    def of(cls, differences: Values) -> "PairedDifference":
        """Compute all figures of the differences, arm minus baseline, one for each seed."""
        values = np.asarray(differences, dtype=np.float64)
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"differences must be finite and at least one, got {differences}")
        mean = float(values.mean())
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        low, high = t_interval(values)
        return cls(
            num_seeds=len(values),
            mean=mean,
            std=std,
            low=low,
            high=high,
            p_value=sign_flip_p_value(values),
            detectable=detectable_effect(len(values), std),
            seeds_needed=seeds_needed(mean, std),
        )


def t_interval(values: Values) -> tuple[float, float]:
    """Return the 95% interval of the mean by Student's t; NaN for fewer than two values."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def sign_flip_p_value(differences: Values) -> float:
    """Return the two-sided p-value of a mean of 0, over all sign flips of the differences.

    Valid for differences that are symmetric about 0 under the null hypothesis, whatever their
    distribution. Above 20 differences, 100,000 random flips with a fixed seed.
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    if count > _EXACT_UP_TO:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (100_000, count))
        extreme = np.count_nonzero(_as_large(signs @ values, values.sum()))
        return float((extreme + 1) / (len(signs) + 1))
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return float(np.mean(_as_large(sums, values.sum())))


def _as_large(sums: npt.NDArray[np.float64], observed: float) -> npt.NDArray[np.bool_]:
    # Equal sums in another order of addition differ in the last bits.
    return np.asarray(np.abs(sums) >= abs(observed) * (1 - 1e-9))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the number of comparisons (Holm, 1979), in the given order."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.maximum.accumulate(np.asarray(p_values)[order] * factors).clip(max=1)
    result = np.empty(len(p_values))
    result[order] = adjusted
    return [float(value) for value in result]


def t_test_power(effect: float, std: float, num_seeds: int) -> float:
    """Return the chance that the 95% t interval of n ≥ 2 differences excludes 0.

    `effect` is their true mean, `std` above 0 their true standard deviation.
    """
    freedom = num_seeds - 1
    shift = effect / std * math.sqrt(num_seeds)
    bound = stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * _spread(freedom)
    return float(np.mean(stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)))


@functools.cache
def _spread(freedom: int) -> npt.NDArray[np.float64]:
    """Quantiles of the sample standard deviation; scipy's noncentral t is NaN for large shifts."""
    variance = stats.chi2.ppf((np.arange(4000) + 0.5) / 4000, freedom) / freedom
    return np.sqrt(np.asarray(variance, dtype=np.float64))


def detectable_effect(num_seeds: int, std: float) -> float:
    """Return the smallest true difference that n seeds detect with a power of 80%.

    NaN for fewer than two seeds, 0 if the differences do not vary.
    """
    if num_seeds < 2 or math.isnan(std):
        return math.nan
    if std == 0:
        return 0.0

    def missing_power(ratio: float) -> float:
        return t_test_power(ratio, 1.0, num_seeds) - POWER

    upper = 1.0
    while missing_power(upper) < 0:
        upper *= 2
    return float(std * optimize.brentq(missing_power, 0.0, upper))


def seeds_needed(effect: float, std: float) -> int | None:
    """Return the number of seeds that detect a true difference with a power of 80%.

    At least 6, as fewer give no p-value of 0.05; None if it is more than 1000 or unknown.
    """
    if math.isnan(std) or effect == 0:
        return None
    if std == 0:
        return ENOUGH_SEEDS
    enough = range(ENOUGH_SEEDS, _MOST_SEEDS + 1)
    found = bisect_left(enough, True, key=lambda seeds: t_test_power(effect, std, seeds) >= POWER)
    return enough[found] if found < len(enough) else None


def paired_bootstrap_interval(
    differences: Values, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean difference over resampled images.

    It answers how the difference between *these trained networks* would vary over other images of
    the same kind, not whether the methods differ: for that, compare seeds.
    """
    values = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = [
        values[generator.integers(len(values), size=(100, len(values)))].mean(1)
        for _ in range(resamples // 100)
    ]
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
    return float(low), float(high)
