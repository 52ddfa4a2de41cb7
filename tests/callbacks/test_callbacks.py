"""What every run carries beside its steps: whole files, right numbers, no pictures unasked."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from torch import Tensor

from pne_seg.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    FiniteTraining,
    LastCheckpoint,
    Summary,
    guards,
)
from pne_seg.callbacks import summary as summary_file
from pne_seg.data import SegmentationDataModule
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule
from pne_seg.prediction.outputs import KINDS, Pictures
from pne_seg.prediction.prediction_run import PredictionRun
from tests.callbacks.halves import IGNORE, NAMES, HalvesData, Threshold, module, trainer

# ---- checkpoints -------------------------------------------------------------------------


class Unwritable:
    """Fails in the middle of being saved."""

    def __reduce__(self) -> Any:
        raise OSError("disk full")


@pytest.mark.parametrize("there_before", [True, False])
def test_a_failing_save_leaves_the_old_checkpoint(tmp_path: Path, there_before: bool) -> None:
    plugin, path = AtomicCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    if there_before:
        plugin.save_checkpoint({"step": 1}, path)
    with pytest.raises(OSError, match="disk full"):
        plugin.save_checkpoint({"step": 2, "bad": Unwritable()}, path)
    files = [path] if there_before else []
    assert list(path.parent.iterdir()) == files
    for file in files:
        assert torch.load(file, weights_only=True) == {"step": 1}


def test_a_save_that_stops_half_way_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    plugin.save_checkpoint({"step": 1}, path)
    seen = []

    def stop(checkpoint: object, file: Any) -> None:
        file.write(b"half a file")
        file.flush()
        # Beside the target: a move from another file system would not be atomic.
        assert Path(file.name).parent == tmp_path
        assert Path(file.name) != path
        seen.append(torch.load(path, weights_only=True))
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        plugin.save_checkpoint({"step": 2}, path)
    assert seen == [{"step": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_replaces_the_old_checkpoint(tmp_path: Path) -> None:
    plugin, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    for step in (1, 2):
        plugin.save_checkpoint({"step": step, "weights": torch.arange(step)}, path)
    loaded = torch.load(path, weights_only=True)
    assert loaded["step"] == 2
    assert torch.equal(loaded["weights"], torch.arange(2))
    previous = tmp_path / "last.previous.ckpt"
    assert sorted(tmp_path.iterdir()) == [path, previous]  # kept until the next one is whole
    assert torch.load(previous, weights_only=True)["step"] == 1
    with pytest.raises(TypeError, match="storage options"):
        plugin.save_checkpoint({}, path, storage_options={})


class Moving(Callback):
    """Moves the network's edge before each validation, so that epochs score as told."""

    def __init__(self, *edges: int) -> None:
        self.edges = edges

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        pl_module.network.edge = self.edges[trainer.current_epoch]


def test_best_is_the_epoch_with_the_best_score_and_last_the_last(tmp_path: Path) -> None:
    best, last, summary = BestCheckpoint(), LastCheckpoint(), Summary()
    summary.folder = tmp_path
    folder = tmp_path / "checkpoints"
    best.dirpath = str(folder)
    callbacks = (Moving(0, 4, 2), best, last, summary)
    runner = trainer(tmp_path, *callbacks, max_epochs=3, enable_checkpointing=True)
    runner.fit(module(), datamodule=HalvesData())
    epochs = {path.stem: torch.load(path, weights_only=True)["epoch"] for path in folder.iterdir()}
    assert epochs == {"best": 1, "last": 2}
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["epoch"], metrics["val/mIoU"]) == (1, 1.0)


