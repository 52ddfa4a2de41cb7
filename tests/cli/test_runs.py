"""A run is one folder, whole and never overwritten; later commands find its checkpoint."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from pne_seg import CamVid, Scenes
from pne_seg.cli.command import SegmentationCLI
from pne_seg.contrast import ContrastResult, PNELoss
from pne_seg.runs import describe_environment, read_history
from tests.cli.commands import command, contents, refused, write_config
from tests.cli.predicting import predicted
from tests.data.camvid_tree import write_tree

CHECKPOINTS = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
TEXTS = {"config.yaml", "environment.txt", "metrics.csv", "metrics.json", "report.html"}
FIGURES = {
    f"figures/{name}.png"
    for name in ("class_iou", "confusion_matrix", "curves", "predictions", "train_batch")
}
NO_FIGURES = ["--figures.num_images", "0"]
AUTHOR = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]


class ThreeScenes(Scenes):
    """A data set of another number of classes."""

    class_names = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))


class Photos(CamVid):
    """CamVid's files for a network of the scenes."""

    class_names = Scenes.class_names
    palette = Scenes.palette


class NoNumber(PNELoss):
    """A loss that stops being a number."""

    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        result = super().compute(embeddings, logits, target)
        return result._replace(loss=result.loss * float("nan"))


