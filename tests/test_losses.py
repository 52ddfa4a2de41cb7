"""Losses against plain loops over pixels and torch's own mean; what they do with the ignored."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pne_seg.errors import UserError
from pne_seg.losses import (
    CrossEntropy,
    OHEMCrossEntropy,
    balanced_class_weights,
    cross_entropy,
)
from pne_seg.training_loss import loss_name, set_ignore_index

WEIGHTS = (0.5, 2.0, 0.0, 1.25)


def pixel_terms(logits: Tensor, target: Tensor, ignore_index: int) -> list[tuple[int, float]]:
    """Class and cross-entropy of each labeled pixel."""
    scores, labels = logits.double().tolist(), target.tolist()
    terms: list[tuple[int, float]] = []
    for image, (maps, label_map) in enumerate(zip(scores, labels, strict=True)):
        for i, row in enumerate(label_map):
            for j, label in enumerate(row):
                if label == ignore_index:
                    continue
                pixel = [maps[c][i][j] for c in range(logits.shape[1])]
                peak = max(pixel)
                normalizer = peak + math.log(sum(math.exp(s - peak) for s in pixel))
                terms.append((label, normalizer - scores[image][label][i][j]))
    return terms


def plain_mean(terms: Sequence[tuple[int, float]], weights: Sequence[float] | None = None) -> float:
    weights = weights or [1.0] * 1000
    weight = sum(weights[label] for label, _ in terms)
    return sum(weights[label] * ce for label, ce in terms) / weight if weight else 0.0


def plain_cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> float:
    return plain_mean(pixel_terms(logits, target, ignore_index))


def plain_ohem(
    terms: Sequence[tuple[int, float]],
    threshold: float,
    min_kept: int,
    weights: Sequence[float] | None = None,
) -> float:
    ranked = sorted(terms, key=lambda term: -term[1])
    kept = [
        (label, ce)
        for rank, (label, ce) in enumerate(ranked)
        if rank < min_kept or math.exp(-ce) < threshold
    ]
    return plain_mean(kept, weights)


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


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("average", ["labeled", "all"])
@pytest.mark.parametrize("ignore_index", [255, 0])
def test_module_equals_a_plain_loop(
    ignore_index: int, average: Literal["labeled", "all"], weights: Sequence[float] | None
) -> None:
    logits, target = draw(ignore_index)
    loss = CrossEntropy(average, weights)
    loss.ignore_index = ignore_index
    terms = pixel_terms(logits, target, ignore_index)
    expected = plain_mean(terms, weights)
    if average == "all":
        expected = sum((weights or [1.0] * 4)[label] * ce for label, ce in terms) / target.numel()
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_averages_are_those_of_torch_and_of_mmsegmentation() -> None:
    logits, target = draw(255)
    weight = torch.tensor(WEIGHTS)
    torchs = F.cross_entropy(logits, target, weight, ignore_index=255)
    torch.testing.assert_close(CrossEntropy("labeled", WEIGHTS)(logits, target), torchs)
    every = F.cross_entropy(logits, target, weight, ignore_index=255, reduction="none").mean()
    torch.testing.assert_close(CrossEntropy("all", WEIGHTS)(logits, target), every)
    plain = CrossEntropy()(logits, target)
    assert torch.equal(plain, cross_entropy(logits, target, 255))
    equal = CrossEntropy(class_weights=[3.0] * 4)(logits, target)
    torch.testing.assert_close(equal, plain)


def every_loss(weights: Sequence[float] | None = None) -> list[CrossEntropy | OHEMCrossEntropy]:
    return [
        CrossEntropy("labeled", weights),
        CrossEntropy("all", weights),
        OHEMCrossEntropy(class_weights=weights),
        OHEMCrossEntropy(0.0, 5, weights),
    ]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_no_pixel_that_counts_is_zero_with_a_zero_gradient(
    weights: Sequence[float] | None,
) -> None:
    for label in (255, 2):  # 2: labeled, of weight 0
        if label == 2 and weights is None:
            continue
        for loss in every_loss(weights):
            logits = torch.randn(2, 4, 4, 4, requires_grad=True)
            value = loss(logits, torch.full((2, 4, 4), label, dtype=torch.uint8))
            assert value.item() == 0
            value.backward()
            assert logits.grad is not None
            assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_narrow_inputs_are_scored_in_float32(weights: Sequence[float] | None) -> None:
    logits, target = draw(255)
    half = logits.bfloat16()
    for loss in every_loss(weights):
        actual = loss(half, target.to(torch.uint8))
        assert actual.dtype == torch.float32
        assert actual.shape == ()
        assert torch.equal(actual, loss(half.float(), target))
        if weights is not None:  # exact in bfloat16
            assert torch.equal(loss.bfloat16()(half, target), actual)


def test_ignored_pixels_have_no_gradient_and_labeled_ones_do() -> None:
    for loss in every_loss([1.0] * 4)[:3]:
        logits, target = draw(255)
        logits.requires_grad_()
        loss(logits, target).backward()
        assert logits.grad is not None
        touched = (logits.grad != 0).any(1)
        assert torch.equal(touched, target != 255)


@pytest.mark.parametrize("weights", [[1.0, -0.1], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], []])
def test_bad_class_weights_are_refused(weights: list[float]) -> None:
    for kind in (CrossEntropy, OHEMCrossEntropy):
        with pytest.raises(ValueError, match="class_weights must be finite"):
            kind(class_weights=weights)


@pytest.mark.parametrize("weights", ["Auto", [1, "x"], {"a": 1}, 1.0, True])
def test_class_weights_that_are_no_numbers(weights: Any) -> None:
    with pytest.raises(ValueError, match="must be 'auto' or one number for each class, got"):
        CrossEntropy(class_weights=weights)


# Shares of 0.64, 0.32, 0.04 and none: by hand, w_c = f_c^−p / Σ f_k^(1−p).
PIXELS = torch.tensor([64, 32, 4, 0])


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (0.0, [1, 1, 1, 1]),
        (0.5, [0.7984, 1.1291, 3.1935, 1]),  # 1 / (0.8, 0.5657, 0.2), over their sum 1.5657
        (1.0, [0.5208, 1.0417, 8.3333, 1]),  # 1 / (3 · share)
    ],
)
def test_automatic_weights_are_those_of_the_formula(power: float, expected: list[float]) -> None:
    weights = balanced_class_weights(PIXELS, power)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected, rel=1e-3)
    shares = PIXELS / PIXELS.sum()
    assert (shares * weights).sum().item() == pytest.approx(1)  # the loss keeps its size


@pytest.mark.parametrize("pixels", [[10**18, 1], [1, 0, 0], [5], [3, 3]])
def test_automatic_weights_are_finite(pixels: list[int]) -> None:
    for power in (0.0, 0.5, 1.0):
        weights = balanced_class_weights(torch.tensor(pixels), power)
        assert weights.isfinite().all()
        assert (weights > 0).all()
        if len({*pixels} - {0}) == 1:
            assert weights.tolist() == pytest.approx([1] * len(pixels))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_loss_with_automatic_weights_is_the_one_of_torch(power: float) -> None:
    logits, target = draw(255)
    weights = balanced_class_weights(PIXELS, power)
    loss = CrossEntropy(class_weights="auto", class_weight_power=power)
    loss.weigh_classes(PIXELS)
    torchs = nn.CrossEntropyLoss(weights, ignore_index=255)(logits, target)
    torch.testing.assert_close(loss(logits, target), torchs)
    hard = OHEMCrossEntropy(class_weights="auto", class_weight_power=power)
    hard.weigh_classes(PIXELS)
    torch.testing.assert_close(hard(logits, target), torchs)  # all pixels are among the hardest


def test_automatic_weights_need_counts() -> None:
    logits, target = draw(255)
    for kind in (CrossEntropy, OHEMCrossEntropy):
        loss = kind(class_weights="auto")
        with pytest.raises(UserError, match=r"'auto', but the classes were not counted: call weig"):
            loss(logits, target)
        loss.weigh_classes(torch.tensor([1, 2, 3]))
        with pytest.raises(UserError, match="3 class weights for 4 classes"):
            loss(logits, target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": "automatic"}, "'auto' or one number for each class, got 'automatic'"),
        ({"class_weights": "auto", "class_weight_power": -0.1}, "must be 0 to 1, got -0.1"),
        ({"class_weights": "auto", "class_weight_power": math.nan}, "must be 0 to 1, got nan"),
        ({"class_weight_power": 1.0}, "is for class_weights='auto'. Set that, too"),
        ({"class_weights": [1, 2], "class_weight_power": 1.0}, "is for class_weights='auto'"),
    ],
)
def test_settings_of_automatic_weights_that_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    for kind in (CrossEntropy, OHEMCrossEntropy):
        with pytest.raises(ValueError, match=message):
            kind(**settings)


def test_as_many_weights_as_classes() -> None:
    logits, target = draw(255)
    for loss in every_loss([1.0, 2.0, 3.0]):
        with pytest.raises(
            ValueError, match=r"3 class weights for 4 classes: give class_weights one number"
        ):
            loss(logits, target)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        (CrossEntropy, "average", "mean"),
        (OHEMCrossEntropy, "threshold", -0.1),
        (OHEMCrossEntropy, "threshold", 1.5),
        (OHEMCrossEntropy, "threshold", math.nan),
        (OHEMCrossEntropy, "min_kept", 0),
    ],
)
def test_settings_out_of_range_are_refused(kind: Any, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} .*{value}"):
        kind(**{setting: value})


def test_losses_leave_no_trace_in_a_state_dict() -> None:
    for loss in every_loss(WEIGHTS):
        assert not loss.state_dict()
        assert not list(loss.parameters())
        assert not list(loss.buffers())
        assert loss.class_weights is not None
        assert loss.class_weights.tolist() == list(WEIGHTS)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("min_kept", [1, 10, 40, 131072])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_hard_pixels_equal_a_plain_loop(
    threshold: float, min_kept: int, weights: Sequence[float] | None
) -> None:
    logits, target = draw(255)
    terms = pixel_terms(logits, target, 255)
    assert 40 < len(terms) < 131072
    loss = OHEMCrossEntropy(threshold, min_kept, weights)
    expected = plain_ohem(terms, threshold, min_kept, weights)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.sampled_from([0, 1, 2, 255]), min_size=1, max_size=12),
    threshold=st.floats(0, 1),
    min_kept=st.integers(1, 14),
    seed=st.integers(0, 1000),
)
def test_any_hard_pixels_equal_a_plain_loop(
    labels: list[int], threshold: float, min_kept: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(1, 3, 1, len(labels), generator=generator)
    target = torch.tensor(labels, dtype=torch.uint8).view(1, 1, -1)
    terms = pixel_terms(logits, target, 255)
    if any(abs(math.exp(-ce) - threshold) < 1e-6 for _, ce in terms):
        return  # float32 and float64 may disagree
    expected = plain_ohem(terms, threshold, min_kept)
    actual = OHEMCrossEntropy(threshold, min_kept)(logits, target).item()
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-6)


def two_class_row(probabilities: Sequence[float]) -> tuple[Tensor, Tensor]:
    """A row of pixels of class 0 that is given these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()]).float().view(1, 2, 1, -1)
    return logits.requires_grad_(), torch.zeros(1, 1, len(p), dtype=torch.long)


