"""A training resumed from any of its checkpoints is, to the bit, the one that was never stopped."""

import csv
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from pne_seg.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    ExactResume,
    FiniteTraining,
    LastCheckpoint,
)
from pne_seg.callbacks.exact_resume import POSITION
from pne_seg.contrast.component import PNE
from pne_seg.data.scenes import Scenes
from pne_seg.errors import UserError
from pne_seg.losses import CrossEntropy
from pne_seg.module import SegmentationModule
from pne_seg.optim import WarmupPoly
from tests.tiny_networks import TinyNet, same_tensors

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*ModelCheckpoint"),
    pytest.mark.filterwarnings("ignore:.*best checkpoint so far"),
]


class Noted(Callback):
    """What each step was taken on, and when validations and epochs came."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []
        self.events: list[tuple[str, int, int]] = []

    def on_train_batch_start(self, trainer: Trainer, _: Any, batch: Any, index: int) -> None:
        digest = int(batch["image"].sum())  # the augmented images
        at = (trainer.current_epoch, index, trainer.global_step)
        self.steps.append((*at, digest, *batch["name"]))

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.events.append(("validation", trainer.current_epoch, trainer.global_step))

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self.events.append(("epoch", trainer.current_epoch, trainer.global_step))


class EverySave(AtomicCheckpointIO):
    """Keeps a copy of each checkpoint, in a folder of its own beside the best one so far."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.kept: list[Path] = []

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        super().save_checkpoint(checkpoint, path)
        if self.folder is not None:
            place = self.folder / f"{len(self.kept):03d}"
            shutil.copytree(Path(path).parent, place)
            self.kept.append(place / Path(path).name)


class SaveBeforeValidation(Callback):
    """Saves as a validation begins, as where several processes train."""

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.last.save(trainer)


@dataclass
class Training:
    weights: dict[str, Tensor]
    noted: Noted
    logged: list[dict[str, str]]
    best: float | None
    kept: list[Path] = field(default_factory=list)


