"""Weights meet the classes that they were trained on, by name and order, or the command refuses."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pne_seg import Scenes
from pne_seg.description import IN_CHECKPOINT
from tests.cli.commands import ALLOW, command, contents, refused

NO_FIGURES = ["--figures.num_images", "0"]
NAMES = list(Scenes.class_names)


class Turned(Scenes):
    """The same classes in another order."""

    class_names = Scenes.class_names[::-1]
    palette = Scenes.palette[::-1]


class Renamed(Scenes):
    """One class is spelled in another way."""

    class_names = (*Scenes.class_names[:-1], Scenes.class_names[-1].upper())


SIZES = ["--data.train_size", "4", "--data.val_size", "2", "--data.test_size", "2"]
SMALL = [*SIZES, "--data.height", "32", "--data.width", "48", "--data.batch_size", "4"]
TURNED = ["--data", f"{__name__}.Turned", *SMALL]
RENAMED = ["--data", f"{__name__}.Renamed", *SMALL]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_other_classes_are_refused(
    verb: str, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(fitted)
    said = refused(capsys, verb, "--run", fitted, *TURNED)
    first, second = said.splitlines()
    assert "best.ckpt: trained on other classes" in first
    assert f"class 0 is {NAMES[-1]!r} here, {NAMES[0]!r} in the checkpoint" in first
    assert first.endswith(f"and {len(NAMES) // 2 * 2 - 3} more.")  # the one in the middle stays
    assert "names in its order" in second
    assert "model.init_from" in second
    said = refused(capsys, verb, "--run", fitted, *RENAMED)
    last = len(NAMES) - 1
    assert f"class {last} is {NAMES[-1].upper()!r} here, {NAMES[-1]!r} in the checkpoint." in said
    assert contents(fitted) == before


def test_a_resume_on_other_classes_is_refused(
    fitted: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--config", tiny, "--ckpt_path", fitted / "checkpoints" / "last.ckpt", *TURNED]
    args += ["--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", "2"]
    said = refused(capsys, "fit", *args)
    assert "last.ckpt: trained on other classes" in said
    assert not (tmp_path / "runs").exists()


def test_fine_tuning_gives_rows_by_name(
    fitted: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = fitted / "checkpoints" / "best.ckpt"
    weights = torch.load(source, weights_only=True)["state_dict"]
    caplog.set_level("INFO")
    still = ["--model.optimizer.lr", "0", "--model.optimizer.weight_decay", "0"]
    dry = ["--trainer.fast_dev_run", "true"]
    run = command("fit", "--config", tiny, *TURNED, *dry, *still, "--model.init_from", source)
    assert "trained on the classes in another order; taken by name: " in caplog.text
    for name, value in run.model.named_parameters():
        expected = weights[name]
        if name.startswith("network.segmentation_head"):
            expected = expected.flip(0)
        assert torch.equal(value, expected), name


def test_weights_with_a_config_of_other_classes(
    fitted: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = fitted / "checkpoints" / "best.ckpt"
    place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    said = refused(capsys, "test", "--config", tiny, *TURNED, *place, "--weights", source)
    assert "the weights have other classes than the config's data: class 0" in said
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    photos = ["--input", tmp_path, *place]
    said = refused(capsys, "predict", "--config", tiny, *TURNED, *photos, "--weights", source)
    assert "the weights have other classes than the config's data: class 0" in said
    command("test", "--config", tiny, *SMALL, *place, "--weights", source)


def test_an_export_carries_the_names(
    fitted: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pne_seg.cli import main

    folder = tmp_path / "out"
    main(
        ["export", "--run", str(fitted), "--output", str(folder), "--formats", "safetensors", ALLOW]
    )
    described = json.loads((folder / "segmentation.json").read_text())
    assert described["data"]["class_names"] == NAMES
    said = refused(capsys, "validate", "--config", tiny, *TURNED, "--weights", folder)
    assert f"class 0 is {NAMES[-1]!r} here, {NAMES[0]!r} in the weights" in said


def test_an_older_checkpoint_names_none(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    content = torch.load(fitted / "checkpoints" / "best.ckpt", weights_only=True)
    del content[IN_CHECKPOINT]
    torch.save(content, tmp_path / "older.ckpt")
    args = [*TURNED, "--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    command("validate", "--config", tiny, "--ckpt_path", tmp_path / "older.ckpt", *args)