def kept_pixels(loss: nn.Module, logits: Tensor, target: Tensor) -> list[bool]:
    (gradient,) = torch.autograd.grad(loss(logits, target), logits)
    kept: list[bool] = (gradient != 0).any(1).flatten().tolist()
    return kept


def test_hard_pixels_by_hand() -> None:
    logits, target = two_class_row([0.95, 0.2, 0.99, 0.85, 0.97])
    below = [False, True, False, True, False]
    assert kept_pixels(OHEMCrossEntropy(0.9, 1), logits, target) == below
    assert kept_pixels(OHEMCrossEntropy(0.9, 2), logits, target) == below
    hardest = [True, True, False, True, False]
    assert kept_pixels(OHEMCrossEntropy(0.9, 3), logits, target) == hardest
    mean = -(math.log(0.95) + math.log(0.2) + math.log(0.85)) / 3
    assert OHEMCrossEntropy(0.9, 3)(logits, target).item() == pytest.approx(mean, rel=1e-5)
    target[0, 0, 1] = 255  # the hardest is not labeled: the next takes its place
    assert kept_pixels(OHEMCrossEntropy(0.0, 2), logits, target) == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_the_gradient_is_the_mean_cross_entropys_over_the_kept_alone() -> None:
    logits, target = draw(255)
    logits.requires_grad_()
    kept = torch.tensor(kept_pixels(OHEMCrossEntropy(0.5, 3), logits, target)).view(target.shape)
    assert 3 < kept.sum() < (target != 255).sum()
    (actual,) = torch.autograd.grad(OHEMCrossEntropy(0.5, 3)(logits, target), logits)
    only = cross_entropy(logits, target.where(kept, 255), 255)
    (expected,) = torch.autograd.grad(only, logits)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("ignored", [0, 3])
