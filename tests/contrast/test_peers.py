"""The losses beside PNE against plain loops written from their papers."""

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast import InfoNCELoss, PixelContrastLoss, PNELoss
from tests.contrast.plain_pne import Settings, confidence, plain_pairs
from tests.contrast.test_pne_loss import draw, gradient

# ---- InfoNCE on PNE's pairs --------------------------------------------------------------


def plain_infonce(embeddings: Tensor, logits: Tensor, target: Tensor, settings: Settings) -> Tensor:
    """Each positive by itself against all negatives; anchors vary, all else is constant."""
    size = (embeddings.shape[2], embeddings.shape[3])
    pairs = plain_pairs(size, logits, target, settings)
    constant = embeddings.detach()
    losses = []
    for pair in pairs:
        for b, i, j in pair.anchors:
            anchor = embeddings[b, :, i, j] / constant[b, :, i, j].norm()

            def similarity(pixel: tuple[int, int, int], anchor: Tensor = anchor) -> Tensor:
                fixed = constant[pixel[0], :, pixel[1], pixel[2]]
                cosine: Tensor = torch.dot(anchor, fixed) / fixed.norm()
                return cosine / settings.temperature

            negatives = sum(similarity(pixel).exp() for pixel in pair.negatives)
            weights = [
                float(confidence(logits, pixel, size)) if settings.weight_positives else 1.0
                for pixel in pair.positives
            ]
            for weight, pixel in zip(weights, pair.positives, strict=True):
                positive = similarity(pixel).exp()
                loss = -torch.log(positive / (positive + negatives))
                losses.append(weight / sum(weights) * loss)
    sampled = len(pairs) * settings.num_samples
    factor = sum(pair.size for pair in pairs) / sampled if settings.scale == "authors" else 1.0
    return torch.stack(losses).sum() / sampled * factor


@pytest.mark.parametrize("seed", range(12))
def test_infonce_equals_the_plain_recomputation(seed: int) -> None:
    choose = random.Random(seed).choice
    chosen = Settings(
        temperature=choose([0.1, 0.5, 1.0]),
        num_samples=choose([1, 3, 6]),
        weight_positives=choose([True, False]),
        scope=choose(["image", "batch"]),
        scale=choose(["authors", "none"]),
    )
    embeddings, logits, target = draw(seed=seed, size=(5, 6), dtype=torch.float64)
    expected = plain_infonce(embeddings, logits, target, chosen)
    actual = InfoNCELoss(**vars(chosen))(embeddings, logits, target)
    assert expected > 0
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        gradient(actual, embeddings), gradient(expected, embeddings), rtol=1e-8, atol=1e-12
    )


def test_infonce_is_pne_where_there_is_one_positive() -> None:
    inputs = draw()
    both = [kind(num_samples=1, weight_positives=False)(*inputs) for kind in (InfoNCELoss, PNELoss)]
    torch.testing.assert_close(*both)


# ---- pixel contrast ----------------------------------------------------------------------


def plain_pixel_contrast(
    vectors: Tensor, classes: list[int], temperature: float, base_temperature: float
) -> Tensor:
    """Every drawn pixel against every other, in loops."""
    z = [vector / vector.norm() for vector in vectors]
    per_anchor = []
    for a in range(len(z)):
        others = [i for i in range(len(z)) if classes[i] != classes[a]]
        positives = [i for i in range(len(z)) if classes[i] == classes[a] and i != a]
        if not positives:
            continue
        against = sum(torch.exp(z[a] @ z[i] / temperature) for i in others)
        terms = []
        for p in positives:
            positive = torch.exp(z[a] @ z[p] / temperature)
            terms.append(-torch.log(positive / (positive + against)))
        per_anchor.append(torch.stack(terms).mean())
    return temperature / base_temperature * torch.stack(per_anchor).mean()


@pytest.mark.parametrize("seed", range(6))
def test_pixel_contrast_equals_the_plain_recomputation(seed: int) -> None:
    embeddings, logits, target = draw(seed=seed, dtype=torch.float64)
    loss = PixelContrastLoss(temperature=0.3, base_temperature=0.2, max_views=5, max_samples=30)
    selection = loss.select(logits, target)
    pixels = selection.varying.tolist()
    assert len(set(pixels)) == len(pixels) > 20
    vectors = embeddings.movedim(1, -1).flatten(0, 2)
    classes = [int(target.flatten()[pixel]) for pixel in pixels]
    expected = plain_pixel_contrast(vectors[selection.varying], classes, 0.3, 0.2)
    torch.manual_seed(seed)
    drawn = loss.select(logits, target).varying
    torch.manual_seed(seed)
    result = loss.compute(embeddings, logits, target)
    again = plain_pixel_contrast(vectors[drawn], target.flatten()[drawn].tolist(), 0.3, 0.2)
    scored = loss.score(vectors[selection.varying], vectors[:0], selection)
    torch.testing.assert_close(scored.loss, expected)
    torch.testing.assert_close(result.loss, again, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        gradient(result.loss, embeddings), gradient(again, embeddings), rtol=1e-8, atol=1e-12
    )
    assert result.num_anchors == len(drawn)


