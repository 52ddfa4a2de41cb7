"""Counts of the training labels, and the images that an epoch draws by them."""

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from PIL import Image

from pne_seg.data import Folder, Scenes, SegmentationDataModule
from pne_seg.data.class_counts import (
    ClassCounts,
    count_classes,
    count_labels,
    count_once,
    draw,
    rare_classes,
)
from pne_seg.data.inspection import inspect
from pne_seg.data.samples import EpochSampler, Sample, SampleKey, SampleView, SegmentationDataset
from pne_seg.errors import UserError
from tests.data.noise import Noise, Noises, names

CLASSES = ("common", "rare", "absent", "seldom")


class Labels(SegmentationDataset):
    """Images of 4×5 pixels: all of class 0, but for some pixels of others, by image."""

    def __init__(self, *others: dict[int, int]) -> None:
        self.others = others

    def __len__(self) -> int:
        return len(self.others)

    def name(self, index: int) -> str:
        return f"image_{index}"

    def read(self, index: int) -> Sample:
        labels = np.zeros(20, np.uint8)
        start = 0
        for value, count in self.others[index].items():
            labels[start : start + count] = value
            start += count
        return Sample(np.zeros((4, 5, 3), np.uint8), labels.reshape(4, 5), (4, 5))


SPLIT = Labels({}, {1: 2, 255: 8}, {3: 4}, {1: 1, 3: 1}, {255: 20}, {})


def counted() -> ClassCounts:
    return count_classes(SPLIT, len(CLASSES), 255)


def test_counts_are_those_of_the_labels() -> None:
    counts = counted()
    # By hand: 120 pixels, 28 ignored.
    assert counts.pixels.tolist() == [84, 3, 0, 5]
    assert counts.present.int().tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0],
    ]  # fmt: skip


def test_expected_draws_follow_the_published_formula() -> None:
    temperature = 0.4
    shares = {0: 84 / 92, 1: 3 / 92, 3: 5 / 92}  # a class that never occurs is never drawn
    weights = {c: np.exp((1 - share) / temperature) for c, share in shares.items()}
    chance = {c: weight / sum(weights.values()) for c, weight in weights.items()}
    holders = {0: [0, 1, 2, 3, 5], 1: [1, 3], 3: [2, 3]}
    expected = [
        6 * sum(chance[c] / len(those) for c, those in holders.items() if image in those)
        for image in range(6)
    ]
    actual = counted().expected_draws(temperature)
    assert actual.tolist() == pytest.approx(expected)
    assert actual.sum().item() == pytest.approx(6)
    assert actual[4] == 0  # nothing labeled


@pytest.mark.parametrize("temperature", [1e-9, 0.01, 0.4, 1e9])
def test_an_epoch_draws_each_image_as_often_as_expected(temperature: float) -> None:
    expected = counted().expected_draws(temperature)
    sampler = EpochSampler(SampleView(SPLIT), seed=3, draw=partial(draw, expected))
    total: Counter[int] = Counter()
    epochs = 2000
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(set(keys)) == 6  # a repeated image gets another augmentation
        drawn = Counter(key.index for key in keys)
        for index, times in enumerate(expected.tolist()):
            assert np.floor(times - 1e-9) <= drawn[index] <= np.ceil(times + 1e-9)
            repeats = sorted(key.repeat for key in keys if key.index == index)
            assert repeats == list(range(drawn[index]))
        total += drawn
    for index, times in enumerate(expected.tolist()):
        assert total[index] / epochs == pytest.approx(times, abs=0.05)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_and_a_resume_share_one_drawn_order(processes: int) -> None:
    drawing = partial(draw, counted().expected_draws(0.01))
    view = SampleView(SPLIT)
    whole = EpochSampler(view, 3, draw=drawing)
    ranks = [EpochSampler(view, 3, processes, rank, draw=drawing) for rank in range(processes)]
    resumed = EpochSampler(view, 3, epoch=1, skipped=2, draw=drawing)
    orders = []
    for epoch in range(3):
        for sampler in (whole, *ranks):
            sampler.set_epoch(epoch)
        order = list(whole)
        assert order == list(whole)
        parts = [list(sampler) for sampler in ranks]
        dealt = [key for turn in zip(*parts, strict=True) for key in turn]
        assert dealt == order[: 6 - 6 % processes]
        if epoch:
            resumed.set_epoch(epoch)
            assert list(resumed) == order[2 if epoch == 1 else 0 :]
        orders.append(order)
    assert len(set(map(str, orders))) == 3


