"""Cross-entropy against plain loops and torch's own mean."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pne_seg.losses import cross_entropy


def plain_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> float:
    scores, labels = logits.double().tolist(), target.tolist()
    terms: list[float] = []
    for image, (maps, label_map) in enumerate(zip(scores, labels, strict=True)):
        for i, row in enumerate(label_map):
            for j, label in enumerate(row):
                if label == ignore_index:
                    continue
                pixel = [maps[c][i][j] for c in range(logits.shape[1])]
                peak = max(pixel)
                normaliser = peak + math.log(sum(math.exp(s - peak) for s in pixel))
                terms.append(normaliser - scores[image][label][i][j])
    return sum(terms) / len(terms)


def draw(ignore_index: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    target = torch.randint(0, classes, (2, 5, 7))
    target[torch.rand(target.shape) < 0.3] = ignore_index
    return 3 * torch.randn(2, classes, 5, 7), target


@pytest.mark.parametrize("ignore_index", [255, -100, 0])
def test_equals_a_plain_loop_and_torch(ignore_index: int) -> None:
    logits, target = draw(ignore_index)
    actual = cross_entropy(logits, target, ignore_index).item()
    assert actual == pytest.approx(plain_cross_entropy(logits, target, ignore_index), rel=1e-5)
    torchs_own = F.cross_entropy(logits, target, ignore_index=ignore_index).item()
    assert actual == pytest.approx(torchs_own, rel=1e-6)


def test_one_pixel_by_hand() -> None:
    logits = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    target = torch.zeros(1, 1, 1, dtype=torch.uint8)
    assert cross_entropy(logits, target, 255).item() == pytest.approx(math.log(1 + math.e**2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_of_any_width(dtype: torch.dtype) -> None:
    logits, target = draw(255)
    expected = F.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, target.to(dtype), 255), expected)


def test_all_ignored_is_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = cross_entropy(logits, torch.full((2, 4, 4), 255, dtype=torch.uint8), 255)
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_scored_in_float32(dtype: torch.dtype) -> None:
    logits, target = draw(255)
    half = logits.to(dtype)
    actual = cross_entropy(half, target, 255)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, F.cross_entropy(half.float(), target, ignore_index=255))


def test_half_precision_sum_does_not_overflow() -> None:
    # 10,000 pixels of loss 20 sum to 200,000; float16 ends at 65,504.
    logits = torch.zeros(1, 2, 100, 100, dtype=torch.float16)
    logits[:, 1] = 20
    target = torch.zeros(1, 100, 100, dtype=torch.uint8)
    assert cross_entropy(logits, target, 255).item() == pytest.approx(20, rel=1e-4)