# ---- summary -----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["val", "test"])
def test_the_scores_are_those_of_the_confusion_matrix_counted_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    summary = Summary()
    summary.folder = tmp_path
    runner = trainer(tmp_path, summary)
    (runner.validate if stage == "val" else runner.test)(
        module(edge=6), datamodule=HalvesData(), verbose=False
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # Of 7 labeled rows of 8 columns: columns 0–3 are right, 4 and 5 wrongly 0, 6 and 7 right.
    assert {key: value for key, value in metrics.items() if "/IoU/" in key} == {
        f"{stage}/IoU/left": pytest.approx(4 / 6),
        f"{stage}/IoU/right": pytest.approx(2 / 4),
        f"{stage}/IoU/never": None,
    }
    assert metrics[f"{stage}/mIoU"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert metrics[f"{stage}/mAcc"] == pytest.approx((4 / 4 + 2 / 4) / 2)
    assert metrics[f"{stage}/pixel_accuracy"] == pytest.approx(6 / 8)
    assert metrics[f"{stage}/majority_class_mIoU"] == pytest.approx((4 / 8 + 0) / 2)
    if stage == "test":
        # Within a pixel of the border: columns 3 (right) and 4 (wrongly 0).
        assert metrics["test/boundary_mIoU/1px"] == pytest.approx((1 / 2 + 0) / 2)
        assert metrics["test/boundary_mIoU/3px"] == pytest.approx((3 / 5 + 1 / 3) / 2)
        assert metrics["test/boundary_mIoU/9px"] == metrics["test/mIoU"]
    said = capsys.readouterr().out
    for shown in ("66.67", "50.00", "n/a", "58.33", "75.00", "25.00", *NAMES):
        assert shown in said
    assert metrics["protocol"] == {
        "data": "HalvesData",
        "split": stage,
        "same_images_as_val": stage == "test",  # by their names
        "images": 3,
        "complete": True,
        "image_sizes": [[8, 8]],
        "fitted_to": None,
        "inference": {
            "window": None,
            "stride": None,
            "overlap": None,
            "blend": "even",
            "windows_per_pass": 4,
            "scales": [1.0],
            "flip": False,
        },
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "padded_to_multiples_of": 1,
        "scored_at": [[8, 8]],
        "files_at": None,
        "ignore_index": IGNORE,
        "absent_classes": ["never"],
        "precision": "32-true",
    }
    for shown in (
        "split of HalvesData",
        "whole images",
        "the label 9 is not counted",
        "absent: never",
    ):
        assert shown in said


def test_the_protocol_of_a_training_is_that_of_its_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = []

    def numbered(trainer: Trainer, *_: Any) -> dict[str, Any]:
        epochs.append(trainer.current_epoch)
        return {"epoch": trainer.current_epoch}

    monkeypatch.setattr(summary_file, "protocol", numbered)
    summary = Summary()
    summary.folder = tmp_path
    runner = trainer(tmp_path, Moving(6, 4, 7), summary, max_epochs=3)
    runner.fit(module(), datamodule=HalvesData())
    assert epochs == [0, 1, 2]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["epoch"], metrics["protocol"]) == (1, {"epoch": 1})


def test_labels_that_were_scaled_and_a_part_of_a_split_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Summary()
    summary.folder = tmp_path
    runner = trainer(tmp_path, summary, limit_test_batches=1)
    runner.test(module(), datamodule=HalvesData(source_size=(16, 24)), verbose=False)
    found = json.loads((tmp_path / "metrics.json").read_text())["protocol"]
    assert (found["images"], found["complete"]) == (2, False)
    assert (found["scored_at"], found["files_at"]) == ([[8, 8]], [[16, 24]])
    said = " ".join(capsys.readouterr().out.split())
    assert "at 8×8 pixels, to which the labels were scaled from 24×16 pixels" in said
    assert "only a part of the split" in said
    assert "test split is its validation split" in said


def test_without_a_folder_the_table_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, Summary()).validate(module(), datamodule=HalvesData(), verbose=False)
    assert "100.00" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# ---- finite losses and gradients ---------------------------------------------------------


class _NaNBackward(torch.autograd.Function):
    """Passes a loss on, and a NaN back."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * float("nan")


class Poisoned(SegmentationModule):
    """A loss that is `value` at one step, and finite again after it; None: only its gradient is."""

    def __init__(self, step: int, value: float | None) -> None:
        super().__init__(
            Threshold(4), 3, IGNORE, NAMES, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
        )
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.step = step
        self.value = value

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = super().training_step(batch, batch_idx) + self.scale
        if self.global_step != self.step:
            return loss
        return _NaNBackward.apply(loss) if self.value is None else loss * self.value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
@pytest.mark.parametrize("step", [0, 2])
def test_a_step_that_is_no_number_is_not_taken(
    tmp_path: Path, value: float | None, step: int
) -> None:
    poisoned = Poisoned(step, value)
    runner = trainer(tmp_path, FiniteTraining(), max_epochs=3, log_every_n_steps=50)
    with pytest.raises(UserError, match=rf"^Step {step}: the .*half_[\s\S]*optimizer\.lr") as said:
        runner.fit(poisoned, datamodule=HalvesData())
    what = "gradient is not finite (first in scale;" if value is None else "training loss is"
    assert what in str(said.value)
    assert float(poisoned.scale.detach()) == pytest.approx(1 - 0.1 * step)
    assert runner.global_step == step


@pytest.mark.parametrize("value", [float("nan"), None])
@pytest.mark.parametrize(
    ("step", "every", "taken"),
    [
        (0, 1, 0),  # at a logging step: at once
        (2, 1, 2),
        (0, 50, 2),  # else at the end of the epoch of two steps
        (2, 50, 4),
        (1, 0, 2),  # logging switched off
    ],
)
def test_where_reading_has_a_price_it_is_read_at_logging_steps(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float | None,
    step: int,
    every: int,
    taken: int,
) -> None:
    monkeypatch.setattr(guards, "_is_read_free", lambda _: False)
    runner = trainer(tmp_path, FiniteTraining(), max_epochs=3, log_every_n_steps=every)
    with pytest.raises(UserError, match=rf"^Step {step}: the "):
        runner.fit(Poisoned(step, value), datamodule=HalvesData())
    assert runner.global_step == taken


def test_no_score_and_no_checkpoint_come_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "_is_read_free", lambda _: False)
    best, last, summary = BestCheckpoint(), LastCheckpoint(every_n_train_steps=1), Summary()
    summary.folder = tmp_path
    best.dirpath = str(tmp_path / "checkpoints")
    runner = trainer(
        tmp_path, FiniteTraining(), summary, best, last, enable_checkpointing=True,
        log_every_n_steps=50, val_check_interval=0.5, num_sanity_val_steps=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="Step 0: the training loss is nan"):
        runner.fit(Poisoned(0, float("nan")), datamodule=HalvesData())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class PoisonedWide(Poisoned):
    """A gradient of 100,000 values of which one, in the first step, is NaN; all else is finite."""

    def __init__(self) -> None:
        super().__init__(-1, None)
        self.wide = torch.nn.Parameter(torch.ones(100_000))
        self.wide.register_hook(self.poison)

    def poison(self, gradient: Tensor) -> Tensor:
        return gradient.index_fill(0, torch.tensor([70_000]), float("nan"))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        # The loss itself does not read the weights.
        return loss + (self.wide - self.wide.detach()).nan_to_num().mean()


def test_a_wide_gradient_is_found_before_the_step(tmp_path: Path) -> None:
    runner = trainer(tmp_path, FiniteTraining(), log_every_n_steps=50)
    what = r"^Step 0: the gradient is not finite \(first in wide;"
    with pytest.raises(UserError, match=what):
        runner.fit(PoisonedWide(), datamodule=HalvesData())
    assert runner.global_step == 0


class SpoilWeights(Callback):
    """Makes a weight NaN after the first step, as a fault of the memory may."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.scale.data.fill_(float("nan"))


