"""Where windows lie: every pixel covered, none beyond the image, against a walk pixel by pixel."""

import math

import pytest
import torch

from pne_seg.inference.protocol import window_positions, window_starts, window_weight
from tests.inference.plain import starts


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (5, 8, 4, [0]),  # below the window
        (8, 8, 4, [0]),  # as long
        (9, 8, 4, [0, 1]),  # just above
        (12, 8, 4, [0, 4]),
        (13, 8, 4, [0, 4, 5]),
        (13, 8, 8, [0, 5]),
        (16, 8, 8, [0, 8]),
        (1024, 512, 341, [0, 341, 512]),  # mmsegmentation's for Cityscapes' height
        (2048, 1024, 683, [0, 683, 1024]),
    ],
)
def test_starts_by_hand(length: int, window: int, stride: int, expected: list[int]) -> None:
    assert window_starts(length, window, stride) == expected


@pytest.mark.parametrize("window", [1, 2, 5, 8])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31])
def test_each_pixel_is_covered_and_none_beyond(length: int, window: int) -> None:
    for stride in range(1, window + 1):
        found = window_starts(length, window, stride)
        covered = {pixel for start in found for pixel in range(start, start + window)}
        assert covered >= set(range(length))
        assert found == sorted(set(found))
        assert found == starts(length, window, stride)
        if length >= window:
            assert max(covered) == length - 1


def test_places_are_row_by_row() -> None:
    assert window_positions((5, 9), (4, 4), (4, 3)) == [
        *[(0, 0), (0, 3), (0, 5)],
        *[(1, 0), (1, 3), (1, 5)],
    ]


def test_even_weight_counts_all_alike() -> None:
    assert torch.equal(window_weight((3, 5), "even"), torch.ones(3, 5))


def test_gaussian_weight_by_hand() -> None:
    weight = window_weight((16, 9), "gaussian")
    assert weight.shape == (16, 9)
    for row in range(16):
        for column in range(9):
            across, down = (column - 4) / (9 / 8), (row - 7.5) / (16 / 8)
            expected = math.exp(-0.5 * (across**2 + down**2))
            assert weight[row, column].item() == pytest.approx(expected, rel=1e-5)
    assert window_weight((512, 1024), "gaussian").min() > 0
    assert window_weight((1, 1), "gaussian").item() == 1
