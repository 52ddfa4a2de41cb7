"""Which pixels are compared: selection by itself, its inputs and what it asks of the device."""

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from pne_seg.contrast import (
    InfoNCELoss,
    Pairs,
    PairSampler,
    PixelContrastLoss,
    PNELoss,
    SelectiveLoss,
)
from pne_seg.contrast.fast import BLOCK_SIZE, _blocks, fast_pne
from pne_seg.contrast.interface import resize_nearest

# (anchor pixel, repetitions, negatives, positives), pixels as flat positions.
Comparison = tuple[int, int, list[int], list[int]]


def maps(predicted: list[int], labels: list[int]) -> tuple[Tensor, Tensor]:
    """One image of one row."""
    return torch.tensor([[predicted]]), torch.tensor([[labels]])


def comparisons(pairs: Pairs) -> list[Comparison]:
    """Read pairs back, anchor by anchor."""
    sets = (torch.arange(pairs.num_pairs), pairs.negatives, pairs.positives)
    grids = [pairs.pixels[pairs.grid(of)].tolist() for of in sets]
    return [
        (pixel, repeats, negatives, positives)
        for anchors, negatives, positives in zip(*grids, strict=True)
        for pixel, repeats in Counter(anchors).items()
    ]


def test_who_is_compared_with_whom() -> None:
    #                   0  1  2  3  4  5  6  7
    prediction = maps([0, 0, 1, 1, 1, 0, 2, 0], [0, 0, 0, 1, 1, 1, 1, 9])
    select = PairSampler(num_samples=3, ignore_index=9)
    selection = select(*prediction, num_classes=3)
    # Pixel 2 (a 0 taken for 1), pixel 5 (a 1 taken for 0); pixel 6 is taken for a class that the
    # image does not hold, pixel 7 is ignored.
    assert sorted(comparisons(selection)) == [
        (2, 3, [3, 4, 3], [0, 1, 0]),
        (5, 3, [0, 1, 0], [3, 4, 3]),
    ]
    assert (selection.num_pairs, selection.num_anchors) == (2, 2)
    assert selection.pixels.tolist() == [2, 5, 0, 1, 3, 4]  # anchors, then the others


def test_anchors_stand_in_where_there_are_no_negatives() -> None:
    prediction = maps([0, 1, 1, 1, 0], [0, 0, 0, 0, 1])
    selection = PairSampler(num_samples=4)(*prediction, num_classes=2)
    # Class 1 has no right pixel: the pair (1, 0) meets itself, the pair (0, 1) has no positive.
    assert comparisons(selection) == [
        (1, 2, [1, 2, 3, 1], [0, 0, 0, 0]),
        (2, 1, [1, 2, 3, 1], [0, 0, 0, 0]),
        (3, 1, [1, 2, 3, 1], [0, 0, 0, 0]),
    ]
    assert selection.num_pairs == 1


def test_images_do_not_mix() -> None:
    labels = torch.tensor([[[0, 0, 1]], [[0, 1, 1]]])
    prediction = torch.tensor([[[0, 1, 1]], [[0, 0, 1]]])
    selection = PairSampler(num_samples=1)(prediction, labels, num_classes=2)
    assert sorted(comparisons(selection)) == [(1, 1, [2], [0]), (4, 1, [3], [5])]


def test_with_the_batch_as_scope_images_mix() -> None:
    # Pixel 1 is a 0 taken for 1, of which its own image holds no label; the second image does.
    labels = torch.tensor([[[0, 0, 0]], [[1, 1, 0]]])
    prediction = torch.tensor([[[0, 1, 0]], [[1, 1, 0]]])
    assert comparisons(PairSampler(num_samples=4)(prediction, labels, 2)) == []
    selection = PairSampler(num_samples=4, scope="batch")(prediction, labels, 2)
    assert comparisons(selection) == [(1, 4, [3, 4, 3, 4], [0, 2, 5, 0])]


@pytest.mark.parametrize(("low", "high", "counts"), [
    (3, 3, True), (4, 9, False), (0, 2, False), (3, 9, True), (0, 3, True),
])  # fmt: skip
def test_gate_includes_both_ends(low: int, high: int, counts: bool) -> None:
    prediction = maps([0, 1, 1, 1, 1], [0, 0, 0, 0, 1])
    select = PairSampler(num_samples=2, min_anchors=low, max_anchors=high)
    selection = select(*prediction, num_classes=2)
    assert selection.num_pairs == counts
    assert selection.num_anchors == 3 * counts


