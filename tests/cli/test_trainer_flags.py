"""Each of Lightning's trainer flags does what it says, or is refused before a run has a folder."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from pne_seg.cli.command import SegmentationCLI
from tests.cli.commands import command, refused

Capture = pytest.CaptureFixture[str]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fp16 is not supported on CPU"),
    pytest.mark.filterwarnings("ignore:.*could not find the monitored key"),
    pytest.mark.filterwarnings("ignore:.*PyTorch Profiler default schedule"),
]
BATCHES = 2  # of an epoch of the tiny config, in 1 epoch
BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"


def flags(text: str) -> list[str]:
    """`max_epochs 3 precision 32` as arguments; a value may not hold a space."""
    words = text.split()
    return [f"--trainer.{word}" if i % 2 == 0 else word for i, word in enumerate(words)]


def fit(config: Path, *args: object) -> SegmentationCLI:
    return command("fit", "--config", config, "--trainer.default_root_dir", config.parent, *args)


def validations(run: SegmentationCLI) -> int:
    assert run.run_folder is not None
    with (run.run_folder / "metrics.csv").open(newline="") as file:
        return sum(bool(row.get("val/mIoU")) for row in csv.DictReader(file))


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Any:
    """What a flag sets for the whole process."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.autograd.set_detect_anomaly(False)


@pytest.mark.parametrize(
    ("given", "steps", "scored"),
    [
        ("limit_train_batches 1", 1, 1),
        ("limit_train_batches 0.5", 1, 1),
        ("limit_val_batches 1 num_sanity_val_steps 1", 2, 1),
        ("limit_val_batches 0", 2, 0),
        ("max_epochs -1 max_steps 3", 3, 1),
        ("accumulate_grad_batches 2", 1, 1),
        ("precision bf16-true", 2, 1),
        ("precision 64-true", 2, 1),
        ("max_epochs 2 check_val_every_n_epoch 2", 4, 1),
        ("val_check_interval 0.5", 2, 2),
        ("max_epochs 2 val_check_interval 3 check_val_every_n_epoch null", 4, 1),
        ("max_epochs 3 reload_dataloaders_every_n_epochs 2", 6, 3),
        ("gradient_clip_val 0.1 gradient_clip_algorithm value", 2, 1),
        ("inference_mode false use_distributed_sampler false", 2, 1),
        ("detect_anomaly true deterministic warn", 2, 1),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("accumulate_grad_batches 3", 1, 1),
                ("val_check_interval 1", 2, 2),
                ("max_epochs 3 min_epochs 2", 6, 3),
            )
        ),
        *(
            pytest.param(text, 2, 1, marks=pytest.mark.slow)
            for text in (
                "precision 16-mixed",
                "limit_test_batches 0",
                "limit_train_batches 1.0",
                "num_sanity_val_steps -1",
                "precision 32",
                "precision bf16-mixed",
                "benchmark true",
                "deterministic true",
                "profiler simple",
                "profiler advanced",
                "profiler pytorch",
                "gradient_clip_val 0.1",
                "log_every_n_steps 0",
                "log_every_n_steps 100",
                "enable_progress_bar true enable_model_summary true",
                "max_time 00:00:10:00",
                "logger false",
                "devices auto accelerator auto strategy auto",
                "plugins lightning.pytorch.plugins.precision.DoublePrecision",
            )
        ),
    ],
)
def test_a_run_with(tiny: Path, given: str, steps: int, scored: int) -> None:
    run = fit(tiny, *flags(given))
    assert run.run_folder is not None
    assert run.trainer.global_step == steps
    files = {str(path.relative_to(run.run_folder)) for path in run.run_folder.rglob("*")}
    assert {LAST, "config.yaml", "metrics.csv"} <= files
    assert ({BEST, "metrics.json"} <= files) == bool(scored)
    assert validations(run) == scored or "log_every_n_steps" in given
    assert float(run.trainer.callback_metrics["train/loss"]) > 0
    if scored:
        found = json.loads((run.run_folder / "metrics.json").read_text())
        assert 0 <= found["val/mIoU"] <= 1
        saved = torch.load(run.run_folder / BEST, weights_only=True)
        assert all(each.isfinite().all() for each in saved["state_dict"].values())


