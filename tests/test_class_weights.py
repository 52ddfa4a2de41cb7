"""Losses that take their class weights from the training labels, within a training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from pne_seg.callbacks import ExactResume
from pne_seg.errors import UserError
from pne_seg.losses import CrossEntropy, OHEMCrossEntropy
from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from tests.data.noise import Noise, Noises
from tests.tiny_networks import TinyNet
from tests.training import Pictures, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]


def module(**settings: Any) -> SegmentationModule:
    settings = {"loss": CrossEntropy(class_weights="auto"), **settings}
    return SegmentationModule(tiny(), 3, class_names=["a", "b", "c"], **settings)


def fit(trained: SegmentationModule, data: Noises, steps: int = 1, **resume: Any) -> Trainer:
    settings: dict[str, Any] = {"max_steps": steps, "limit_val_batches": 0}
    fitting = trainer(**settings, callbacks=[ExactResume()])
    fitting.fit(trained, datamodule=data, weights_only=True, **resume)
    return fitting


def by_hand(length: int, power: float) -> list[float]:
    """The weights of the first images of noise."""
    labels = np.concatenate([Noise(length).read(index).labels.ravel() for index in range(length)])
    shares = np.bincount(labels[labels != 255]) / (labels != 255).sum()
    weights: list[float] = (shares**-power / (shares ** (1 - power)).sum()).tolist()
    return weights


def weights(loss: Any) -> list[float]:
    assert isinstance(loss, CrossEntropy | OHEMCrossEntropy)
    assert loss.class_weights is not None
    values: list[float] = loss.class_weights.tolist()
    return values


def test_every_loss_gets_its_weights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    hard = OHEMCrossEntropy(class_weights="auto", class_weight_power=1.0)
    given, none = CrossEntropy(class_weights=[1, 2, 3]), CrossEntropy()
    head = FCNHead(channels=4)
    extra = {"hard": hard, "given": given, "none": none}
    trained = module(auxiliary=head, extra_losses=extra)
    fit(trained, Noises())
    assert weights(trained.losses.main) == pytest.approx(by_hand(10, 0.5))
    assert weights(head.loss) == weights(trained.losses.main)
    assert weights(hard) == pytest.approx(by_hand(10, 1.0))
    assert weights(given) == [1, 2, 3]
    assert none.class_weights is None
    assert caplog.text.count("Class weights (power 0.5): ") == 1
    assert caplog.text.count("Class weights (power 1.0): ") == 1


def test_a_head_of_its_own_loss_gets_weights() -> None:
    head = FCNHead(channels=4, loss=CrossEntropy(class_weights="auto"))
    trained = module(loss=CrossEntropy(), auxiliary=head)
    fit(trained, Noises())
    assert weights(head.loss) == pytest.approx(by_hand(10, 0.5))


def test_a_resume_keeps_the_weights_though_the_data_changed(tmp_path: Path) -> None:
    first = module()
    run = fit(first, Noises(), steps=2)
    kept = tmp_path / "run.ckpt"
    run.save_checkpoint(kept)
    assert not any("weight" in key for key in first.losses.state_dict())
    resumed = module()
    fit(resumed, Noises(14), steps=3, ckpt_path=kept)
    assert weights(resumed.losses.main) == weights(first.losses.main)
    # Settings win over the checkpoint: another power is one of the same counts.
    sharper = module(loss=CrossEntropy(class_weights="auto", class_weight_power=1.0))
    fit(sharper, Noises(14), steps=3, ckpt_path=kept)
    assert weights(sharper.losses.main) == pytest.approx(by_hand(10, 1.0))
    # Another training counts its own data.
    for other in (module(), module(init_from=str(kept))):
        fit(other, Noises(14))
        assert weights(other.losses.main) == pytest.approx(by_hand(14, 0.5))


def test_a_checkpoint_without_counts_is_resumed_and_scored(tmp_path: Path) -> None:
    run = fit(module(loss=CrossEntropy()), Noises(), steps=2)
    kept = tmp_path / "run.ckpt"
    run.save_checkpoint(kept)
    assert "Noises" not in torch.load(kept, weights_only=True)
    resumed = module()
    fit(resumed, Noises(14), steps=3, ckpt_path=kept)
    assert weights(resumed.losses.main) == pytest.approx(by_hand(14, 0.5))


def test_an_evaluation_leaves_the_counts_of_its_checkpoint_alone(tmp_path: Path) -> None:
    run = fit(module(), Noises(), steps=2)
    run.save_checkpoint(tmp_path / "run.ckpt")
    data, trained = Noises(14), module()
    trainer().test(trained, datamodule=data, ckpt_path=tmp_path / "run.ckpt", verbose=False)
    fit(trained, data)
    assert weights(trained.losses.main) == pytest.approx(by_hand(14, 0.5))


def test_without_a_data_module_the_weights_must_be_given() -> None:
    with pytest.raises(UserError, match="needs a SegmentationDataModule to count the classes"):
        trainer(max_steps=1).fit(module(), Pictures().loader())


def test_many_weights_are_logged_in_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    data: Any = Noises()
    data.class_names, data.palette = [*map(str, range(60))], [(0, 0, 0)] * 60
    fit(SegmentationModule(TinyNet(60), 60, loss=CrossEntropy(class_weights="auto")), data)
    (line,) = [one for one in caplog.messages if one.startswith("Class weights")]
    assert "…" in line
    assert line.count(",") == 20
