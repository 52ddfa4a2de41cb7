"""Resuming a run: exact when nothing changed, and what was changed wins."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer

from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule
from pne_seg.optim import WarmupPoly
from pne_seg.resume import check_same_parameters
from tests.tiny_networks import same_tensors
from tests.training import CLASSES, Pictures, Rates, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec."),
]


def training(
    rate: float, total_steps: int = 12, scheduled: bool = True, **settings: Any
) -> SegmentationModule:
    def optimizer(parameters: Any) -> Optimizer:
        return AdamW(parameters, lr=rate, **settings)

    def schedule(optimizer: Optimizer) -> WarmupPoly:
        return WarmupPoly(optimizer, total_steps=total_steps, warmup_steps=3)

    return SegmentationModule(
        tiny(),
        CLASSES,
        contrast=pne(warmup_steps=6),
        optimizer=optimizer,
        schedule=schedule if scheduled else None,
    )


def saved_after_one_epoch(path: Path) -> Path:
    once = trainer(max_epochs=1)
    once.fit(training(0.01), Pictures().loader())
    once.save_checkpoint(path / "last.ckpt")
    return path / "last.ckpt"


def test_unchanged_resume_is_exact(tmp_path: Path) -> None:
    straight = training(0.01)
    expected = Rates()
    trainer(max_epochs=3, callbacks=[expected]).fit(straight, Pictures().loader())

    resumed = training(0.01)
    actual = Rates()
    checkpoint = saved_after_one_epoch(tmp_path)
    trainer(max_epochs=3, callbacks=[actual]).fit(
        resumed, Pictures().loader(), ckpt_path=checkpoint, weights_only=True
    )
    assert len(expected.groups) == 12
    assert actual.groups == expected.groups[4:]
    assert same_tensors(resumed.state_dict(), straight.state_dict())
    assert not same_tensors(resumed.state_dict(), training(0.01).state_dict())


def test_on_resume_changed_settings_win(tmp_path: Path) -> None:
    resumed = training(0.002, weight_decay=0.3)
    rates = Rates()
    checkpoint = saved_after_one_epoch(tmp_path)
    trainer(max_epochs=3, callbacks=[rates]).fit(resumed, Pictures().loader(), ckpt_path=checkpoint)
    expected = [0.002 * (1 - step / 12) ** 0.9 for step in range(4, 12)]
    assert rates["lr"] == pytest.approx(expected)
    assert set(rates["weight_decay"]) == {0.3}

    # A fresh run of the same module knows nothing of the checkpoint.
    fresh = Rates()
    trainer(max_steps=1, callbacks=[fresh]).fit(resumed, Pictures().loader())
    assert fresh["lr"] == pytest.approx([0.002 * 1e-6])


def test_a_second_resume_keeps_the_changed_rate(tmp_path: Path) -> None:
    checkpoint = saved_after_one_epoch(tmp_path)
    second = trainer(max_epochs=2)
    second.fit(training(0.002), Pictures().loader(), ckpt_path=checkpoint)
    second.save_checkpoint(checkpoint)
    rates = Rates()
    trainer(max_epochs=3, callbacks=[rates]).fit(
        training(0.002), Pictures().loader(), ckpt_path=checkpoint
    )
    assert rates["lr"] == pytest.approx([0.002 * (1 - t / 12) ** 0.9 for t in range(8, 12)])


def test_without_the_schedule_the_rate_is_the_configured_one(tmp_path: Path) -> None:
    checkpoint = saved_after_one_epoch(tmp_path)
    rates = Rates()
    trainer(max_epochs=2, callbacks=[rates]).fit(
        training(0.003, scheduled=False), Pictures().loader(), ckpt_path=checkpoint
    )
    assert rates["lr"] == pytest.approx([0.003] * 4)


def test_a_longer_schedule_holds_from_the_first_resumed_step(tmp_path: Path) -> None:
    checkpoint = saved_after_one_epoch(tmp_path)
    rates = Rates()
    trainer(max_epochs=2, callbacks=[rates]).fit(
        training(0.01, total_steps=20), Pictures().loader(), ckpt_path=checkpoint
    )
    assert rates["lr"] == pytest.approx([0.01 * (1 - t / 20) ** 0.9 for t in range(4, 8)])


def test_a_checkpoint_loads_without_a_trainer(tmp_path: Path) -> None:
    checkpoint = saved_after_one_epoch(tmp_path)
    loaded = SegmentationModule.load_from_checkpoint(
        checkpoint, network=tiny(), num_classes=CLASSES, contrast=pne(), weights_only=True
    )
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert same_tensors(dict(loaded.state_dict()), saved)


def test_the_same_tensors_in_other_groups_are_refused_with_the_reason() -> None:
    check_same_parameters([30, 12], [30, 12])
    with pytest.raises(UserError, match=r"groups of 30 and 12 tensors, this run's of 25 and 17"):
        check_same_parameters([30, 12], [25, 17])
    with pytest.raises(UserError, match=r"trained 42 tensors, this run's has 38: its contrast"):
        check_same_parameters([30, 12], [28, 10])
