"""Every shipped config: complete, short, and able to train."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import DRY, REPOSITORY, SMALL, command
from tests.data.camvid_tree import write_tree

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


@pytest.mark.parametrize("contrast", [[], ["--model.contrast", "null"]], ids=["pne", "baseline"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_config_takes_a_training_step(
    config: Path, contrast: list[str], tmp_path: Path
) -> None:
    if "CamVid" in config.read_text():
        small = ["--data.root", str(write_tree(tmp_path / "camvid")), "--data.batch_size", "2"]
    else:
        small = SMALL
    run = command("fit", "--config", config, *small, *DRY, *contrast)
    assert run.trainer.global_step == 1
    assert run.trainer.callback_metrics["train/loss"].isfinite()
    assert ("train/loss_contrast" in run.trainer.callback_metrics) is not bool(contrast)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_config_is_short_and_says_what_it_is(config: Path) -> None:
    lines = config.read_text().splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith("# ")


@pytest.mark.slow
def test_the_readme_s_training_learns(tmp_path: Path) -> None:
    """As shipped, about a minute: far above always saying the most frequent class."""
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    place = ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    run = command("fit", "--config", config, *place)
    assert run.run_folder is not None
    metrics = json.loads((run.run_folder / "metrics.json").read_text())
    assert metrics["val/mIoU"] > 0.35 > 10 * metrics["val/majority_class_mIoU"]
    for common in ("sky", "road", "building"):
        assert metrics[f"val/IoU/{common}"] > 0.6
