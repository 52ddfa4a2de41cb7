"""Windows, scales and mirror images from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pne_seg.cli.command import SegmentationCLI
from pne_seg.inference import Inference
from pne_seg.metrics import ConfusionMatrix, SegmentationMetrics
from tests.cli.commands import (
    DRY,
    REPOSITORY,
    SCENES,
    SMALL,
    command,
    refused,
    write_config,
)
from tests.inference.plain import plain_views

NO_FIGURES = ["--figures.num_images", "0"]


def by_hand(run: SegmentationCLI, protocol: dict[str, Any]) -> float:
    """mIoU of the test split by loops over views and windows."""
    model = run.model.eval()
    counts = ConfusionMatrix(model.num_classes, model.ignore_index)
    for sample in run.datamodule.test_dataloader().dataset:
        with torch.no_grad():
            probabilities = plain_views(
                model.network,
                sample["image"][None],
                sample["mask"].shape,
                model.preprocessing.normalize,
                **protocol,
            )
        counts.update(probabilities.argmax(1), sample["mask"][None].long())
    return SegmentationMetrics.from_matrix(counts.compute()).miou


@pytest.mark.parametrize(
    ("settings", "folder", "protocol"),
    [
        (
            ["--model.inference.scales", "[0.5, 1.5]", "--model.inference.flip", "true"],
            "best_scales0.5-1.5_flip",
            {"scales": (0.5, 1.5), "flip": True},
        ),
        (
            ["--model.inference.window", "[16, 24]", "--model.inference.stride", "[8, 16]"],
            "best_window16x24-8x16",
            {"scales": (1.0,), "flip": False, "window": (16, 24), "steps": (8, 16)},
        ),
    ],
)
def test_a_protocol_for_one_test(
    run: Path, settings: list[str], folder: str, protocol: dict[str, Any]
) -> None:
    best = run / "checkpoints" / "best.ckpt"
    scored = command("test", "--ckpt_path", best, *settings, *NO_FIGURES)
    assert scored.run_folder == run / "test" / folder
    metrics = json.loads((run / "test" / folder / "metrics.json").read_text())
    assert metrics["test/mIoU"] == pytest.approx(by_hand(scored, protocol), abs=1e-3)
    said = metrics["protocol"]["inference"]
    assert said["scales"] == list(protocol["scales"])
    assert said["window"] == (list(protocol["window"]) if "window" in protocol else None)


def test_a_protocol_in_a_config_is_the_run_s_own_and_can_be_changed(
    tiny: Path, tmp_path: Path
) -> None:
    overlay = {"model": {"inference": {"flip": True, "window": [16, 16]}}}
    protocol = write_config(tmp_path / "protocol.yaml", overlay)
    place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    run = command("fit", "--config", tiny, "--config", protocol, *place)
    assert run.model.scorer.inference == Inference(window=(16, 16), flip=True)
    assert run.run_folder is not None
    saved = yaml.safe_load((run.run_folder / "config.yaml").read_text())["model"]["inference"]
    assert (saved["flip"], saved["window"], saved["scales"]) == (True, [16, 16], [1.0])
    scored = command("validate", "--run", run.run_folder, *NO_FIGURES)
    assert scored.model.scorer.inference == run.model.scorer.inference
    changed = ["--model.inference.window", "null", "--model.inference.scales", "[2]"]
    scored = command("validate", "--run", run.run_folder, *changed, *NO_FIGURES)
    assert scored.model.scorer.inference == Inference(flip=True, scales=(2.0,))


def test_the_overlay_of_the_published_protocol(run: Path, tmp_path: Path) -> None:
    overlay = REPOSITORY / "configs" / "overlays" / "multiscale.yaml"
    published = Inference(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), flip=True)
    over_a_run = command("test", "--run", run, "--config", overlay, *NO_FIGURES)
    assert over_a_run.model.scorer.inference == published
    config = [*["--config", SCENES, "--config", overlay], *SMALL, *DRY]
    training = command("fit", *config, "--trainer.default_root_dir", tmp_path)
    assert training.model.scorer.inference == published
    assert training.trainer.global_step == 1


def test_a_run_without_one_takes_one_later(run: Path) -> None:
    saved = yaml.safe_load((run / "config.yaml").read_text())["model"]["inference"]
    assert Inference(**saved) == Inference()
    scored = command("validate", "--run", run, "--model.inference.flip", "true", *NO_FIGURES)
    assert scored.model.scorer.inference == Inference(flip=True)


def test_mistakes_are_said_in_a_few_lines(fitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*settings: str) -> str:
        return refused(capsys, "test", "--run", fitted, *settings)

    assert "The nearest is --model.inference.window." in said("--model.inference.windw", "[8, 8]")
    assert "need inference.window" in said("--model.inference.stride", "[8, 8]")
    longer = ["--model.inference.window", "[8, 8]", "--model.inference.stride", "[9, 8]"]
    assert "longer than the window" in said(*longer)
    assert "--model.inference.window" in said("--model.inference.window", "8")
    assert "even" in said("--model.inference.blend", "soft")
    assert "above 0" in said("--model.inference.scales", "[0]")
    assert "boundary_widths must rise" in said("--model.boundary_widths", "[3, 1]")