def test_without_it_the_order_is_the_permutation_of_always() -> None:
    sampler = EpochSampler(SampleView(Noise(9)), seed=5)
    sampler.set_epoch(2)
    generator = torch.Generator().manual_seed(5 * 1_000_003 + 2)
    assert list(sampler) == [
        SampleKey(2, index) for index in torch.randperm(9, generator=generator).tolist()
    ]
    module = Noises()
    list(module.train_dataloader())
    assert module.state_dict() == {}  # nothing was counted


def test_workers_make_the_same_batches() -> None:
    def batches(workers: int) -> list[dict[str, Any]]:
        module = Noises(rare_class_sampling=0.01, num_workers=workers)
        return list(module.train_dataloader())

    alone, two = batches(0), batches(2)
    assert names(alone) == names(two)
    for one, other in zip(alone, two, strict=True):
        assert torch.equal(one["image"], other["image"])


def test_a_repeated_image_is_augmented_anew() -> None:
    module = Noises(1, batch_size=1)
    view = module._train_view()
    first, again = (view[SampleKey(0, 0, repeat)]["image"] for repeat in (0, 1))
    assert not torch.equal(first, again)


# ---- counted once --------------------------------------------------------------------------


def test_counts_are_made_once_and_kept_by_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[SegmentationDataset] = []

    def counting(split: SegmentationDataset, *args: int) -> ClassCounts:
        calls.append(split)
        return count_classes(split, *args)

    monkeypatch.setattr("pne_seg.data.class_counts.count_classes", counting)
    module = Noises(rare_class_sampling=0.01)
    order = names(list(module.train_dataloader()))
    state = module.state_dict()
    module.class_counts()
    assert len(calls) == 1

    resumed = Noises(rare_class_sampling=0.01)
    resumed.load_state_dict(state)
    assert names(list(resumed.train_dataloader())) == order
    assert len(calls) == 1

    # Of other images only the pixels of the checkpoint still hold.
    larger = Noises(12, rare_class_sampling=0.01)
    larger.load_state_dict(state)
    assert len(names(list(larger.train_dataloader()))) == 12
    assert len(calls) == 2
    assert torch.equal(larger.class_counts().pixels, module.class_counts().pixels)
    assert larger.class_counts().present.shape == (12, 3)


class Refusing(Labels):
    def read(self, index: int) -> Sample:
        raise UserError("image_0: is damaged.")


@pytest.mark.parametrize("first", [True, False])
def test_every_process_learns_what_the_first_one_found(first: bool) -> None:
    sent: list[Any] = []

    class Strategy(SingleDeviceStrategy):
        is_global_zero = first

        def broadcast(self, obj: Any, src: int = 0) -> Any:
            if first:
                sent.append(obj)
                return obj
            return answer

    answer: Any = counted()
    read = SPLIT if first else Refusing({})  # only the first one reads
    found = count_once(Strategy(), read, len(CLASSES), 255)
    assert found.pixels.tolist() == [84, 3, 0, 5]
    answer = "image_0: is damaged."
    with pytest.raises(UserError, match="image_0: is damaged"):
        count_once(Strategy(), Refusing({}), len(CLASSES), 255)
    assert len(sent) == (2 if first else 0)


def test_overfitting_on_few_images_draws_none_of_them_twice() -> None:
    module = Noises(rare_class_sampling=0.01)
    module.trainer = SimpleNamespace(overfit_batches=2)  # type: ignore[assignment]
    assert module._draw() is None


# ---- data sets -----------------------------------------------------------------------------


def masks(folder: Path, colors: bool = False, first: int = 0) -> Path:
    """Write six pairs, all of the first class but for a few pixels of the second and ignored."""
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(6):
        values = np.full((16, 24), first, np.uint8)
        values[0, : number % 3] = first + 1
        values[1, :5] = 0 if first else 255
        pixels = generator.integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        if colors:
            values[1, :5] = 2
            values = np.array([[9, 9, 9], [200, 0, 0], [0, 0, 200]], np.uint8)[values]
        Image.fromarray(values).save(folder / "masks" / f"{number}.png")
    return folder


def zipped(folder: Path) -> Path:
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    return folder.with_suffix(".zip")


