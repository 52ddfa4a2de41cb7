"""Training samples are functions of (seed, epoch, index); their order, and how they are batched."""

import os
import random
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch

from pne_seg.data.base import default_workers
from pne_seg.data.samples import EpochSampler, SampleKey, SampleView, collate, sample_seed
from pne_seg.data.transforms import train_transforms
from pne_seg.errors import UserError
from tests.data.noise import Noise, Noises, names


def epoch(module: Noises, number: int) -> list[dict[str, Any]]:
    """The batches of a training epoch."""
    loader = module.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    loader.sampler.set_epoch(number)
    return list(loader)


# ---- samples -----------------------------------------------------------------------------


def test_order_and_augmentation_change_with_epoch_and_seed() -> None:
    views = {
        (seed, number): epoch(Noises(seed=seed), number) for seed in (3, 4) for number in (0, 1)
    }
    orders = [tuple(names(batches)) for batches in views.values()]
    assert len(set(orders)) == 4
    assert {tuple(sorted(order)) for order in orders} == {
        tuple(sorted(f"noise_{index}" for index in range(10)))
    }
    # The same image, by name, in four augmentations.
    images = [
        image
        for batches in views.values()
        for batch in batches
        for name, image in zip(batch["name"], batch["image"], strict=True)
        if name == "noise_4"
    ]
    assert len(images) == 4
    assert len({image.numpy().tobytes() for image in images}) == 4


def test_a_sample_depends_on_nothing_that_came_before() -> None:
    view = SampleView(Noise(6), A.Compose(train_transforms((16, 16))), seed=1)
    alone = view[SampleKey(epoch=2, index=4)]["image"]
    for index in range(6):
        view[SampleKey(epoch=0, index=index)]
    assert torch.equal(view[SampleKey(epoch=2, index=4)]["image"], alone)
    assert not torch.equal(view[SampleKey(epoch=3, index=4)]["image"], alone)
    other = SampleView(Noise(6), A.Compose(train_transforms((16, 16))), seed=2)
    assert not torch.equal(other[SampleKey(epoch=2, index=4)]["image"], alone)


def test_seeds_do_not_collide() -> None:
    seeds = [sample_seed(s, e, i) for s in range(4) for e in range(10) for i in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    # Read as text without a separator, these three would be the same.
    assert len({sample_seed(1, 11, 1), sample_seed(11, 1, 1), sample_seed(1, 1, 11)}) == 3


def test_the_random_state_of_everybody_else_stays() -> None:
    def state() -> tuple[object, str, bytes]:
        legacy = np.random.get_state()  # noqa: NPY002
        return random.getstate(), repr(legacy), torch.get_rng_state().numpy().tobytes()

    before = state()
    epoch(Noises(), 1)
    epoch(Noises(num_workers=1), 1)
    list(Noises().val_dataloader())
    assert state() == before


def test_what_a_sample_is() -> None:
    view = SampleView(Noise(2))
    sample = view[1]
    image, labels, _ = Noise(2).read(1)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["image"].numpy(), image.transpose(2, 0, 1))
    np.testing.assert_array_equal(sample["mask"].numpy(), labels)
    assert (sample["name"], sample["source_size"]) == ("noise_1", (24, 32))
    assert [entry["name"] for entry in view] == ["noise_0", "noise_1"]  # type: ignore[attr-defined]


# ---- order -------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "processes"), [(10, 1), (10, 2), (11, 2), (10, 3), (7, 4)])
def test_processes_share_one_order_without_overlap(length: int, processes: int) -> None:
    data = SampleView(Noise(length))
    whole = EpochSampler(data, seed=3)
    ranks = [EpochSampler(data, 3, processes, rank) for rank in range(processes)]
    orders = []
    for number in range(3):
        for sampler in (whole, *ranks):
            sampler.set_epoch(number)
        order = [key.index for key in whole]
        assert sorted(order) == list(range(length))
        assert {key.epoch for key in whole} == {number}
        parts = [[key.index for key in sampler] for sampler in ranks]
        # Dealt out in turn; what does not fill every process is left out.
        dealt = [index for turn in zip(*parts, strict=True) for index in turn]
        assert dealt == order[: length - length % processes]
        assert [len(sampler) for sampler in ranks] == [len(part) for part in parts]
        orders.append(tuple(order))
    assert len(set(orders)) == 3


