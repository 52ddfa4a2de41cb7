"""Smoothing of a logged curve."""

import numpy as np
import pytest

from pne_seg.visualization.training_plots import smooth


def test_smoothing_is_a_centered_mean() -> None:
    values = np.random.default_rng(0).normal(size=150)

    def mean(numbers: list[float]) -> list[float]:  # a window of 2 on either side
        around = [numbers[max(0, place - 2) : place + 3] for place in range(len(numbers))]
        return [sum(window) / len(window) for window in around]

    assert smooth(values) == pytest.approx(mean(mean(values.tolist())))
    line = np.arange(150.0)
    assert smooth(line)[4:-4] == pytest.approx(line[4:-4])  # no lag