def test_without_checkpoints_or_anything_written(tiny: Path) -> None:
    run = fit(tiny, *flags("enable_checkpointing false"))
    assert run.run_folder is not None
    assert not list(run.run_folder.rglob("*.ckpt"))
    assert run.metrics is not None
    again = fit(tiny, *flags("fast_dev_run 2"))
    assert again.run_folder is None
    assert again.trainer.global_step == 2


def test_a_time_limit_ends_an_endless_run(tiny: Path) -> None:
    given = flags("max_epochs -1 max_time 00:00:00:01")
    run = fit(tiny, *given, "--model.schedule", "null", "--figures.num_images", "0")
    assert run.run_folder is not None
    assert (run.run_folder / LAST).is_file()
    assert (run.run_folder / "metrics.json").is_file()


def test_no_validation_at_all_is_said(tiny: Path) -> None:
    with pytest.warns(UserWarning, match="there will be no validation, no metrics and no best"):
        run = fit(tiny, *flags("check_val_every_n_epoch 2"))
    assert run.metrics is None


# ---- a few batches, again and again ------------------------------------------------------


class Seen(Callback):
    """The images of each epoch, in training and in validation."""

    def __init__(self) -> None:
        self.trained: list[list[Any]] = []
        self.validated: list[list[Any]] = []

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.trained.append([])

    def on_validation_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self.validated.append([])

    def on_train_batch_start(self, trainer: Trainer, _: Any, batch: Any, *index: Any) -> None:
        self.trained[-1].append((*batch["name"], int(batch["image"].long().sum())))

    def on_validation_batch_start(self, trainer: Trainer, _: Any, batch: Any, *at: Any) -> None:
        self.validated[-1].append(tuple(batch["name"]))


def seen(run: SegmentationCLI) -> Seen:
    callbacks = run.trainer.callbacks  # type: ignore[attr-defined]
    return next(one for one in callbacks if isinstance(one, Seen))


@pytest.mark.parametrize(
    ("share", "batches", "workers"), [("1", 1, 0), ("1", 1, 1), ("1.0", 2, 0), ("9", 2, 0)]
)
def test_overfitting_sees_the_same_batches_in_each_epoch(
    tiny: Path, share: str, batches: int, workers: int
) -> None:
    listen = ["--trainer.callbacks", "tests.cli.test_trainer_flags.Seen"]
    few = ["--data.num_workers", workers, "--data.eval_batch_size", "2"]
    run = fit(tiny, *flags(f"max_epochs 3 overfit_batches {share}"), *listen, *few)
    found = seen(run)
    first = found.trained[0]
    assert [name for batch in first for name in batch[:-1]] == [
        f"train_{index:05d}" for index in range(4 * batches)
    ]
    assert found.trained == [first] * 3
    assert found.validated[-1] == [("val_00000", "val_00001"), ("val_00002",)][:batches]
    assert run.trainer.global_step == 3 * batches