# ---- batches -----------------------------------------------------------------------------


def test_a_short_last_batch_is_left_out_of_training() -> None:
    batches = epoch(Noises(length=11, batch_size=4), 0)
    assert [len(batch["image"]) for batch in batches] == [4, 4]
    assert len(set(names(batches))) == 8
    assert [len(batch["name"]) for batch in Noises(11, eval_batch_size=4).test_dataloader()] == [
        4, 4, 3,
    ]  # fmt: skip


def test_a_split_smaller_than_a_batch_is_refused() -> None:
    Noises(length=4, batch_size=4).setup("fit")
    with pytest.raises(UserError, match=r"train split of Noises has 3 images.*batch_size"):
        Noises(length=3, batch_size=4).setup("fit")
    Noises(length=3, batch_size=4).setup("validate")
    with pytest.raises(UserError, match="val split of Noises has no images"):
        Noises(length=0).setup("validate")


def test_training_images_of_different_size_are_refused_with_the_mend() -> None:
    shapes = [(24, 32), (24, 40)]
    module = Noises(length=2, shapes=shapes, transforms=[A.HorizontalFlip()])
    with pytest.raises(UserError) as caught:
        list(module.train_dataloader())
    for part in ("noise_0", "(24, 32)", "noise_1", "(24, 40)", "batch_size=1", "crop"):
        assert part in str(caught.value)
    alone = Noises(length=2, shapes=shapes, transforms=[A.HorizontalFlip()], batch_size=1)
    assert {tuple(b["image"].shape[-2:]) for b in alone.train_dataloader()} == {*shapes}


def test_names_and_sizes_stay_lists() -> None:
    view = SampleView(Noise(2))
    batch = collate([view[0], view[1]])
    assert batch["image"].shape == (2, 3, 24, 32)
    assert batch["mask"].shape == (2, 24, 32)
    assert batch["name"] == ["noise_0", "noise_1"]
    assert batch["source_size"] == [(24, 32), (24, 32)]


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("key", ["batch_size", "eval_batch_size"])
def test_batch_sizes_below_one(key: str, size: int) -> None:
    with pytest.raises(ValueError, match="Batch sizes must be 1 or more"):
        Noises(**{key: size})


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="asks the processors of Linux")
@pytest.mark.parametrize(("processors", "workers"), [(1, 0), (2, 1), (3, 1), (16, 8), (64, 8)])
@pytest.mark.parametrize("accelerator", [True, False])
def test_the_number_of_workers_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, processors: int, workers: int, accelerator: bool
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    # Without an accelerator the network itself needs the processors.
    expected = workers if accelerator else 0
    assert default_workers() == expected
    assert Noises(num_workers=None).num_workers == expected
    assert Noises(num_workers=2).num_workers == 2


def test_the_seed_is_that_of_the_run_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "12")
    assert Noises(seed=None).seed == 12
    assert Noises(seed=5).seed == 5
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert Noises(seed=None).seed == 0


# ---- what fills no batch -----------------------------------------------------------------


class TwoProcesses:
    """What a datamodule asks its trainer."""

    world_size = 2
    global_rank = 0


def test_a_short_last_batch_is_left_out_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert len(epoch(Noises(length=11, batch_size=4), 0)) == 2
    assert "An epoch trains on 8 of 11 images: the 3 that fill no batch are left out" in caplog.text
    caplog.clear()
    epoch(Noises(length=12, batch_size=4), 0)
    assert "left out" not in caplog.text


def test_a_split_smaller_than_a_batch_of_all_processes_is_refused() -> None:
    several = Noises(length=7, batch_size=4)
    several.setup("fit")
    several.trainer = TwoProcesses()  # type: ignore[assignment]
    with pytest.raises(UserError, match="fewer than a batch of 8 over 2 processes"):
        several.setup("fit")


def test_the_training_size_is_that_after_augmentation() -> None:
    assert Noises(shapes=[(40, 60)] * 10).training_size() == (16, 16)