@pytest.mark.parametrize(
    ("easy", "hard", "kept_hard"),
    [
        (50, 50, 5),  # half and half
        (3, 50, 7),  # too few easy ones
        (50, 2, 2),  # too few hard ones
        (50, 0, 0),
        (0, 50, 10),
        (5, 6, 5),
    ],
)
def test_hard_and_easy_anchors_are_balanced(easy: int, hard: int, kept_hard: int) -> None:
    """One class of `easy` right and `hard` wrong pixels, ten of which are drawn."""
    target = torch.zeros(1, 1, easy + hard, dtype=torch.int64)
    logits = torch.zeros(1, 2, 1, easy + hard)
    logits[0, 0, 0, :easy], logits[0, 1, 0, easy:] = 1, 1
    pixels = PixelContrastLoss(max_views=10).select(logits, target).varying
    assert len(pixels) == 10
    assert int((pixels >= easy).sum()) == kept_hard


def test_classes_with_few_pixels_are_left_out_and_the_number_is_bounded() -> None:
    # Two images; class 0 has 30 pixels in each, class 1 has 10, class 2 has 11, 255 is ignored.
    row = torch.tensor([0] * 30 + [1] * 10 + [2] * 11 + [255] * 9)
    target = row.expand(2, 1, -1).contiguous()
    logits = torch.randn(2, 3, 1, 60)
    for most, each in ((1024, 10), (20, 5), (7, 1), (3, 1)):
        selection = PixelContrastLoss(max_views=10, max_samples=most).select(logits, target)
        sets = [(pixel // 60, int(row[pixel % 60])) for pixel in selection.varying.tolist()]
        assert all(sets.count(one) == each for one in sets)
        assert {label for _, label in sets} <= {0, 2}
        assert len(sets) == min(4, most) * each == selection.num_sets * each
        assert selection.classes.tolist() == [label for _, label in sets]


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        ([255] * 8, {}),  # nothing labeled
        ([0] * 4 + [1] * 4, {}),  # no class with more than 100 pixels
        ([0] * 8, {"max_views": 4}),  # one class: no negatives
        ([0] * 4 + [1] * 4, {"max_views": 1}),  # one anchor a class: no positives
    ],
)
def test_pixel_contrast_without_anything_to_contrast(
    labels: list[int], settings: dict[str, Any]
) -> None:
    embeddings = torch.randn(1, 4, 1, 8, requires_grad=True)
    loss = PixelContrastLoss(**settings)(
        embeddings, torch.randn(1, 2, 1, 8), torch.tensor([[labels]])
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient(loss, embeddings).abs().max() < 1e-6


def test_pixel_contrast_has_the_value_of_a_case_worked_by_hand() -> None:
    # Two pixels of class 0 at 0°, one of class 1 at 90°, τ = τ_base = 1: each of the first two has
    # -log(e / (e + 1)), the third no positive.
    embeddings = torch.tensor([[[[2.0, 1.0, 0.0]], [[0.0, 0.0, 3.0]]]])
    target = torch.tensor([[[0, 0, 1]]])
    loss = PixelContrastLoss(temperature=1.0, base_temperature=1.0)
    selection = loss.select(F.one_hot(target, 2).movedim(-1, 1).float(), target)
    assert len(selection.varying) == 0  # too few
    pixels = torch.arange(3)
    chosen = type(selection)(pixels, pixels[:0], torch.tensor([0, 0, 1]), num_sets=2)
    value = loss.score(embeddings[0, :, 0].T, torch.empty(0, 2), chosen).loss.item()
    assert value == pytest.approx(math.log(1 + 1 / math.e))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature must be positive"),
        ({"base_temperature": float("inf")}, "base_temperature must be positive"),
        ({"max_views": 0}, "max_views must be at least 1"),
        ({"max_samples": 0}, "max_samples must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelContrastLoss(**settings)


def test_labels_that_are_no_class_are_named() -> None:
    target = torch.tensor([[[0, 7, 255]]])
    with pytest.raises(ValueError, match=r"outside 0\.\.1, .*: 7; map"):
        PixelContrastLoss()(torch.randn(1, 4, 1, 3), torch.randn(1, 2, 1, 3), target)
