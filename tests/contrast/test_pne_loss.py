"""PNELoss against the authors' values, a plain re-computation and finite differences."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pne_seg.contrast import PNELoss
from tests.contrast.plain_pne import Settings, plain_loss, plain_pairs, plain_pne

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.npz"))
Inputs = tuple[Tensor, Tensor, Tensor]
Implementation = Literal["fast", "reference"]
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["fast", "reference"])


def draw(
    *,
    seed: int = 0,
    batch: int = 2,
    classes: int = 4,
    size: tuple[int, int] = (9, 11),
    channels: int = 6,
    margin: float = 2.0,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Embeddings, logits that favour the label, and labels of which some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (batch, *size), generator=generator)
    logits = torch.randn(batch, classes, *size, generator=generator, dtype=torch.float64)
    logits.scatter_add_(1, target[:, None], torch.full_like(logits, margin))
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    embeddings = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    return embeddings.to(dtype).requires_grad_(), logits.to(dtype), target


def gradient(loss: Tensor, embeddings: Tensor) -> Tensor:
    return torch.autograd.grad(loss, embeddings)[0]


def test_golden_files_are_there() -> None:
    assert len(GOLDEN) == 9


@IMPLEMENTATIONS
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_authors_values(path: Path, implementation: Implementation) -> None:
    with np.load(path) as golden:
        embeddings = torch.from_numpy(golden["embeddings"]).requires_grad_()
        expected = torch.from_numpy(golden["grad_embeddings"])
        loss = PNELoss(
            temperature=float(golden["temperature"]),
            num_samples=int(golden["num_samples"]),
            min_anchors=int(golden["min_anchors"]),
            max_anchors=int(golden["max_anchors"]),
            implementation=implementation,
        )
        result = loss.compute(
            embeddings, torch.from_numpy(golden["logits"]), torch.from_numpy(golden["target"])
        )
        assert result.num_pairs.item() == golden["num_pairs"]
        assert result.num_anchors.item() == golden["num_anchors"]
        assert result.loss.item() == pytest.approx(float(golden["loss"]), rel=1e-5)
    actual = gradient(result.loss, embeddings)
    assert actual.norm().item() == pytest.approx(expected.norm().item(), rel=1e-5)
    largest = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * largest)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32))
def test_equals_the_plain_recomputation(seed: int) -> None:
    # Hypothesis gives the seed alone: left to itself it prefers the smallest of each, with no pair.
    choose = random.Random(seed).choice
    size = (choose([1, 3, 5, 6, 7, 8]), choose([1, 3, 5, 6, 7, 8]))
    batch, classes, channels = choose([1, 2]), choose([1, 2, 3, 4, 5, 300]), choose([1, 2, 5, 8])
    low = choose([0, 0, 1, 2])
    chosen = Settings(
        temperature=choose([0.05, 0.3, 1.0, 4.0]),
        num_samples=choose([1, 2, 3, 4, 7]),
        min_anchors=low,
        max_anchors=low + choose([199, 199, 199, 4, 2, 0]),
        ignore_index=choose([255, -100, -1, 0]),
        weight_positives=choose([True, False]),
        scope=choose(["image", "batch"]),
        scale=choose(["authors", "none"]),
        stop_gradient=choose(["authors", "authors", "none"]),
    )
    logit_size = choose([size, size, (9, 8), (13, 14), (4, 5)])
    target_size = choose([size, logit_size, (9, 8), (12, 15), (4, 3)])
    generator = torch.Generator().manual_seed(seed)

    # Few of the classes in use, so that pairs form; some predictions of classes not present.
    used = torch.randperm(classes, generator=generator)[: choose([2, 3, 4, 5])]
    pick = torch.randint(0, len(used), (batch, *target_size), generator=generator)
    target = used[pick]
    ignored = torch.rand(target.shape, generator=generator) < 0.15
    logits = torch.randn(batch, classes, *logit_size, generator=generator, dtype=torch.float64)
    logits[:, used] += choose([4.0, 0.0])
    rows = torch.arange(logit_size[0]) * target_size[0] // logit_size[0]
    columns = torch.arange(logit_size[1]) * target_size[1] // logit_size[1]
    label = target[:, rows][:, :, columns][:, None]
    logits.scatter_add_(1, label, torch.full_like(logits, choose([0.0, 1.0, 3.0])))
    target[ignored] = chosen.ignore_index
    if choose([True, False]):
        logits = logits.round()  # ties
    embeddings = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    embeddings.requires_grad_()

    expected = plain_pne(embeddings, logits, target, chosen)
    for implementation in ("fast", "reference"):
        loss = PNELoss(**vars(chosen), implementation=implementation)
        actual = loss.compute(embeddings, logits, target)
        assert actual.num_pairs.item() == expected.num_pairs
        assert actual.num_anchors.item() == expected.num_anchors
        assert actual.loss.item() == pytest.approx(expected.loss, rel=1e-9, abs=1e-12)
        torch.testing.assert_close(
            gradient(actual.loss, embeddings), expected.gradient, rtol=1e-6, atol=1e-9
        )


def test_gradient_is_that_of_the_anchors_with_all_else_frozen() -> None:
    embeddings, logits, target = draw(size=(4, 5), channels=3, margin=0.5, dtype=torch.float64)
    chosen = Settings(temperature=0.5, num_samples=4)
    pairs = plain_pairs((4, 5), logits, target, chosen)
    constant = embeddings.detach()
    numeric = torch.zeros_like(constant)
    step = 1e-5
    for index in range(constant.numel()):
        change = torch.zeros_like(constant)
        change.view(-1)[index] = step
        above = plain_loss(constant + change, constant, logits, pairs, chosen)
        below = plain_loss(constant - change, constant, logits, pairs, chosen)
        numeric.view(-1)[index] = (above - below) / (2 * step)
    loss = PNELoss(temperature=0.5, num_samples=4)(embeddings, logits, target)
    assert numeric.abs().max() > 1e-3
    torch.testing.assert_close(gradient(loss, embeddings), numeric, rtol=1e-6, atol=1e-8)


def test_positives_negatives_and_logits_get_no_gradient() -> None:
    embeddings, logits, target = draw()
    logits.requires_grad_()
    loss = PNELoss()(embeddings, logits, target)
    loss.backward()
    assert logits.grad is None
    assert embeddings.grad is not None
    right = (logits.argmax(1) == target) | (target == 255)
    assert embeddings.grad.movedim(1, -1)[right].count_nonzero() == 0
    assert embeddings.grad.movedim(1, -1)[~right].count_nonzero() > 0


def test_gradient_scales_and_repeats_but_has_no_second_order() -> None:
    embeddings, logits, target = draw()
    loss = PNELoss()(embeddings, logits, target)
    once = torch.autograd.grad(loss, embeddings, retain_graph=True)[0]
    thrice = torch.autograd.grad(3 * loss, embeddings, retain_graph=True)[0]
    torch.testing.assert_close(thrice, 3 * once)
    with pytest.raises(RuntimeError, match="not differentiable again"):
        torch.autograd.grad(loss, embeddings, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_near(dtype: torch.dtype) -> None:
    for temperature in (0.01, 1.0):
        loss = PNELoss(temperature=temperature)
        embeddings, logits, target = draw(dtype=dtype)
        # The same rounded numbers in float32: what remains is the rounding of the gradient.
        reference = embeddings.detach().float().requires_grad_()
        expected = loss(reference, logits.float(), target)
        actual = loss(embeddings, logits, target)
        assert actual.dtype == torch.float32
        assert actual.item() == pytest.approx(expected.item(), rel=1e-2)
        received = gradient(actual, embeddings)
        assert received.dtype == dtype
        torch.testing.assert_close(
            received.float(), gradient(expected, reference), rtol=2e-2, atol=1e-4
        )
        assert received.isfinite().all()


def test_large_half_precision_embeddings_are_finite() -> None:
    embeddings, logits, target = draw(dtype=torch.float16)
    large = (embeddings.detach() * 1e4).requires_grad_()
    loss = PNELoss(temperature=0.01)(large, logits * 100, target)
    assert loss.isfinite()
    assert gradient(loss, large).isfinite().all()


def test_float64_stays_float64() -> None:
    assert PNELoss()(*draw(dtype=torch.float64)).dtype == torch.float64


def test_autocast_changes_nothing() -> None:
    embeddings, logits, target = draw()
    expected = PNELoss(temperature=0.1)(embeddings, logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        actual = PNELoss(temperature=0.1)(embeddings, logits, target)
    assert actual.dtype == torch.float32
    assert actual.item() == expected.item()
    assert torch.equal(gradient(actual, embeddings), gradient(expected, embeddings))


def test_zero_vectors_are_finite() -> None:
    embeddings, logits, target = draw()
    zeroed = embeddings.detach().clone()
    zeroed[:, :, ::2] = 0
    loss = PNELoss(temperature=0.01)(zeroed.requires_grad_(), logits, target)
    assert loss.isfinite()
    received = gradient(loss, zeroed)
    assert received.isfinite().all()
    assert received[:, :, ::2].count_nonzero() == 0


def test_values_outside_the_selection_do_not_matter() -> None:
    embeddings, logits, target = draw()
    expected = PNELoss()(embeddings, logits, target)
    poisoned = embeddings.detach().movedim(1, -1).clone()
    poisoned[target == 255] = float("nan")
    poisoned = poisoned.movedim(-1, 1).requires_grad_()
    actual = PNELoss()(poisoned, logits, target)
    assert actual.item() == expected.item()
    assert torch.equal(gradient(actual, poisoned), gradient(expected, embeddings))


@pytest.mark.parametrize("content", ["all ignored", "one class", "all right", "classes apart"])
@pytest.mark.parametrize("value", [1.0, float("inf"), float("nan")])
def test_no_pair_is_a_connected_finite_zero(content: str, value: float) -> None:
    head = nn.Sequential(
        nn.Conv2d(5, 5, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 3, 1)
    )
    assert isinstance(head[-1].bias, nn.Parameter)
    nn.init.constant_(head[-1].bias, value)
    _, logits, target = draw()
    if content == "all ignored":
        target.fill_(255)
    elif content == "one class":
        target.fill_(2)
    elif content == "all right":
        target = logits.argmax(1)
    else:  # predictions of classes that no label holds
        target.clamp_(max=1)
        logits[:, :2] = -9
    result = PNELoss().compute(head(torch.randn(2, 5, 9, 11)), logits, target)
    assert result.loss.item() == 0
    assert (result.num_pairs.item(), result.num_anchors.item()) == (0, 0)
    result.loss.backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.count_nonzero() == 0  # NaN counts as nonzero


def test_a_single_pixel() -> None:
    embeddings = torch.full((1, 4, 1, 1), float("inf"), requires_grad=True)
    loss = PNELoss()(embeddings, torch.randn(1, 3, 1, 1), torch.ones(1, 1, 1, dtype=torch.long))
    assert loss.item() == 0
    assert gradient(loss, embeddings).count_nonzero() == 0


def test_memory_format_does_not_matter() -> None:
    embeddings, logits, target = draw(channels=16)
    expected = PNELoss()(embeddings, logits, target)
    last = embeddings.detach().to(memory_format=torch.channels_last).requires_grad_()
    strided = embeddings.detach().repeat(1, 1, 1, 2)[..., :11].requires_grad_()
    expected_gradient = gradient(expected, embeddings)
    for other in (last, strided):
        actual = PNELoss()(other, logits, target)
        assert actual.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(gradient(actual, other), expected_gradient)
    (given_back,) = torch.autograd.grad(PNELoss()(last, logits, target), last)
    assert given_back.is_contiguous(memory_format=torch.channels_last)


def test_deterministic_to_the_bit() -> None:
    embeddings, logits, target = draw(size=(40, 40))
    torch.use_deterministic_algorithms(True)
    try:
        losses = [PNELoss()(embeddings, logits, target) for _ in range(2)]
        gradients = [gradient(loss, embeddings) for loss in losses]
    finally:
        torch.use_deterministic_algorithms(False)
    assert losses[0].item() == losses[1].item()
    assert torch.equal(gradients[0], gradients[1])
    free = PNELoss()(embeddings, logits, target)
    assert torch.equal(gradient(free, embeddings), gradients[0])


def test_random_sampling_is_seeded_and_otherwise_varies() -> None:
    inputs = draw(size=(20, 20))
    loss = PNELoss(num_samples=5, sampling="random")
    torch.manual_seed(3)
    first, second = loss(*inputs).item(), loss(*inputs).item()
    torch.manual_seed(3)
    assert loss(*inputs).item() == first
    assert second != first
    whole = PNELoss(num_samples=400, max_anchors=400)(*inputs)
    drawn = PNELoss(num_samples=400, max_anchors=400, sampling="random")(*inputs)
    assert drawn.item() == whole.item()


def test_gradient_under_no_grad_is_not_asked_for() -> None:
    embeddings, logits, target = draw()
    expected = PNELoss()(embeddings, logits, target).item()
    with torch.no_grad():
        loss = PNELoss()(embeddings, logits, target)
    assert not loss.requires_grad
    assert loss.item() == expected


def test_serves_within_a_compiled_network() -> None:
    head = nn.Conv2d(6, 6, 1)
    loss = PNELoss()
    embeddings, logits, target = draw()

    def step(feature: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        total: Tensor = loss(head(feature) * 2, logits, target) * 1.3
        return total

    compiled = torch.compile(step, backend="eager")
    assert compiled(embeddings, logits, target).item() == step(embeddings, logits, target).item()


def test_imports_without_lightning() -> None:
    code = "import sys, pne_seg.contrast; sys.exit('lightning' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be positive and finite, got 0\.0"),
        ({"temperature": float("nan")}, "temperature must be positive and finite, got nan"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"min_anchors": 5, "max_anchors": 4}, "min_anchors=5 and max_anchors=4"),
        ({"min_anchors": -1}, "min_anchors=-1"),
        ({"sampling": "first"}, "'raster' or 'random', got 'first'"),
    ],
)
def test_bad_settings(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PNELoss(**arguments)  # type: ignore[arg-type]


def test_ignore_index_may_be_decided_later() -> None:
    embeddings, logits, target = draw()
    loss = PNELoss(num_samples=7)
    expected = loss(embeddings, logits, target).item()
    loss.ignore_index = -1
    assert loss.ignore_index == -1
    assert loss(embeddings, logits, target.masked_fill(target == 255, -1)).item() == expected


def test_repr_names_the_settings() -> None:
    said = repr(PNELoss(temperature=0.5, num_samples=7, scale="none"))
    assert all(part in said for part in ("temperature=0.5", "num_samples=7", "scale='none'"))
