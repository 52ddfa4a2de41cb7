"""`predict` says which index and color is which class, and keeps to what it wrote."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pne_seg.data.scenes.stage import SCENE_CLASSES
from tests.cli.commands import command, refused
from tests.cli.predicting import LEGENDS, PALETTE, noise


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(noise(0, (32, 48))).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_legends_say_what_the_pixels_mean(decided: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command("predict", "--run", decided, "--input", photo, "--output", out)
    with (out / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(SCENE_CLASSES)
    colors = [[int(row[part]) for part in ("red", "green", "blue")] for row in rows]
    assert colors == PALETTE.tolist()
    classes = np.asarray(Image.open(out / "classes" / "photo.png"))
    painted = np.asarray(Image.open(out / "color" / "photo.png").convert("RGB"))
    for index in np.unique(classes):
        assert (painted[classes == index] == colors[int(rows[index]["index"])]).all()
    drawn = {
        tuple(c)
        for c in np.asarray(Image.open(out / "legend.png").convert("RGB")).reshape(-1, 3).tolist()
    }
    assert {tuple(color) for color in colors} <= drawn


def test_legends_come_back_and_are_not_replaced(
    decided: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--run", decided, "--input", photo, "--output", out]
    command("predict", *args)
    before = [(out / name).read_bytes() for name in LEGENDS]
    (out / "legend.png").unlink()
    command("predict", *args)
    assert "0 written, 1 there already." in capsys.readouterr().out
    assert [(out / name).read_bytes() for name in LEGENDS] == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "classes.csv").write_text("mine")
    said = refused(capsys, "predict", *args[:-1], other)
    assert "classes.csv is there and was not written by predict" in said
    assert [path.name for path in other.iterdir()] == ["classes.csv"]
    shutil.rmtree(out)
    command("predict", *args, "--write", "classes")
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "classes",
        "classes.csv",
        "predictions.json",
    }
