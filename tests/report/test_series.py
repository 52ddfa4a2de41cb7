"""Smoothing and thinning of a logged curve."""

import numpy as np
import pytest

from pne_seg.report.series import smooth, thin


def test_smoothing_is_a_centred_mean() -> None:
    values = np.random.default_rng(0).normal(size=150)

    def mean(numbers: list[float]) -> list[float]:  # a window of 2 on either side
        around = [numbers[max(0, place - 2) : place + 3] for place in range(len(numbers))]
        return [sum(window) / len(window) for window in around]

    assert smooth(values) == pytest.approx(mean(mean(values.tolist())))
    line = np.arange(150.0)
    assert smooth(line)[4:-4] == pytest.approx(line[4:-4])  # no lag


def test_thinning_keeps_ends_and_extremes() -> None:
    values = np.random.default_rng(0).normal(size=50_123)
    values[31_234], values[31_235] = 50, -50
    steps, kept = thin(np.arange(50_123.0), values)
    assert 1000 < len(steps) < 2500
    assert kept == pytest.approx(values[steps.astype(int)])
    assert (np.diff(steps) > 0).all()
    assert {0, 31_234, 31_235, 50_122} <= set(steps.astype(int).tolist())
    few = thin(np.arange(10.0), np.ones(10))
    assert len(few[0]) == 10