def test_many_anchors_fill_several_blocks() -> None:
    # Class 0: 5 right pixels, then 90 taken for each of 1 to 4; then 6 right ones of each of these.
    wrong, right = [1] * 90 + [2] * 90 + [3] * 90 + [4] * 90, [1, 2, 3, 4] * 6
    prediction = maps([0] * 5 + wrong + right, [0] * (5 + 360) + right)
    selection = PairSampler(num_samples=90)(*prediction, num_classes=5)
    assert selection.num_pairs == 4
    numbers = torch.cat([selection.negatives, selection.positives]).unique(return_inverse=True)[1]
    blocks = _blocks(selection, numbers, torch.device("cpu"))
    assert blocks.sets.bincount().max() > 2
    assert blocks.anchors.shape[1] == BLOCK_SIZE
    z = torch.randn(len(selection.pixels), 8, dtype=torch.float64)
    expected = PNELoss()._definition(z, None, selection)
    fast = fast_pne(z[:360], z[360:], None, selection, temperature=1.0)
    torch.testing.assert_close(fast, expected)
    found = comparisons(selection)
    assert [comparison[:2] for comparison in found] == [(5 + i, 1) for i in range(360)]
    for pixel, _, negatives, positives in found:
        assert set(positives) == set(range(5))
        assert set(negatives) == set(range(365 + (pixel - 5) // 90, 389, 4))


def test_more_classes_than_a_byte_holds() -> None:
    prediction = maps([700, 900, 900], [700, 700, 900])
    selection = PairSampler(num_samples=1)(*prediction, num_classes=1000)
    assert comparisons(selection) == [(1, 1, [2], [0])]


def test_random_draws_without_replacement_and_evenly() -> None:
    # 12 right pixels of class 0, 8 wrong ones, 2 right ones of class 1.
    prediction = maps([0] * 12 + [1] * 10, [0] * 20 + [1] * 2)
    select = PairSampler(num_samples=4, sampling="random")
    torch.manual_seed(0)
    rounds = 400
    positives: Counter[int] = Counter()
    anchors: Counter[int] = Counter()
    for _ in range(rounds):
        found = comparisons(select(*prediction, num_classes=2))
        assert len(found) == 4  # distinct, each once
        assert all(repeats == 1 for _, repeats, _, _ in found)
        assert all(len(set(drawn)) == 4 for _, _, _, drawn in found)
        assert all(taken == [20, 21, 20, 21] for _, _, taken, _ in found)  # fewer than n: as raster
        positives.update(found[0][3])
        anchors.update(pixel for pixel, *_ in found)
    assert set(positives) == set(range(12))
    assert set(anchors) == set(range(12, 20))
    for counter, share in ((positives, 4 / 12), (anchors, 4 / 8)):
        deviation = (rounds * share * (1 - share)) ** 0.5
        assert all(abs(n - rounds * share) < 4 * deviation for n in counter.values())


def test_random_equals_raster_where_sets_are_small() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator)
    prediction = torch.randint(0, 3, (2, 6, 7), generator=generator)
    raster = PairSampler(num_samples=84)(prediction, labels, 3)
    drawn = PairSampler(num_samples=84, sampling="random")(prediction, labels, 3)
    assert comparisons(drawn) == comparisons(raster)


def test_nearest_is_exact_integer_arithmetic() -> None:
    for source in range(1, 60):
        row = torch.arange(source)[None, None]
        for size in range(1, 60):
            expected = [i * source // size for i in range(size)]
            assert resize_nearest(row, (1, size)).flatten().tolist() == expected


class OnDevice(Tensor):
    """A tensor of a device that is none, `meta`; its content lies in `content`, on the CPU."""

    content: Tensor

    @staticmethod
    def __new__(cls: "type[OnDevice]", content: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls,
            content.size(),
            strides=content.stride(),
            dtype=content.dtype,
            device=torch.device("meta"),
        )
        made.content = content
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise AssertionError(f"{func} outside of the mode")


class Device(TorchDispatchMode):
    """Runs what is on the device, and counts what the host would wait for."""

    WAITS = ("_local_scalar_dense", "nonzero", "unique_consecutive", "_unique2", "masked_select")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given, layout = tree_flatten((args, kwargs or {}))
        wrapped = {id(value.content): value for value in given if isinstance(value, OnDevice)}
        device = (kwargs or {}).get("device")
        name = func.overloadpacket.__name__
        if wrapped:
            to_host = device is not None and device.type == "cpu"
            masks = name.startswith(("index", "_index")) and any(
                isinstance(value, OnDevice) and value.dtype in (torch.bool, torch.uint8)
                for value in given[1:]
            )
            if name in self.WAITS or to_host or masks:
                self.waits["copy to the host" if to_host else name] += 1
            on_device = not to_host
        else:
            on_device = device is not None and device.type == "meta"
        plain = [value.content if isinstance(value, OnDevice) else value for value in given]
        plain = [torch.device("cpu") if value == torch.device("meta") else value for value in plain]
        new_args, new_kwargs = tree_unflatten(plain, layout)
        found = func(*new_args, **new_kwargs)
        if not on_device:
            return found

        def wrap(one: Tensor) -> OnDevice:
            return wrapped[id(one)] if id(one) in wrapped else OnDevice(one)

        return tree_map_only(Tensor, wrap, found)


@pytest.mark.parametrize(
    "loss",
    [
        PNELoss(num_samples=5),
        PNELoss(num_samples=5, sampling="random", scope="batch"),
        PNELoss(num_samples=5, implementation="reference"),
        InfoNCELoss(num_samples=5),
        PixelContrastLoss(max_views=3),
    ],
    ids=["fast", "random", "reference", "InfoNCE", "PixelContrast"],
)
@pytest.mark.parametrize("pairs", [True, False])
def test_two_waits_forward_none_backward(
    loss: SelectiveLoss, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # unknown to `meta`
    embeddings, logits = torch.randn(2, 8, 12, 12), torch.randn(2, 4, 24, 24)
    target = torch.randint(0, 4, (2, 48, 48)) if pairs else torch.full((2, 48, 48), 255)
    torch.manual_seed(0)
    expected = loss(embeddings, logits, target)
    torch.manual_seed(0)
    with Device() as device:
        on_device = OnDevice(embeddings).requires_grad_()
        result = loss.compute(on_device, OnDevice(logits), OnDevice(target))
        assert device.waits == {"unique_consecutive": 1, "copy to the host": 1}
        result.loss.backward()
    assert device.waits == {"unique_consecutive": 1, "copy to the host": 1}
    assert isinstance(result.loss, OnDevice)
    torch.testing.assert_close(result.loss.content, expected)
    assert isinstance(on_device.grad, OnDevice)
    assert (on_device.grad.content.abs().sum() > 0) == pairs


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("ignore_index", [255, -100, 3])
def test_labels_of_any_integer_type(dtype: torch.dtype, ignore_index: int) -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (1, 8, 8), generator=generator)
    embeddings = torch.randn(1, 4, 8, 8, generator=generator)
    logits = torch.randn(1, 3, 8, 8, generator=generator)
    expected = PNELoss()(embeddings, logits, target)
    loss = PNELoss(ignore_index=ignore_index)
    assert loss(embeddings, logits, target.to(dtype)) == expected
    if ignore_index < 0 and dtype == torch.uint8:
        return
    target[:, ::3] = ignore_index
    kept = PNELoss()(embeddings, logits, torch.where(target == ignore_index, 255, target))
    assert loss(embeddings, logits, target.to(dtype)) == kept


@pytest.mark.parametrize("value", [5, 254, -1, 3000])
def test_label_out_of_range_is_named(value: int) -> None:
    target = torch.zeros(1, 6, 6, dtype=torch.long)
    target[0, 2, 2] = value
    with pytest.raises(ValueError, match=rf"outside 0\.\.4, the 5 channels .*: {value}; map") as e:
        PNELoss()(torch.randn(1, 3, 6, 6), torch.randn(1, 5, 6, 6), target)
    assert "ignore_index=255" in str(e.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": torch.randn(3, 4, 4)}, r"embeddings .* \(B, D, h, w\), got \(3, 4, 4\)"),
        ({"logits": torch.randn(2, 4, 4)}, r"logits .* \(B, C, h', w'\), got \(2, 4, 4\)"),
        ({"target": torch.zeros(2, 1, 4, 4)}, r"target .* \(B, H, W\), got \(2, 1, 4, 4\)"),
        ({"logits": torch.randn(3, 5, 4, 4)}, "logits hold 3 images and embeddings 2"),
        ({"target": torch.zeros(1, 4, 4)}, "target hold 1 images and embeddings 2"),
        ({"target": torch.zeros(2, 4, 4)}, r"integer class labels, got torch.float32; .*\.long"),
        ({"target": torch.zeros(2, 4, 4) > 0}, "integer class labels, got torch.bool"),
        ({"logits": torch.zeros(2, 5, 4, 4).int()}, "logits must be floating point, got torch.int"),
        ({"embeddings": torch.zeros(2, 3, 4, 4).long()}, "embeddings must be floating point"),
        ({"logits": torch.randn(2, 0, 4, 4)}, "no pixel or no channel"),
        ({"logits": torch.randn(2, 5, 4, 4, device="meta")}, "logits are on meta and embeddings"),
    ],
)
def test_inputs_that_do_not_fit(change: dict[str, Tensor], message: str) -> None:
    inputs = {
        "embeddings": torch.randn(2, 3, 4, 4),
        "logits": torch.randn(2, 5, 4, 4),
        "target": torch.zeros(2, 4, 4, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=message):
        PNELoss()(**(inputs | change))
