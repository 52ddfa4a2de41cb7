"""Which pixels meet which: selection by itself, its inputs and what it asks of the device."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pne_seg.contrast import PairSelection, PairSelector, PNELoss
from pne_seg.contrast.interface import resize_nearest

# (anchor pixel, repetitions, negatives, positives), pixels as flat positions.
Meeting = tuple[int, int, list[int], list[int]]


def maps(predicted: list[int], labels: list[int]) -> tuple[Tensor, Tensor]:
    """One image of one row."""
    return torch.tensor([[predicted]]), torch.tensor([[labels]])


def meetings(selection: PairSelection) -> list[Meeting]:
    """Read a selection back, anchor by anchor."""
    blocks = selection.blocks
    size = blocks.anchors.shape[1]
    members = selection.pixels[selection.banks].tolist()
    found = []
    for anchor in range(len(selection.anchors)):
        banks = []
        for role in (0, 1):
            place = int(blocks.place[role, anchor])
            assert blocks.anchors.flatten()[place] == anchor
            assert blocks.positive.flatten()[place] == role
            banks.append(members[int(blocks.bank[place // size])])
        pixel = int(selection.pixels[selection.anchors[anchor]])
        found.append((pixel, int(selection.repeats[anchor]), banks[0], banks[1]))
    return found


def test_who_meets_whom() -> None:
    #                   0  1  2  3  4  5  6  7
    prediction = maps([0, 0, 1, 1, 1, 0, 2, 0], [0, 0, 0, 1, 1, 1, 1, 9])
    select = PairSelector(num_samples=3, ignore_index=9)
    selection = select(*prediction, num_classes=3)
    # Pixel 2 (a 0 taken for 1), pixel 5 (a 1 taken for 0); pixel 6 is taken for a class that the
    # image does not hold, pixel 7 is ignored.
    assert sorted(meetings(selection)) == [
        (2, 3, [3, 4, 3], [0, 1, 0]),
        (5, 3, [0, 1, 0], [3, 4, 3]),
    ]
    assert (selection.num_pairs, selection.num_anchors) == (2, 2)
    assert selection.pixels.tolist() == [0, 1, 2, 3, 4, 5]


def test_anchors_stand_in_where_there_are_no_negatives() -> None:
    prediction = maps([0, 1, 1, 1, 0], [0, 0, 0, 0, 1])
    selection = PairSelector(num_samples=4)(*prediction, num_classes=2)
    # Class 1 has no right pixel: the pair (1, 0) meets itself, the pair (0, 1) has no positive.
    assert meetings(selection) == [
        (1, 2, [1, 2, 3, 1], [0, 0, 0, 0]),
        (2, 1, [1, 2, 3, 1], [0, 0, 0, 0]),
        (3, 1, [1, 2, 3, 1], [0, 0, 0, 0]),
    ]
    assert selection.num_pairs == 1


def test_images_do_not_mix() -> None:
    labels = torch.tensor([[[0, 0, 1]], [[0, 1, 1]]])
    prediction = torch.tensor([[[0, 1, 1]], [[0, 0, 1]]])
    selection = PairSelector(num_samples=1)(prediction, labels, num_classes=2)
    assert sorted(meetings(selection)) == [(1, 1, [2], [0]), (4, 1, [3], [5])]


@pytest.mark.parametrize(("low", "high", "counts"), [
    (3, 3, True), (4, 9, False), (0, 2, False), (3, 9, True), (0, 3, True),
])  # fmt: skip
def test_gate_includes_both_ends(low: int, high: int, counts: bool) -> None:
    prediction = maps([0, 1, 1, 1, 1], [0, 0, 0, 0, 1])
    select = PairSelector(num_samples=2, min_anchors=low, max_anchors=high)
    selection = select(*prediction, num_classes=2)
    assert selection.num_pairs == counts
    assert selection.num_anchors == 3 * counts


def test_many_anchors_fill_several_blocks() -> None:
    # Class 0: 5 right pixels, then 90 taken for each of 1 to 4; then 6 right ones of each of these.
    wrong, right = [1] * 90 + [2] * 90 + [3] * 90 + [4] * 90, [1, 2, 3, 4] * 6
    prediction = maps([0] * 5 + wrong + right, [0] * (5 + 360) + right)
    selection = PairSelector(num_samples=90)(*prediction, num_classes=5)
    assert selection.num_pairs == 4
    assert selection.blocks.bank.bincount().max() > 2
    found = meetings(selection)
    assert [meeting[:2] for meeting in found] == [(5 + i, 1) for i in range(360)]
    for pixel, _, negatives, positives in found:
        assert set(positives) == set(range(5))
        assert set(negatives) == set(range(365 + (pixel - 5) // 90, 389, 4))


def test_more_classes_than_a_byte_holds() -> None:
    prediction = maps([700, 900, 900], [700, 700, 900])
    selection = PairSelector(num_samples=1)(*prediction, num_classes=1000)
    assert meetings(selection) == [(1, 1, [2], [0])]


def test_random_draws_without_replacement_and_evenly() -> None:
    # 12 right pixels of class 0, 8 wrong ones, 2 right ones of class 1.
    prediction = maps([0] * 12 + [1] * 10, [0] * 20 + [1] * 2)
    select = PairSelector(num_samples=4, sampling="random")
    torch.manual_seed(0)
    rounds = 400
    positives: Counter[int] = Counter()
    anchors: Counter[int] = Counter()
    for _ in range(rounds):
        found = meetings(select(*prediction, num_classes=2))
        assert len(found) == 4  # distinct, each once
        assert all(repeats == 1 for _, repeats, _, _ in found)
        assert all(len(set(bank)) == 4 for _, _, _, bank in found)
        assert all(bank == [20, 21, 20, 21] for _, _, bank, _ in found)  # fewer than n: as raster
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
    raster = PairSelector(num_samples=84)(prediction, labels, 3)
    drawn = PairSelector(num_samples=84, sampling="random")(prediction, labels, 3)
    assert meetings(drawn) == meetings(raster)


def test_nearest_is_exact_integer_arithmetic() -> None:
    for source in range(1, 60):
        row = torch.arange(source)[None, None]
        for size in range(1, 60):
            expected = [i * source // size for i in range(size)]
            assert resize_nearest(row, (1, size)).flatten().tolist() == expected


class Synchronisations(TorchFunctionMode):
    """Counts calls that make the host wait for a device, by name."""

    WAIT = (
        *("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "equal"),
        *("nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        if name in self.WAIT:
            self.calls[name] += 1
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """The same below Python, where a boolean mask or a backward pass could wait unseen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in {"_local_scalar_dense", "nonzero", "unique_consecutive", "_unique2"}:
            self.calls[name] += 1
        if name in {"index", "index_put", "index_put_", "_index_put_impl_"}:
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            self.calls["mask"] += len(masks)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampling", ["raster", "random"])
@pytest.mark.parametrize("pairs", [True, False])
def test_two_synchronisations_forward_none_backward(sampling: Any, pairs: bool) -> None:
    embeddings = torch.randn(2, 8, 12, 12, requires_grad=True)
    logits = torch.randn(2, 4, 24, 24)
    target = torch.randint(0, 4 if pairs else 1, (2, 48, 48))
    loss = PNELoss(num_samples=5, sampling=sampling)
    with Synchronisations() as seen, Waits() as below:
        result = loss.compute(embeddings, logits, target)
        assert +seen.calls == {"unique_consecutive": 1, "cpu": 1}
        assert +below.calls == {"unique_consecutive": 1}
        result.loss.backward()
    assert +seen.calls == {"unique_consecutive": 1, "cpu": 1}
    assert +below.calls == {"unique_consecutive": 1}
    assert (result.num_pairs > 0) == pairs


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