def train(
    folder: Path, checkpoint: Path | None = None, keep: bool = False, **settings: Any
) -> Training:
    """Train with everything that is random or has a state: dropout, sampling, average, schedule."""
    averaged, workers = settings.pop("averaged", True), settings.pop("workers", 0)
    batch_size, balanced = settings.pop("batch_size", 2), settings.pop("balanced", False)
    seed_everything(0, verbose=False)
    data = Scenes(
        train_size=10,
        val_size=3,
        height=32,
        width=48,
        batch_size=batch_size,
        num_workers=workers,
        rare_class_sampling=0.01 if balanced else None,
    )
    network = TinyNet(data.num_classes, dropout=0.3)
    assert isinstance(network.segmentation_head[0], nn.Dropout)
    module = SegmentationModule(
        network,
        data.num_classes,
        loss=CrossEntropy(class_weights="auto") if balanced else None,
        contrast=PNE(embedding_dim=6, sampling="random", warmup_steps=4),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
        schedule=lambda optimizer: WarmupPoly(optimizer, warmup_steps=3),
    )
    noted, best, saves = Noted(), BestCheckpoint(), EverySave(folder / "kept" if keep else None)
    last = LastCheckpoint(every_n_train_steps=1 if keep else None)
    callbacks: list[Callback] = [FiniteTraining(), noted, ExactResume(), best, last]
    if averaged:
        callbacks.insert(0, EMAWeightAveraging(decay=0.9))
    if keep:
        callbacks.append(SaveBeforeValidation(last))
    trainer = Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        plugins=[saves],
        logger=CSVLogger(folder, name="run", version="0"),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    with (folder / "run" / "0" / "metrics.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    score = None if best.best_model_score is None else float(best.best_model_score)
    return Training(weights, noted, rows, score, saves.kept)


def position(checkpoint: Path) -> dict[str, Any]:
    return dict(torch.load(checkpoint, weights_only=True)[POSITION])


def check_resume(folder: Path, straight: Training, checkpoint: Path, **settings: Any) -> None:
    resumed = train(folder / "resumed" / checkpoint.parent.name, checkpoint, **settings)
    said = str(position(checkpoint))
    done = position(checkpoint)["batches"]
    assert resumed.noted.steps == straight.noted.steps[done:], said
    count = len(straight.noted.events) - len(resumed.noted.events)
    assert resumed.noted.events == straight.noted.events[count:], said
    assert resumed.logged == straight.logged[len(straight.logged) - len(resumed.logged) :], said
    assert same_tensors(resumed.weights, straight.weights), said
    assert resumed.best == straight.best, said


MIXED: dict[str, Any] = {"max_steps": 13, "val_check_interval": 4, "check_val_every_n_epoch": None}


def test_at_any_point_of_a_run_of_steps(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", **MIXED)
    straight = train(tmp_path, keep=True, **MIXED)
    assert same_tensors(plain.weights, straight.weights)  # saving changes nothing
    assert plain.logged == straight.logged
    points = {(p["epoch"], p["batch"], p["validation_due"]): k for k in straight.kept
              if (p := position(k))}  # fmt: skip
    assert straight.best is not None
    # First and last batch, ahead of a validation and after it, between two epochs.
    for point in [(0, 1, False), (0, 4, True), (0, 4, False), (1, 0, False), (2, 2, False)]:
        check_resume(tmp_path, straight, points[point], **MIXED)
    with pytest.raises(UserError, match="step 13 after 2 epochs, where max_steps 13 ends"):
        train(tmp_path / "over", points[2, 3, False], **MIXED)


def test_with_another_number_of_workers(tmp_path: Path) -> None:
    straight = train(tmp_path, keep=True, max_epochs=2)
    for workers, index in ((1, 2), (4, 5), (2, 7)):
        check_resume(tmp_path, straight, straight.kept[index], max_epochs=2, workers=workers)


def test_with_weights_and_draws_by_rare_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(tmp_path, keep=True, balanced=True, max_epochs=2)
    plain = train(tmp_path / "plain", max_epochs=2)
    assert [step[4:] for step in straight.noted.steps] != [step[4:] for step in plain.noted.steps]
    # The counts are in the checkpoint.
    monkeypatch.delattr("pne_seg.data.class_counts.count_classes")
    for workers, index in ((0, 2), (2, 7)):
        kept = straight.kept[index]
        check_resume(tmp_path, straight, kept, balanced=True, max_epochs=2, workers=workers)


def test_a_run_goes_on_beyond_its_first_limit(tmp_path: Path) -> None:
    # 3 of an epoch's 5 batches, then the rest: as if there had been no such limit. The schedule's
    # length would be another: none is asked for.
    short = train(tmp_path / "short", keep=True, max_steps=8, averaged=False)
    whole = train(tmp_path / "whole", max_steps=10, averaged=False)
    longer = train(tmp_path / "longer", short.kept[-1], max_steps=10, averaged=False)
    assert [step[:2] for step in longer.noted.steps] == [(1, 3), (1, 4)]
    assert [step[3:] for step in longer.noted.steps] == [step[3:] for step in whole.noted.steps[8:]]


def test_another_batch_size_goes_on_with_the_samples_left(tmp_path: Path) -> None:
    straight = train(tmp_path, keep=True, max_epochs=1)
    kept = straight.kept[2]  # three batches of two are done
    other = train(tmp_path / "other", kept, max_epochs=1, batch_size=3)
    names = [name for step in straight.noted.steps for name in step[4:]]
    assert [name for step in other.noted.steps for name in step[4:]] == names[6:9]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 3},
        {"max_steps": 13, "max_epochs": 20},
        {"max_epochs": 3, "val_check_interval": 2},
        {"max_steps": 12, "val_check_interval": 4, "check_val_every_n_epoch": None},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
        {"max_epochs": 4, "check_val_every_n_epoch": 2},
        {"max_epochs": 3, "averaged": False},
        {"max_epochs": 3, "limit_train_batches": 3},
        {"max_epochs": 3, "limit_val_batches": 0},
        {"max_epochs": 3, "overfit_batches": 2},
        {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1},
        {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 2, "workers": 1},
        {"max_epochs": 2, "inference_mode": False, "detect_anomaly": True},
        {"max_epochs": 2, "precision": "bf16-true", "averaged": False},
        {"max_epochs": 2, "workers": 2},
    ],
    ids=str,
)
def test_from_each_of_its_checkpoints(tmp_path: Path, settings: dict[str, Any]) -> None:
    straight = train(tmp_path, keep=True, **settings)
    plain = train(tmp_path / "plain", **settings)
    assert same_tensors(plain.weights, straight.weights)
    over = 0
    for checkpoint in straight.kept:
        try:
            check_resume(tmp_path, straight, checkpoint, **settings)
        except UserError:
            over += 1
    assert 1 <= over <= 3  # those of the end