def test_overfitting_lowers_the_loss(tiny: Path) -> None:
    more = ["--model.schedule", "null", "--model.contrast", "null"]
    run = fit(tiny, *flags("max_epochs 12 overfit_batches 1 limit_val_batches 0"), *more)
    assert run.run_folder is not None
    with (run.run_folder / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses[-1] < 0.9 * losses[0]


# ---- refused -----------------------------------------------------------------------------

MONITOR = "callbacks EarlyStopping callbacks.monitor"
SCHEDULES = "torch.optim.lr_scheduler.ReduceLROnPlateau", "lightning.pytorch.cli.ReduceLROnPlateau"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("limit_train_batches 0", "limit_train_batches 0: nothing would be trained"),
        ("limit_train_batches 0.1", "less than one of the train split's batches, 2"),
        ("limit_val_batches 0.1", "limit_val_batches 0.1: less than one of the val split's"),
        ("limit_train_batches 1.5", "1.5 for limit_train_batches"),
        ("limit_val_batches -1", "invalid value -1 for limit_val_batches"),
        ("overfit_batches 0.1", "overfit_batches 0.1: less than one of the train split's"),
        ("overfit_batches 0.5", "overfit_batches 0.5: less than one of the val split's"),
        ("max_epochs 0", "max_epochs 0: nothing would be trained"),
        ("max_steps 0", "max_steps 0: nothing would be trained"),
        ("max_epochs -2", "must be a non-negative integer or -1"),
        ("min_epochs 2", "min_epochs 2 is above --trainer.max_epochs 1"),
        ("max_steps 2 min_steps 3", "min_steps 3 is above --trainer.max_steps 2"),
        ("max_time soon", "is not a valid duration"),
        ("accumulate_grad_batches 0", "accumulate_grad_batches 0: expected 1 or more"),
        ("check_val_every_n_epoch 0", "check_val_every_n_epoch 0: expected 1 or more"),
        ("val_check_interval 0", "val_check_interval 0: expected a share of an epoch"),
        ("val_check_interval 3", "an epoch has only 2 batches"),
        ("gradient_clip_val -1", "gradient_clip_val -1: expected 0 or more"),
        ("gradient_clip_val 1 gradient_clip_algorithm foo", "foo is invalid"),
        ("log_every_n_steps -1", "log_every_n_steps -1: expected 0 or more"),
        ("num_nodes 2", "nothing says where the other machines are"),
        ("num_nodes 0", "`num_nodes` must be a positive integer"),
        ("reload_dataloaders_every_n_epochs -1", "should be an int >= 0"),
        ("barebones true", "barebones true switches off loggers"),
        ("profiler foo", "profiler"),
        ("precision transformer-engine", "transformer_engine"),
        ("accelerator tpu", "accelerator tpu: there is no such device on this machine"),
        ("accelerator gpuu", "invalid accelerator name"),
        ("strategy ddpp", "invalid strategy name: `strategy='ddpp'`"),
        ("devices 0", "not a valid input using cpu accelerator"),
        ("devices some", "should be an int > 0"),
        (f"{MONITOR} val_miou", "'val_miou', which is never logged. The nearest is 'val/mIoU'"),
        (f"{MONITOR} IoU_sky", "The nearest is 'val/IoU/sky'"),
        (f"limit_val_batches 0 {MONITOR} val/mIoU", "never logged without validation"),
        (f"{MONITOR} val/mIoU", "with mode 'min', which takes the worst for the best"),
        (f"{MONITOR} val/loss callbacks.mode max", "Set its mode to 'min'"),
        ("callbacks ModelCheckpoint callbacks.monitor val_loss", "The nearest is 'val/loss'"),
        ("callbacks BackboneFinetuning", "needs a module with a backbone"),
        ("callbacks BatchSizeFinder", "Give --data.batch_size"),
    ],
)
def test_refused_before_a_run_has_a_folder(
    tiny: Path, capsys: Capture, given: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MASTER_ADDR", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    place = ["--trainer.default_root_dir", tiny.parent]
    assert said in refused(capsys, "fit", "--config", tiny, *place, *flags(given))
    assert not (tiny.parent / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--best_checkpoint.monitor", "val/IoU/skye"], "The nearest is 'val/IoU/sky'"),
        (["--model.schedule", SCHEDULES[0]], f"Give {SCHEDULES[1]} with monitor"),
        (["--model.schedule", "ReduceLROnPlateau"], f"Give the full {SCHEDULES[1]}"),
        (
            ["--model.schedule", SCHEDULES[1], "--model.schedule.monitor", "mIoU"],
            "ReduceLROnPlateau monitors 'mIoU', which is never logged. The nearest is 'val/mIoU'",
        ),
    ],
)
def test_a_metric_that_is_never_logged(
    tiny: Path, capsys: Capture, given: list[str], said: str
) -> None:
    assert said in refused(capsys, "fit", "--config", tiny, *given)


def test_a_metric_that_is_logged(tiny: Path) -> None:
    watch = ["--model.schedule", SCHEDULES[1], "--model.schedule.monitor", "train/loss_contrast"]
    stop = [*flags(f"{MONITOR} val/IoU/sky max_epochs 2"), "--trainer.callbacks.mode", "max"]
    run = fit(tiny, *watch, *stop, "--best_checkpoint.monitor", "val/pixel_accuracy")
    assert run.trainer.global_step == 4


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_an_evaluation_on_a_device_that_is_not_there(run: Path, capsys: Capture, verb: str) -> None:
    said = refused(capsys, verb, "--run", run, *flags("accelerator tpu"))
    assert "accelerator tpu: there is no such device" in said
