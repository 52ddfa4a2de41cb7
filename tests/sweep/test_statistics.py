"""Statistics against other implementations, hand counts and simulated studies."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pne_seg.sweep.statistics import (
    PairedDifference,
    detectable_effect,
    holm,
    paired_bootstrap_interval,
    seeds_needed,
    sign_flip_p_value,
    t_interval,
    t_test_power,
)

DIFFERENCES = [1.2, 0.4, -0.3, 0.9, 1.1, 0.7]


def test_interval_is_students() -> None:
    expected = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval()
    assert t_interval(DIFFERENCES) == pytest.approx(tuple(expected))
    # By hand: mean 2, standard deviation 1, t(0.975, 2) = 4.302653.
    half = 4.302653 / 3**0.5
    assert t_interval([1, 2, 3]) == pytest.approx((2 - half, 2 + half), abs=1e-6)
    assert all(math.isnan(bound) for bound in t_interval([1.0]))


def test_sign_flips_are_all_counted() -> None:
    flips = itertools.product([-1, 1], repeat=6)
    sums = [abs(sum(s * d for s, d in zip(signs, DIFFERENCES, strict=True))) for signs in flips]
    by_hand = sum(value >= 4.0 - 1e-9 for value in sums) / 64
    assert sign_flip_p_value(DIFFERENCES) == by_hand == 0.0625
    library = stats.permutation_test(
        (np.array(DIFFERENCES),),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert sign_flip_p_value(DIFFERENCES) == pytest.approx(library.pvalue)
    assert sign_flip_p_value([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == 2 / 64
    assert sign_flip_p_value([0.1, 0.2, 0.3, 0.4, 0.5]) == 2 / 32
    assert sign_flip_p_value([0.0, 0.0]) == 1


def test_many_differences_are_flipped_at_random() -> None:
    values = np.random.default_rng(3).normal(0.5, 1, 24)
    expected = stats.ttest_1samp(values, 0).pvalue
    assert sign_flip_p_value(values) == pytest.approx(expected, rel=0.25)


def test_holm() -> None:
    # statsmodels 0.15: multipletests([...], method="holm")
    found = holm([0.01, 0.04, 0.03, 0.005, 0.2])
    assert found == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.2])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.03]) == [0.03]


def test_power_and_what_it_asks_for() -> None:
    # statsmodels 0.15: TTestPower().power(0.5, n, 0.05), and solve_power of the effect and of n.
    for number, power in ((2, 0.061949), (3, 0.084107), (6, 0.170707), (10, 0.293176)):
        assert t_test_power(0.5, 1.0, number) == pytest.approx(power, abs=2e-5)
    assert t_test_power(-1.0, 2.0, 6) == pytest.approx(0.170707, abs=2e-5)
    for number, effect in ((2, 11.54989), (3, 3.26404), (6, 1.434545), (30, 0.529236)):
        assert detectable_effect(number, 1.0) == pytest.approx(effect, rel=1e-4)
        assert detectable_effect(number, 0.3) == pytest.approx(0.3 * effect, rel=1e-4)
    for effect, needed in ((0.3, 89.15), (0.5, 33.37), (1.0, 9.94)):
        assert seeds_needed(effect, 1.0) == math.ceil(needed)
    assert seeds_needed(2.0, 1.0) == 6  # 4.2 by the t test; no sign-flip test has p <= 0.05 then


def test_what_cannot_be_told_is_not_told() -> None:
    one = PairedDifference.of([0.3])
    assert one.mean == 0.3
    assert one.p_value == 1
    assert all(math.isnan(value) for value in (one.std, one.low, one.high, one.detectable))
    assert one.seeds_needed is None
    assert PairedDifference.of([0.0, 0.0]).seeds_needed is None
    constant = PairedDifference.of([0.25, 0.25, 0.25])
    assert (constant.detectable, constant.seeds_needed) == (0, 6)
    assert seeds_needed(1e-6, 1.0) is None
    for wrong in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="differences must be finite and at least one"):
            PairedDifference.of(wrong)


@pytest.mark.parametrize("number", [6, 8])
def test_false_positives_of_null_studies(number: int) -> None:
    studies = np.random.default_rng(number).normal(0, 1, (1000, number))
    rejected = sum(sign_flip_p_value(study) <= 0.05 for study in studies)
    # The size of the exact test: the largest share of the flips that is at most 0.05.
    size = math.floor(0.05 * 2**number / 2) * 2 / 2**number
    low, high = stats.binom(1000, size).interval(0.999)
    assert low <= rejected <= high
    assert size <= 0.05


@pytest.mark.parametrize("number", [3, 6, 12])
def test_a_planted_effect_is_found_as_often_as_stated(number: int) -> None:
    effect = detectable_effect(number, 1.0)
    studies = np.random.default_rng(number).normal(effect, 1, (1000, number))
    found = sum(low > 0 or high < 0 for low, high in map(t_interval, studies))
    low, high = stats.binom(1000, 0.8).interval(0.999)
    assert low <= found <= high


def test_bootstrap_over_images() -> None:
    each = np.random.default_rng(0).normal(0.02, 0.1, 400)
    low, high = paired_bootstrap_interval(each)
    assert (low, high) == pytest.approx(t_interval(each), abs=1e-3)
    assert (low, high) == paired_bootstrap_interval(each)
