"""The same by plain loops and whole tensors: what the tests compare with."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def plain_bilinear(maps: Tensor, height: int, width: int) -> Tensor:
    """Corners not aligned: pixel i samples (i + 0.5) · h / H − 0.5, held inside the map."""
    old_height, old_width = maps.shape[-2:]
    result = torch.empty(*maps.shape[:-2], height, width, dtype=torch.float64)
    maps = maps.double()
    for i in range(height):
        y = max(0.0, (i + 0.5) * old_height / height - 0.5)
        top = min(math.floor(y), old_height - 1)
        bottom = min(top + 1, old_height - 1)
        for j in range(width):
            x = max(0.0, (j + 0.5) * old_width / width - 0.5)
            left = min(math.floor(x), old_width - 1)
            right = min(left + 1, old_width - 1)
            above = maps[..., top, left] * (1 - x + left) + maps[..., top, right] * (x - left)
            below = maps[..., bottom, left] * (1 - x + left) + maps[..., bottom, right] * (x - left)
            result[..., i, j] = above * (1 - y + top) + below * (y - top)
    return result


def plain_scores(
    network: nn.Module,
    images: Tensor,
    *,
    stride: int = 1,
    window: tuple[int, int] | None = None,
    steps: tuple[int, int] = (1, 1),
    weight: Tensor | None = None,
) -> Tensor:
    """Scores of normalized images at their size, all in memory; windows one at a time.

    Args:
        network: with its own upsampling.
        images: (B, 3, H, W).
        stride: of the padding.
        window: height and width, or the whole image.
        steps: from one window to the next.
        weight: (h, w) of a window's pixels; even where not given.
    """
    height, width = images.shape[-2:]
    if window is None or (window[0] >= height and window[1] >= width):
        below, right = -height % stride, -width % stride
        padded = F.pad(images, (0, right, 0, below))
        scores: Tensor = network(padded)
        scores = F.interpolate(scores, size=padded.shape[-2:], mode="bilinear")
        return scores[..., :height, :width]
    tall, wide = min(window[0], height), min(window[1], width)
    total, weights = torch.zeros(()), torch.zeros(height, width)
    for top in starts(height, tall, steps[0]):
        for left in starts(width, wide, steps[1]):
            crop = images[..., top : top + tall, left : left + wide]
            own = plain_scores(network, crop, stride=stride)
            share = torch.ones(tall, wide) if weight is None else weight
            placed = torch.zeros(*own.shape[:2], height, width)
            placed[..., top : top + tall, left : left + wide] = own * share
            total = total + placed
            weights[top : top + tall, left : left + wide] += share
    return total / weights


def starts(length: int, window: int, step: int) -> list[int]:
    """First pixels, one by one: a step further until the end is reached, the last moved back."""
    found = [0]
    while found[-1] + window < length:
        found.append(min(found[-1] + step, length - window))
    return found


def plain_views(
    network: nn.Module,
    images: Tensor,
    size: Sequence[int],
    normalize: Callable[[Tensor], Tensor],
    scales: Sequence[float],
    flip: bool,
    **whole: Any,
) -> Tensor:
    """Mean of the probabilities over scales and mirror images at `size`."""
    found = []
    for scale in scales:
        height, width = (math.floor(side * scale + 0.5) for side in images.shape[-2:])
        scaled = F.interpolate(images.float(), size=(height, width), mode="bilinear")
        for mirrored in [False, True] if flip else [False]:
            shown = torch.flip(scaled, (3,)) if mirrored else scaled
            scores = plain_scores(network, normalize(shown), **whole)
            if mirrored:
                scores = torch.flip(scores, (3,))
            scores = F.interpolate(scores, size=tuple(size), mode="bilinear")
            found.append(torch.softmax(scores, 1))
    return torch.stack(found).mean(0)