@pytest.fixture
def own(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, `tmp_path/runs/tiny/0`, to write into."""
    return Path(shutil.copytree(fitted, tmp_path / "runs" / "tiny" / "0"))


def state(path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights, from a file that must be whole."""
    checkpoint = torch.load(path, weights_only=True)
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    return weights


def scores(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: value for key, value in metrics.items() if "/" in key}


def run_folder(run: SegmentationCLI) -> Path:
    assert run.run_folder is not None
    return run.run_folder


# ---- what a run leaves -------------------------------------------------------------------


def test_the_folder_holds_what_the_contract_says(fitted: Path) -> None:
    files = contents(fitted)
    assert files.keys() == CHECKPOINTS | TEXTS | FIGURES
    for name in FIGURES:
        picture = cv2.imdecode(np.frombuffer(files[name], np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.std() > 0
    assert f"torch=={torch.__version__.partition('+')[0]}" in files["environment.txt"].decode()
    assert fitted.parts[-3:] == ("runs", "tiny", "0")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs Git")
def test_the_environment_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "\ncommit: none\n" in describe_environment()
    Path("a.txt").write_text("a")
    for args in (["init", "-q"], ["add", "."], [*AUTHOR, "commit", "-qm", "a"], ["tag", "v1"]):
        subprocess.run(["git", *args], check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    assert f"\ncommit: {head}\n" in describe_environment()
    Path("a.txt").write_text("b")
    assert f"\ncommit: {head}-dirty\n" in describe_environment()


def test_the_saved_config_is_complete(fitted: Path) -> None:
    config = yaml.safe_load((fitted / "config.yaml").read_text())
    assert config["name"] == "tiny"
    assert config["seed_everything"] == 0
    contrast = config["model"]["contrast"]["init_args"]
    assert (contrast["weight"], contrast["temperature"]) == (1.1, 0.7)
    assert contrast["num_samples"] == 100  # a default
    assert config["model"]["optimizer"]["init_args"]["eps"] == 1e-8  # of a class that is not ours


def test_the_files_metrics_agree(fitted: Path) -> None:
    with (fitted / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["train/loss"]]
    assert [int(row["step"]) for row in steps] == [0, 1]
    for row in steps:
        total = float(row["train/loss_ce"]) + 1.1 * float(row["train/loss_contrast"])
        assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)
        assert float(row["train/contrast_pairs"]) > 0
        assert float(row["train/contrast_anchors"]) > 0
    (epoch,) = [row for row in rows if row["val/mIoU"]]
    final = scores(fitted)
    ((steps_taken, _),) = read_history(fitted)["val/mIoU"]  # as curves have it
    content = json.loads((fitted / "metrics.json").read_text())
    assert steps_taken == content["step"] == int(epoch["step"]) + 1 == 2
    logged = {key: float(value) for key, value in epoch.items() if key.startswith("val/") and value}
    assert logged.keys() - {"val/loss"} == {
        key for key, value in final.items() if value is not None
    } - {"val/majority_class_mIoU"}
    for key in logged.keys() - {"val/loss"}:
        assert logged[key] == pytest.approx(final[key], rel=1e-5)
    assert 0 <= final["val/mIoU"] <= 1


def test_a_rerun_from_the_saved_config_is_the_same_run_in_its_own_folder(own: Path) -> None:
    before = contents(own)
    again = command(
        "fit", "--config", own / "config.yaml", "--trainer.default_root_dir", own.parents[2]
    )
    folder = run_folder(again)
    assert (folder.parent, folder.name, again.name) == (own.parent, "1", "tiny")
    assert contents(own) == before
    assert contents(folder).keys() == before.keys()
    assert (folder / "metrics.csv").read_bytes() == before["metrics.csv"]
    assert scores(folder) == scores(own)
    one, other = state(own / "checkpoints/last.ckpt"), state(folder / "checkpoints/last.ckpt")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_another_seed_is_another_run(fitted: Path, tmp_path: Path) -> None:
    args = ["--config", fitted / "config.yaml", "--trainer.default_root_dir", tmp_path]
    run = command("fit", *args, *NO_FIGURES, "--seed_everything", "1")
    csv_of = [(folder / "metrics.csv").read_text() for folder in (fitted, run_folder(run))]
    assert csv_of[0] != csv_of[1]
    assert not (run_folder(run) / "figures").exists()
    assert not (run_folder(run) / "report.html").exists()


@pytest.mark.parametrize("name", ["007", "1e3", "study/arm"])
def test_a_run_goes_to_the_working_directory_under_a_name_of_choice(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = command("fit", "--config", tiny, *NO_FIGURES, "--name", name)
    assert run_folder(run).resolve() == tmp_path / "runs" / name / "0"
    assert yaml.safe_load((run_folder(run) / "config.yaml").read_text())["name"] == name
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.yaml", "runs"}


def test_dry_runs_leave_nothing(
    fitted: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("fit", "--config", tiny, "--trainer.fast_dev_run", "true").run_folder is None
    before = contents(fitted)
    for verb in ("validate", "test", "predict"):
        dry = command(verb, "--run", fitted, "--trainer.fast_dev_run", "true")
        assert dry.run_folder is None
    assert contents(fitted) == before
    assert list(tmp_path.iterdir()) == [tiny]


def test_data_that_are_not_there_leave_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data", "CamVid", "--data.root", tmp_path / "nowhere"]
    said = refused(capsys, "fit", "--config", tiny, *args, "--trainer.default_root_dir", tmp_path)
    assert str(tmp_path / "nowhere") in said
    assert list(tmp_path.iterdir()) == [tiny]


# ---- which checkpoint --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--run", "{run}"], "0/checkpoints/best.ckpt"),
        (["--run", "{run}", "--ckpt_path", "last"], "0/checkpoints/last.ckpt"),
        (["--run", "{run}", "--ckpt_path", "last.ckpt"], "0/checkpoints/last.ckpt"),
        (["--run", "{run}", "--ckpt_path", "{root}/moved.ckpt"], "moved.ckpt"),
        (["--ckpt_path", "{run}/checkpoints/last.ckpt"], "0/checkpoints/last.ckpt"),
        (["--ckpt_path", "{root}/moved.ckpt", "--config", "{root}/tiny.yaml"], "moved.ckpt"),
        (["--config", "{root}/tiny.yaml"], "2/checkpoints/best.ckpt"),
        (["--config", "{run}/config.yaml"], "2/checkpoints/best.ckpt"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_the_checkpoint_is_chosen_and_named(
    own: Path,
    tiny: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    verb: str,
    args: list[str],
    expected: str,
) -> None:
    # Run 2 is the newest with a checkpoint; 10 has none yet, and `notes` is no run.
    (own.parent / "2" / "checkpoints").mkdir(parents=True)
    shutil.copy(own / "config.yaml", own.parent / "2")
    shutil.copy(own / "checkpoints/best.ckpt", own.parent / "2" / "checkpoints")
    (own.parent / "10").mkdir()
    (own.parent / "notes").mkdir()
    shutil.copy(own / "checkpoints/last.ckpt", tmp_path / "moved.ckpt")
    given = [arg.format(run=own, root=tmp_path) for arg in args]
    root = ["--trainer.default_root_dir", str(tmp_path)]
    run = command(verb, *given, *root, *NO_FIGURES)
    assert run.checkpoint is not None
    assert str(run.checkpoint).endswith(expected)
    assert f"Checkpoint: {run.checkpoint}" in caplog.messages
    home = run.checkpoint.parent
    home = home.parent if home.name == "checkpoints" else home
    assert run.run_folder == home / verb / run.checkpoint.stem
    trained = state(run.checkpoint)["network.encoder.0.weight"]
    assert torch.equal(run.model.network.encoder[0].weight, trained)


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--config", "{root}/tiny.yaml"], ["No checkpoint", "runs/tiny", "a checkpoint"]),
        (["--run", "{root}"], ["{root}: no config.yaml there"]),
        (["--run", "{root}/nowhere"], ["no config.yaml there"]),
        (["--run", "{run}", "--ckpt_path", "first"], ["first.ckpt does not exist", "best, last"]),
        (["--run", "{run}", "--ckpt_path", "{root}/x.ckpt"], ["x.ckpt does not exist"]),
        (["--ckpt_path", "{root}/x.ckpt"], ["{root}/x.ckpt does not exist"]),
        (["--config", "{root}/tiny.yaml", "--ckpt_path", "last"], ["last does not exist"]),
        (["--run", "{run}", "--ckpt_path", "{root}/part.ckpt"], ["part.ckpt", "only a part"]),
        ([], ["No checkpoint", "name a run"]),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "predict"])
def test_without_a_checkpoint_nothing_is_scored(
    fitted: Path,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    args: list[str],
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = (fitted / "checkpoints/last.ckpt").read_bytes()
    (tmp_path / "part.ckpt").write_bytes(whole[: len(whole) // 2])
    before = contents(tmp_path)
    said = refused(capsys, verb, *(arg.format(run=fitted, root=tmp_path) for arg in args))
    for part in parts:
        assert part.format(root=tmp_path) in said
    assert contents(tmp_path) == before


def test_validation_of_the_best_checkpoint_gives_the_scores_of_the_training(own: Path) -> None:
    run = command("validate", "--run", own)
    folder = own / "validate" / "best"
    assert run.run_folder == folder
    assert scores(folder) == scores(own)
    assert contents(folder).keys() == {"metrics.json"} | (
        FIGURES - {"figures/curves.png", "figures/train_batch.png"}
    )


def test_test_scores_the_test_split(own: Path) -> None:
    run = command("test", "--run", own, *NO_FIGURES)
    written = scores(own / "test" / "best")
    assert all(key.startswith("test/") for key in written)
    # Recounted from the network's answers for the two test scenes.
    view = run.datamodule.test_dataloader().dataset
    assert len(view) == 2
    right = counted = 0
    run.model.eval()
    for sample in view:
        with torch.no_grad():
            answer = run.model(sample["image"][None]).argmax(1)[0]
        labeled = sample["mask"] != 255
        right += int((answer == sample["mask"])[labeled].sum())
        counted += int(labeled.sum())
    assert written["test/pixel_accuracy"] == pytest.approx(right / counted)


def test_another_evaluation_does_not_replace_the_first(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluated(*settings: object) -> tuple[str, dict[str, Any]]:
        folder = command("test", "--run", own, *NO_FIGURES, *settings).run_folder
        assert folder is not None
        metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
        return folder.name, metrics

    name, first = evaluated()
    assert name == "best"
    step = torch.load(own / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert (first["checkpoint"], first["step"]) == ("best", step)
    assert first["same_data"] is True
    others = {
        "best-2": ["--trainer.limit_test_batches", "1", "--data.eval_batch_size", "1"],
        "best-3": ["--data.width", "32"],
        "best-4": ["--trainer.precision", "bf16-mixed"],
    }
    for expected, settings in others.items():
        name, other = evaluated(*settings)
        assert name == expected
        assert other["same_data"] is (expected != "best-3")
    assert json.loads((own / "test" / "best" / "metrics.json").read_text()) == first
    # The same again takes its own place, however it is loaded.
    assert evaluated("--data.width", "32", "--data.eval_batch_size", "1")[0] == "best-3"
    assert evaluated()[0] == "best"
    nothing = ["--trainer.limit_test_batches", "0"]
    assert "leaves nothing to score" in refused(capsys, "test", "--run", own, *nothing)


# ---- predictions -------------------------------------------------------------------------


@pytest.mark.parametrize("output", [False, True])
def test_predictions_are_class_indices_at_the_images_size(
    own: Path, tmp_path: Path, output: bool
) -> None:
    root = write_tree(tmp_path / "camvid", shape=(50, 70))
    args = ["--data", f"{__name__}.Photos", "--data.root", root, "--data.scale", "0.5"]
    args += ["--data.num_workers", 0]
    target = ["--output", tmp_path / "answers"] if output else []
    run = command("predict", "--run", own, *args, *target)
    folder = tmp_path / "answers" if output else own / "predict" / "best"
    assert run.run_folder == folder
    assert predicted(folder).keys() == {
        f"{kind}/test_{index}{suffix}"
        for kind, suffix in (("classes", ".png"), ("color", ".png"), ("overlay", ".jpg"))
        for index in range(3)
    }
    for index, sample in enumerate(run.datamodule.test_dataloader().dataset):
        answer = cv2.imread(str(folder / "classes" / f"test_{index}.png"), cv2.IMREAD_UNCHANGED)
        assert answer is not None
        assert answer.shape == (50, 70)
        assert answer.dtype == np.uint8
        assert answer.max() < 11
        with torch.no_grad():
            small = run.model.eval()(sample["image"][None])
        assert small.shape[-2:] == (25, 35)
        # The scores are enlarged, not the classes: borders follow them between the pixels.
        large = F.interpolate(small, size=(50, 70), mode="bilinear")
        np.testing.assert_array_equal(answer, large.argmax(1)[0].numpy())


# ---- checkpoints and other settings ------------------------------------------------------


def test_a_checkpoint_with_contrast_loads_without_it_and_the_other_way_round(
    own: Path, tiny: Path, tmp_path: Path
) -> None:
    expected = scores(own)
    command("validate", "--run", own, *NO_FIGURES, "--model.contrast", "null")
    assert scores(own / "validate" / "best") == expected
    args = ["--config", tiny, "--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    bare = run_folder(command("fit", *args, "--model.contrast", "null", "--name", "bare"))
    assert not any("contrast" in key for key in state(bare / "checkpoints/best.ckpt"))
    command("validate", "--run", bare, *NO_FIGURES, "--model.contrast", "PNE")
    assert scores(bare / "validate" / "best") == scores(bare)


def test_a_checkpoint_of_another_number_of_classes(
    fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--data", f"{__name__}.ThreeScenes", "--data.val_size", "1", "--data.num_workers", "0"]
    said = refused(capsys, "validate", "--run", fitted, *args)
    assert "best.ckpt: trained on other classes: 3 classes here, 11 in the checkpoint; " in said
    assert "class 0 is 'a' here, 'sky' in the checkpoint" in said


def test_a_resumed_training_is_the_uninterrupted_one(fitted: Path, tmp_path: Path) -> None:
    before = contents(fitted)
    args = ["--config", fitted / "config.yaml", *NO_FIGURES, "--trainer.max_epochs", "2"]
    root = ["--trainer.default_root_dir", tmp_path]
    resume = ["--ckpt_path", fitted / "checkpoints/last.ckpt"]
    resumed, whole = command("fit", *args, *root, *resume), command("fit", *args, *root)
    assert contents(fitted) == before
    assert run_folder(resumed) == tmp_path / "runs" / "tiny" / "0"
    assert resumed.checkpoint == fitted / "checkpoints/last.ckpt"
    assert resumed.trainer.global_step == whole.trainer.global_step == 4
    with (run_folder(resumed) / "metrics.csv").open(newline="") as file:
        assert {row["epoch"] for row in csv.DictReader(file)} == {"1"}
    one, other = (state(run_folder(run) / "checkpoints/last.ckpt") for run in (resumed, whole))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert scores(run_folder(resumed))["val/mIoU"] > 0


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (["--model.schedule", "null"], 1.0),
        # Four of eight steps taken: (1 − 4/8)^0.9 of the full rate.
        ([], 0.5**0.9),
    ],
)
def test_settings_of_the_command_line_win_over_the_checkpoints(
    tiny: Path, tmp_path: Path, schedule: list[str], factor: float
) -> None:
    args = ["--config", tiny, "--trainer.default_root_dir", tmp_path, *NO_FIGURES, *schedule]
    first = run_folder(command("fit", *args))
    resume = ["--ckpt_path", first / "checkpoints/last.ckpt", "--trainer.max_epochs", "2"]
    new = ["--model.optimizer.lr", "0.003", "--model.optimizer.weight_decay", "0.3"]
    run = command("fit", *args, *resume, *new)
    (group,) = run.trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(0.003 * factor)
    assert group["weight_decay"] == 0.3


# ---- what goes wrong on the way ----------------------------------------------------------


@pytest.mark.parametrize(
    "cause",
    [
        ["--model.contrast.loss", f"{__name__}.NoNumber"],
        ["--model.optimizer.lr", "1e30"],
        ["--model.optimizer.lr", "1e30", "--trainer.log_every_n_steps", "50"],
        ["--model.optimizer.lr", "1e30", "--trainer.log_every_n_steps", "50",
         "--trainer.val_check_interval", "0.5"],
    ],
)  # fmt: skip
def test_a_loss_that_is_no_number_ends_the_run(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cause: list[str]
) -> None:
    args: list[object] = ["--config", tiny, "--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    if cause[0] == "--model.contrast.loss":
        spec = {"class_path": "pne_seg.Contrast", "init_args": {"loss": {"class_path": cause[1]}}}
        args += ["--config", write_config(tmp_path / "nan.yaml", {"model": {"contrast": spec}})]
        cause = []
    args += ["--data.batch_size", "2", "--trainer.max_epochs", "3"]
    said = refused(capsys, "fit", *args, *cause)
    assert re.search(r"Step \d+: the (training loss|gradient) is", said)
    assert "model.optimizer.lr" in said
    for path in tmp_path.rglob("*.ckpt"):
        assert all(bool(torch.isfinite(values).all()) for values in state(path).values()), path
    assert not list(tmp_path.rglob("metrics.json"))
