"""The three pixels of docs/how_pne_works.md: numbers computed by hand against the loss."""

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from pne_seg import PNELoss

PAGE = Path(__file__).parents[2] / "docs" / "how_pne_works.md"
ANCHOR, POSITIVE, NEGATIVE = (1.0, 0.0), (0.6, 0.8), (0.8, 0.6)
RATIO = math.exp(0.8) / (0.8 * math.exp(0.6))  # q = 4/5


def _loss(
    num_samples: int, anchor: tuple[float, float], implementation: Literal["fast", "reference"]
) -> tuple[float, Tensor]:
    embeddings = torch.tensor([anchor, POSITIVE, NEGATIVE], requires_grad=True)
    logits = torch.tensor([[1, 0], [0, math.log(4)], [math.log(4), 0]])
    loss = PNELoss(num_samples=num_samples, implementation=implementation)(
        embeddings.T.reshape(1, 2, 1, 3),
        logits.T.reshape(1, 2, 1, 3),
        torch.tensor([1, 1, 0]).reshape(1, 1, 3),
    )
    (gradient,) = torch.autograd.grad(loss, embeddings)
    return loss.item(), gradient


@pytest.mark.parametrize("implementation", ["fast", "reference"])
def test_three_pixels(implementation: Literal["fast", "reference"]) -> None:
    value, gradient = _loss(1, ANCHOR, implementation)
    assert value == pytest.approx(math.log(1 + RATIO), rel=1e-6)
    slope = RATIO / (1 + RATIO)
    assert gradient[0].tolist() == pytest.approx([0.2 * slope, -0.2 * slope], rel=1e-5)
    assert not gradient[1:].any()
    repeated, _ = _loss(100, ANCHOR, implementation)
    assert repeated == pytest.approx(value / 100, rel=1e-5)


def test_page_states_these_numbers() -> None:
    page = PAGE.read_text(encoding="utf-8")
    slope = RATIO / (1 + RATIO)
    moved = (1 - 0.2 * slope, 0.2 * slope)
    lead = sum(x * (n - p) for x, n, p in zip(moved, NEGATIVE, POSITIVE, strict=True))
    lead /= math.hypot(*moved)
    for number in (RATIO, math.log(1 + RATIO), slope, *moved, lead):
        assert f"{number:.4f}" in page
    assert f"{math.log(1 + RATIO) / 100:.6f}" in page
    value, _ = _loss(1, moved, "fast")  # the step of the page makes the loss smaller
    assert value == pytest.approx(math.log(1 + 1.25 * math.exp(lead)), rel=1e-6)
    assert value < math.log(1 + RATIO)