def test_of_equal_pixels_exactly_min_kept_count(ignored: int) -> None:
    logits, target = two_class_row([0.95] * 10)
    target[..., :ignored] = 255
    loss = OHEMCrossEntropy(0.9, 4)
    kept = kept_pixels(loss, logits, target)
    assert sum(kept) == 4
    assert not any(kept[:ignored])
    assert loss(logits, target).item() == pytest.approx(-math.log(0.95), rel=1e-5)


def test_saturated_pixels_rank_above_ignored_ones() -> None:
    logits = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 1, 4)
    target = torch.tensor([0, 255, 255, 0]).view(1, 1, 4)
    assert OHEMCrossEntropy(0.9, 2)(logits, target).item() == 0
    logits[0, :, 0, 0] = torch.tensor([0.0, 30.0])
    # Two labeled pixels: 30 and 0. The ignored ones are no part of the mean.
    assert OHEMCrossEntropy(0.9, 4)(logits, target).item() == pytest.approx(15)


class NoSynchronization(TorchDispatchMode):
    """Refuses what reads a tensor's values on the host, or sizes a result by them."""

    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not any(name.startswith(word) for word in self.waiting), name
        if name == "index":
            masks = [index for index in args[1] if index is not None and index.dtype is torch.bool]
            assert not masks, "index by a mask"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_nothing_waits_for_the_device(weights: Sequence[float] | None) -> None:
    logits, target = draw(255)
    logits.requires_grad_()
    for loss in every_loss(weights):
        with NoSynchronization():
            loss(logits, target).backward()
        # Without values at all, the shapes still follow.
        blank = loss.to("meta")(logits.detach().to("meta"), target.to("meta"))
        assert blank.shape == ()
    with pytest.raises(AssertionError, match="index by a mask"), NoSynchronization():
        smp.losses.FocalLoss("multiclass", ignore_index=255)(logits, target)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_nothing_waits_for_a_gpu(weights: Sequence[float] | None) -> None:
    logits, target = draw(255)
    on_gpu, labels = logits.cuda().requires_grad_(), target.cuda()
    for loss in every_loss(weights):
        expected = loss(logits, target).item()
        loss.cuda()
        loss(on_gpu, labels)  # what is set up once may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            actual = loss(on_gpu, labels)
            actual.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert actual.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (CrossEntropy(), "ce"),
        (OHEMCrossEntropy(), "ohem"),
        (smp.losses.DiceLoss("multiclass"), "dice"),
        (smp.losses.LovaszLoss("multiclass"), "lovasz"),
        (smp.losses.FocalLoss("multiclass"), "focal"),
        (smp.losses.MCCLoss(), "mcc"),
        (smp.losses.SoftBCEWithLogitsLoss(), "soft_bce_with_logits"),
        (nn.CrossEntropyLoss(), "cross_entropy"),
        (type("Loss", (nn.Module,), {})(), "loss"),
        (type("Lossy2dLoss", (nn.Module,), {})(), "lossy2d"),
        (type("Named", (nn.Module,), {"name": 3})(), "named"),
    ],
)
def test_names(loss: nn.Module, name: str) -> None:
    assert loss_name(loss) == name