@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path, interval: float) -> None:
    best, last = BestCheckpoint(), LastCheckpoint()
    best.dirpath = str(tmp_path / "checkpoints")
    runner = trainer(
        tmp_path, FiniteTraining(), SpoilWeights(), best, last, enable_checkpointing=True,
        val_check_interval=interval, limit_train_batches=1 if interval == 1 else 2,
        num_sanity_val_steps=0,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^Step 0: after it, weights of scale are not finite"):
        runner.fit(Poisoned(-1, 0.0), datamodule=HalvesData())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_finite_steps_pass(tmp_path: Path) -> None:
    runner = trainer(tmp_path, FiniteTraining(), max_epochs=2, accumulate_grad_batches=2)
    runner.fit(Poisoned(-1, 0.0), datamodule=HalvesData())
    assert runner.global_step == 2


# ---- predictions -------------------------------------------------------------------------


def test_predictions_at_the_source_size(tmp_path: Path) -> None:
    data = HalvesData((16, 24))
    run = PredictionRun(data, Pictures(tmp_path, ["classes"], data.palette, IGNORE), "0" * 32)
    trainer(tmp_path, run).predict(
        module(edge=3), datamodule=run.remaining(), return_predictions=False
    )
    assert run.written == 3
    files = sorted((tmp_path / "classes").iterdir())
    assert [path.name for path in files] == ["half_0.png", "half_1.png", "half_2.png"]
    expected = np.zeros((16, 24), np.uint8)
    expected[:, 9:] = 1  # three of eight columns, three times as wide
    for path in files:
        answer = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert answer is not None
        assert answer.dtype == np.uint8
        np.testing.assert_array_equal(answer, expected)


def test_more_classes_than_a_byte_holds(tmp_path: Path) -> None:
    data: SegmentationDataModule = HalvesData()
    data.class_names = [str(number) for number in range(300)]
    data.palette = [(number % 256, number // 256, 7) for number in range(300)]
    run = PredictionRun(data, Pictures(tmp_path, KINDS, data.palette, 999), "0" * 32)
    outputs = torch.tensor([[[0, 255], [256, 270]]])
    white = np.full((2, 2, 3), 255, np.uint8)
    batch = {"index": [0], "picture": [white], "unreadable": []}
    run.on_predict_batch_end(trainer(tmp_path), module(), outputs, batch, 0)
    run.teardown(trainer(tmp_path), module(), "predict")
    answer = cv2.imread(str(tmp_path / "classes/half_0.png"), cv2.IMREAD_UNCHANGED)
    assert answer is not None
    np.testing.assert_array_equal(answer, [[0, 255], [256, 270]])
    with Image.open(tmp_path / "color/half_0.png") as colors:
        assert colors.mode == "RGB"
        expected = [[(0, 0, 7), (255, 0, 7)], [(0, 1, 7), (14, 1, 7)]]
        np.testing.assert_array_equal(np.asarray(colors), expected)
    assert (tmp_path / "overlay/half_0.jpg").exists()
