"""Positions of sliding windows, and the weight of each of their pixels."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["even", "gaussian"]

_SIGMA = 1 / 8
"""Standard deviation of the Gaussian weight, in sides of the window, as in nnU-Net."""


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side.

    `stride` apart from 0 on; the last one is moved back to end with the side, so that each pixel is
    in a window and no window reaches beyond (as mmsegmentation places them).

    Args:
        length: of the side, in pixels.
        window: of the window's side; a longer one lies at 0 and the caller cuts it to `length`.
        stride: from one window to the next, 1 or more and no more than `window`.
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def window_positions(
    size: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> list[tuple[int, int]]:
    """Top and left of each window over an image, row by row.

    Args:
        size: height and width of the image, in pixels.
        window: height and width of a window.
        stride: downwards and to the right, from one window to the next.
    """
    tops, lefts = (window_starts(*side) for side in zip(size, window, stride, strict=True))
    return [(top, left) for top in tops for left in lefts]


def window_weight(size: Sequence[int], weighting: Weighting) -> Tensor:
    """(h, w) float32 weight of a window's pixels in the mean of overlapping windows.

    Args:
        size: height and width of the window, in pixels.
        weighting: `"even"` is constant; `"gaussian"` counts the center most, as a network sees
            the least around pixels at the border (nnU-Net, Isensee et al. 2021).
    """
    if weighting == "even":
        return torch.ones(*size)
    rows, columns = (_bell(side) for side in size)
    return rows[:, None] * columns[None, :]


def _bell(length: int) -> Tensor:
    distance = torch.arange(length) - (length - 1) / 2
    return torch.exp(-0.5 * (distance / (_SIGMA * length)) ** 2)
