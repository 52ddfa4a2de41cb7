"""`report.html` of a run of the command line: its settings and curves, and the test that joins."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from pne_seg.cli.changed_settings import changed_settings
from tests.cli.commands import command
from tests.page.browser import Page


@pytest.fixture
def own(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to write into."""
    return Path(shutil.copytree(fitted, tmp_path / "runs" / "tiny" / "0"))


def page(run: Path) -> Page:
    return Page((run / "report.html").read_text())


def test_the_settings_that_differ_from_their_defaults(fitted: Path) -> None:
    key = re.compile(r"(data|model|figures)(\.[a-z_.]+)?")
    rows = {row[0]: row[1:] for row in page(fitted).rows if len(row) == 3 and key.fullmatch(row[0])}
    assert rows == {
        "data": ["pne_seg.Scenes", ""],
        "data.train_size": ["8", "800"],
        "data.val_size": ["3", "100"],
        "data.test_size": ["2", "100"],
        "data.height": ["32", "96"],
        "data.width": ["48", "128"],
        "data.batch_size": ["4", "8"],
        "data.num_workers": ["0", "null"],
        "model.network": ["tests.tiny_networks.TinyNet", ""],
        "model.network.width": ["6", "8"],
        "model.contrast": ["pne_seg.PNE", ""],
        "model.contrast.temperature": ["0.7", "1.0"],
        "model.contrast.weight": ["1.1", "1.3"],
        "model.contrast.embedding_dim": ["8", "256"],
        "model.contrast.max_anchors": ["500", "199"],
        "model.optimizer": ["torch.optim.AdamW", ""],
        "model.optimizer.lr": ["0.01", "0.001"],
        "model.optimizer.weight_decay": ["0.02", "0.01"],
        "model.schedule": ["pne_seg.optim.WarmupPoly", ""],
        "model.schedule.total_steps": ["8", "0"],
        "figures.num_images": ["8", "6"],
    }


def test_another_class_is_one_difference_with_what_was_changed_of_it() -> None:
    contrast = {"class_path": "pne_seg.InfoNCE", "init_args": {"weight": 0.5, "min_stride": 4}}
    config = {"model": {"contrast": contrast, "dropout": 0.0, "mean": [1.0, 2.0]}, "name": "a"}
    defaults = {"model": {"contrast": None, "dropout": 0.0, "mean": (1.0, 2.0)}, "name": None}
    assert changed_settings(config, defaults) == [
        ("model.contrast", "pne_seg.InfoNCE", ""),
        ("model.contrast.weight", "0.5", "1.3"),
    ]


def test_the_curves_are_those_of_the_csv(fitted: Path) -> None:
    text = (fitted / "report.html").read_text()
    with (fitted / "metrics.csv").open(newline="") as file:
        logged = [(int(row["step"]), float(row["val/mIoU"])) for row in csv.DictReader(file)
                  if row["val/mIoU"]]  # fmt: skip
    ((step, miou),) = logged
    assert f"Highest: {100 * miou:.2f}% at step {step + 1}." in text
    assert json.loads((fitted / "metrics.json").read_text())["step"] == step + 1
    for name in ("train/loss", "train/loss_ce", "train/loss_contrast", "val/loss"):
        assert name in page(fitted).text


def test_a_test_of_the_best_weights_joins(own: Path) -> None:
    before = page(own)
    assert "test mIoU" not in before.text
    command("test", "--run", own, "--data.width", "32")  # other data
    assert (own / "report.html").read_text() == before.raw
    tested = command("test", "--run", own).run_folder
    assert tested is not None
    after = page(own)
    for folder, split in ((own, "val"), (tested, "test")):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert f"mIoU{100 * metrics[f'{split}/mIoU']:.2f}%" in after.text
        for name in ("sky", "road"):
            iou = metrics[f"{split}/IoU/{name}"]
            shown = next(row for row in after.rows if row[0] == name)
            assert shown[1 + (split == "test")] == ("n/a" if iou is None else f"{100 * iou:.2f}")
    assert [row for row in after.rows if row[0] in ("training images", "device")] == [
        row for row in before.rows if row[0] in ("training images", "device")
    ]
    names = re.findall(r"test_\d+, mIoU", after.text)
    assert len(names) == 2  # the worst of the two test images


def test_the_curves_of_a_resumed_run_begin_with_those_before(own: Path) -> None:
    last = own / "checkpoints" / "last.ckpt"
    root = ["--trainer.default_root_dir", own.parents[2], "--figures.num_images", 1]
    more = ["--trainer.max_epochs", 2, "--ckpt_path", last]
    run = command("fit", "--config", own / "config.yaml", *root, *more).run_folder
    assert run is not None
    assert f"Resumed from {last}." in page(run).text
    text = (run / "report.html").read_text()
    (plot,) = re.findall(r'<svg [^>]*aria-label="Validation mIoU[^>]*>(.*?)</svg>', text)
    assert plot.count("<circle") == 2
    with (run / "metrics.csv").open(newline="") as file:
        assert len([row for row in csv.DictReader(file) if row["val/mIoU"]]) == 1