COLORS: dict[str, int | list[int]] = {"wall": [9, 9, 9], "crack": [200, 0, 0]}
DATA: dict[str, Callable[[Path], SegmentationDataModule]] = {
    "folder": lambda path: Folder(masks(path / "d"), ["wall", "crack"]),
    "zip": lambda path: Folder(zipped(masks(path / "d")), ["wall", "crack"]),
    "colors": lambda path: Folder(
        masks(path / "d", colors=True), COLORS, ignore_colors=[[0, 0, 200]]
    ),
    "zero_ignored": lambda path: Folder(
        masks(path / "d", first=1), ["wall", "crack"], reduce_zero_label=True
    ),
    "absent": lambda path: Folder(masks(path / "d"), ["wall", "crack", "hole"]),
    "cache": lambda path: Folder(masks(path / "d"), ["wall", "crack"], cache=path / "cache"),
    "drawn_in_code": lambda _: Scenes(train_size=4, height=32, width=48),
    "one_image": lambda _: Scenes(train_size=1, height=32, width=48),
}


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_counts_are_those_of_check_data(
    make: Callable[[Path], SegmentationDataModule], tmp_path: Path
) -> None:
    data = make(tmp_path)
    counts = data.class_counts()
    figures = inspect(data, ["train"], processes=1).splits["train"]
    assert figures is not None
    assert counts.pixels.tolist() == figures.pixels.tolist()
    assert counts.present.sum(0).tolist() == figures.images_with.tolist()
    drawn = counts.expected_draws(0.01)
    assert drawn.sum().item() == pytest.approx(figures.images)
    if not isinstance(data, Scenes):
        without = ~counts.present[:, 1]
        assert 0 < int(without.sum()) < len(without)
        assert drawn[without].max() < drawn[~without].min()


# ---- what cannot be counted ----------------------------------------------------------------


def test_labels_without_a_class_are_refused() -> None:
    with pytest.raises(UserError, match="no pixel of any class to count: all of them are ignored"):
        count_classes(Labels({255: 20}, {255: 20}), 4, 255)
    with pytest.raises(UserError, match=r"image_1: label 7 .3 pixels. is no class"):
        count_classes(Labels({}, {7: 3}), 4, 255)
    with pytest.raises(UserError, match="labels must be uint8, got int64"):
        count_labels(np.zeros((2, 2), np.int64), "a.png", 4, 255)
    unlabeled = Labels({})
    unlabeled.labeled = False
    with pytest.raises(UserError, match="image_0 has no labels to count"):
        count_classes(unlabeled, 4, 255)


@pytest.mark.parametrize("value", [0, -0.01, float("inf"), float("nan")])
def test_a_temperature_is_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match=r"rare_class_sampling must be above 0, such as 0\.01"):
        Noises(rare_class_sampling=value)


@pytest.mark.parametrize(
    ("with_rare", "images", "temperature"),
    [(95, 100, "0.01"), (30, 100, "0.5"), (0, 0, "0.01")],
)
def test_rare_classes_are_named_with_settings(
    with_rare: int, images: int, temperature: str
) -> None:
    present = np.array([images, with_rare, 0, 1])
    said = rare_classes(CLASSES, np.array([9800, 100, 0, 100]), present, images)
    assert said is not None
    assert "2 of 4 are rare: rare 1%, seldom 1%. If" in said
    assert "--model.loss.class_weights auto" in said
    assert f"--data.rare_class_sampling {temperature}" in said


def test_only_the_rarest_classes_are_named() -> None:
    many = np.array([10_000_000, *range(1, 21)])
    said = rare_classes([f"c{index}" for index in range(21)], many, np.ones_like(many), 1)
    assert said is not None
    assert "20 of 21 are rare: c1 " in said
    assert "c5 " in said
    assert "c6 " not in said
    for even in (np.array([100, 30, 0, 20]), np.zeros(4, np.int64)):
        assert rare_classes(CLASSES, even, even, 3) is None


def test_images_that_are_hardly_drawn_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    class Data(Noises):
        def dataset(self, split: Any) -> Any:
            return SPLIT

    data: Any = Data(rare_class_sampling=0.01)
    data.class_names = CLASSES
    with pytest.warns(UserWarning, match=r"but 3 of 6 images, which have common .* such as 0\.5"):
        data.train_dataloader()
    caplog.set_level("INFO")
    data.train_dataloader()
    assert "rare_class_sampling" not in caplog.text
    Noises(rare_class_sampling=0.01).train_dataloader()
    assert "up to 1 times, by its classes, and 0 images less than once in ten" in caplog.text