SMP_LOSSES = ["DiceLoss", "FocalLoss", "JaccardLoss", "LovaszLoss", "TverskyLoss"]


def outside(name: str, **arguments: Any) -> nn.Module:
    """A loss that is not ours, by its class's name."""
    if name == "SoftCrossEntropyLoss":
        loss: nn.Module = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.1, **arguments)
    elif name == "CrossEntropyLoss":
        loss = nn.CrossEntropyLoss(**arguments)
    else:
        loss = getattr(smp.losses, name)("multiclass", **arguments)
    return loss


@pytest.mark.parametrize("ignore_index", [255, 0])
@pytest.mark.parametrize("name", [*SMP_LOSSES, "SoftCrossEntropyLoss", "CrossEntropyLoss"])
def test_losses_from_outside_leave_ignored_pixels_alone(name: str, ignore_index: int) -> None:
    loss = outside(name)
    set_ignore_index(loss, ignore_index)
    logits, target = draw(ignore_index)
    ignored = target == ignore_index
    logits.requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad is not None
    assert torch.equal((logits.grad != 0).any(1), ~ignored)
    other = torch.where(ignored[:, None], 10 * torch.randn_like(logits), logits.detach())
    torch.testing.assert_close(loss(other, target), value.detach())


@pytest.mark.parametrize("name", [*SMP_LOSSES, "SoftCrossEntropyLoss", "CrossEntropyLoss"])
def test_an_ignore_value_that_contradicts_the_data_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} was given ignore_index 7, the data's is 255"):
        set_ignore_index(outside(name, ignore_index=7), 255)
    agreeing: Any = outside(name, ignore_index=255)
    set_ignore_index(agreeing, 255)
    assert agreeing.ignore_index == 255


def test_our_losses_take_any_ignore_value() -> None:
    for loss in every_loss():
        for ignore_index in (0, 255, 3):
            set_ignore_index(loss, ignore_index)
            assert loss.ignore_index == ignore_index


def test_a_subclass_passes_its_keywords_on() -> None:
    class Dice(smp.losses.DiceLoss):  # type: ignore[misc]  # smp is untyped
        def __init__(self, **kwargs: Any) -> None:
            super().__init__("multiclass", **kwargs)

    set_ignore_index(Dice(), 255)
    with pytest.raises(ValueError, match="given ignore_index 0"):
        set_ignore_index(Dice(ignore_index=0), 255)


@pytest.mark.parametrize("loss", [smp.losses.MCCLoss(), nn.MSELoss()])
def test_losses_that_know_no_ignore_value_are_refused(loss: nn.Module) -> None:
    kind = type(loss).__name__
    with pytest.raises(ValueError, match=f"{kind} has no ignore_index.*OHEMCrossEntropy.*DiceLoss"):
        set_ignore_index(loss, 255)
