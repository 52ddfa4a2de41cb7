"""`--format`: what is submitted scores as `test` says, by the official script."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import TINY, command, contents, refused, write_config
from tests.cli.predicting import make_decided, read
from tests.data.miniature import write_ade20k, write_cityscapes

# The script as it is, with what NumPy 2.4 no longer calls by its old name.
OFFICIAL = """
import runpy, numpy
numpy.in1d = numpy.isin
runpy.run_module(
    "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", run_name="__main__"
)
"""
QUICK = ["--figures.num_images", "0", "--data.num_workers", "0"]


def fitted_on(root: Path, data: str, classes: int, images: str, *settings: object) -> Path:
    """A run on a miniature data set, with weights that say many classes."""
    config = write_config(root / "tiny.yaml", TINY)
    args = ["--trainer.default_root_dir", root, "--trainer.limit_train_batches", 1, *QUICK]
    run = command("fit", "--config", config, "--data", data, *args, *settings).run_folder
    assert run is not None
    make_decided(run / "checkpoints" / "best.ckpt", classes, sorted(root.glob(f"data/{images}")))
    return run


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The miniature tree and a run on it."""
    root = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(root / "data")
    settings = ["--data.root", root / "data", "--data.crop_size", "[32, 64]"]
    run = fitted_on(
        root, "Cityscapes", 19, "leftImg8bit/val/*/*.png", *settings, "--data.batch_size", 2
    )
    # The official files have no value for license plates, which the script does not know.
    for file in (root / "data" / "gtFine").rglob("*_labelIds.png"):
        labels = read(file)
        Image.fromarray(np.where(labels == 255, 0, labels)).save(file)
    return root / "data", run


def test_the_official_evaluation_gives_the_scores_of_test(
    cityscapes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = cityscapes
    ours = json.loads(
        (folder_of(command("test", "--run", run, *QUICK)) / "metrics.json").read_text()
    )
    out = tmp_path / "results"
    command("predict", "--run", run, "--output", out, "--format", "cityscapes")
    assert "Checked 2 files for cityscapes" in capsys.readouterr().out
    assert contents(out).keys() == {
        "frankfurt_000000_000294_leftImg8bit.png",
        "frankfurt_000001_001464_leftImg8bit.png",
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFICIAL],
        env=os.environ
        | {
            "CITYSCAPES_DATASET": str(data),
            "CITYSCAPES_RESULTS": str(out),
            "CITYSCAPES_EXPORT_DIR": str(tmp_path),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads((tmp_path / "resultPixelLevelSemanticLabeling.json").read_text())
    scored = {name: iou for name, iou in theirs["classScores"].items() if not math.isnan(iou)}
    assert len(scored) == 19
    for name, iou in scored.items():
        assert ours[f"test/IoU/{name}"] == pytest.approx(iou, rel=1e-6), name
    assert theirs["averageScoreClasses"] == pytest.approx(ours["test/mIoU"], rel=1e-6)
    assert sum(iou > 0 for iou in scored.values()) > 8


def folder_of(done: object) -> Path:
    folder = getattr(done, "run_folder", None)
    assert isinstance(folder, Path)
    return folder


def test_images_given_as_input_lose_their_city_folder(
    cityscapes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = cityscapes
    args = ["--run", run, "--output", tmp_path / "out", "--format", "cityscapes"]
    args += ["--input", data / "leftImg8bit" / "train"]
    command("predict", *args)
    assert len(contents(tmp_path / "out")) == 3
    assert all(name.count("/") == 0 for name in contents(tmp_path / "out"))
    capsys.readouterr()
    command("predict", *args)
    assert "3 images: 0 written, 3 there already." in capsys.readouterr().out
    (tmp_path / "out" / "notes.txt").write_text("")
    assert "holds other files (notes.txt)" in refused(capsys, "predict", *args)


def test_ade20k_counts_from_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ade20k(tmp_path / "data")
    settings = ["--data.root", tmp_path / "data", "--data.crop_size", "[32, 32]"]
    settings += ["--data.resize_base", "null", "--data.batch_size", 2]
    run = fitted_on(tmp_path, "ADE20K", 150, "images/validation/*1.jpg", *settings)
    args = ["--run", run, "--data.num_workers", 0]
    command("predict", *args, "--output", tmp_path / "out", "--format", "ade20k")
    assert "values 1 to 150" in capsys.readouterr().out
    command("predict", *args, "--output", tmp_path / "plain", "--write", "classes")
    written = contents(tmp_path / "out")
    assert written.keys() == {f"{path.stem}.png" for path in (tmp_path / "plain").rglob("*.png")}
    assert all(name.startswith("ADE_val_") for name in written)
    for name in written:
        plain = read(tmp_path / "plain" / "classes" / name)
        np.testing.assert_array_equal(read(tmp_path / "out" / name), plain + 1)
        assert len(np.unique(plain)) > 4
    image = next((tmp_path / "data" / "images" / "validation").iterdir())
    odd = tmp_path / "holiday.jpg"
    odd.write_bytes(image.read_bytes())
    said = refused(capsys, "predict", *args, "--input", odd, "--format", "ade20k")
    assert "holiday.jpg: format ade20k needs images named as the benchmark's" in said
