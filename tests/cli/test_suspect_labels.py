"""Suspect labels on the command line: by `test`, and by `check-data --run` for any split."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.cli import main
from tests.cli.commands import ALLOW, QUICK, command, contents, refused, write_config

SIZES = ((32, 48), (40, 40))
WRONG = {"a0": (4, 6, 9, 8), "a3": (30, 10, 8, 12), "a6": (0, 0, 12, 12), "a7": (36, 0, 4, 40)}
"""Column, row, width and height of wrong labels; the last is a strip."""
CONFIG = """
data:
  class_path: Folder
  init_args: {root: ROOT, batch_size: 2, crop_size: [32, 32], num_workers: 0, test_fraction: 0.3}
model:
  network: {class_path: tests.tiny_networks.Red}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.0}}
trainer: {max_epochs: 1, accelerator: cpu, default_root_dir: HERE, log_every_n_steps: 1}
"""


def write_images(root: Path) -> None:
    """Red right halves of class `red`, with a rim of a pixel and some places labeled wrong."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.yaml").write_text("[rest, red, other]")
    for number in range(10):
        name, size = f"a{number}", SIZES[number % 2]
        image = np.zeros((*size, 3), np.uint8)
        image[:, size[1] // 2 :, 0] = 255
        labels = np.zeros(size, np.uint8)
        labels[:, size[1] // 2 + 1 :] = 1
        if name in WRONG:
            x, y, width, height = WRONG[name]
            labels[y : y + height, x : x + width] = 2
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray(labels).save(root / "masks" / f"{name}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run `runs/red/0` beside its data `mine`, to be read."""
    here = tmp_path_factory.mktemp("red")
    write_images(here / "mine")
    text = CONFIG.replace("ROOT", str(here / "mine")).replace("HERE", str(here))
    config = write_config(here / "red.yaml", text)
    folder = command("fit", "--config", config, *QUICK).run_folder
    assert folder is not None
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run; the data may be written to as well, as `mine` in the working folder."""
    shutil.copytree(trained.parents[2] / "mine", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "runs" / "red" / "0"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def regions(file: Path) -> dict[str, tuple[int, ...]]:
    keys = ("x", "y", "width", "height")
    return {row["image"]: tuple(int(row[key]) for key in keys) for row in rows(file)}


def check(run: Path, *more: Any) -> None:
    main(["check-data", "--run", str(run), "--processes", "1", *map(str, more), ALLOW])


def test_every_split_is_looked_at(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(Path("mine"))
    check(run, "--data.root", "mine")
    output = Path("data_check/mine")
    assert regions(output / "suspects.csv") == {
        name: box for name, box in WRONG.items() if name != "a7"
    }
    found = rows(output / "suspects.csv")
    assert [row["rank"] for row in found] == ["1", "2", "3"]
    assert {(row["label"], row["predicted"]) for row in found} == {
        ("other", "rest"),
        ("other", "red"),
    }
    assert {row["split"] for row in found} <= {"train", "val", "test"}
    assert "train" in {row["split"] for row in found}
    with Image.open(output / "suspects.png") as picture:
        assert picture.width > 400
    said = capsys.readouterr()
    assert "Suspect labels: 3 regions in 3 of 10 images." in said.err
    assert "Suspect" not in said.out
    assert contents(Path("mine")) == before


def test_a_test_lists_those_of_its_split(run: Path) -> None:
    check(run, "--data.root", "mine")
    of_test = [row for row in rows(Path("data_check/mine/suspects.csv")) if row["split"] == "test"]
    given = ["--run", str(run), "--data.root", "mine", *QUICK, "--figures.num_images", "0"]
    off = command("test", *given, "--suspects.max_rows", "0").run_folder
    assert off is not None
    assert "suspects.csv" not in contents(off)
    folder = command("test", *given).run_folder
    assert folder is not None
    assert "suspects.png" not in " ".join(contents(folder))
    alone = [{**row, "rank": ""} for row in rows(folder / "suspects.csv")]
    assert alone == [{**row, "rank": ""} for row in of_test]
    assert alone


def test_settings_and_data_of_the_command_line(run: Path) -> None:
    check(run, "--data.root", "mine", "--suspects.min_width", "4")
    assert regions(Path("data_check/mine/suspects.csv"))["a7"] == WRONG["a7"]
    check(run, "--data.root", "mine", "--suspects.max_rows", "1", "--splits", "train,val,test")
    assert list(regions(Path("data_check/mine/suspects.csv"))) == ["a6"]
    # Without a network, nothing of an earlier check is left.
    main(["check-data", "mine", "--processes", "1", "--data.batch_size", "2"])
    assert not list(Path("data_check/mine").glob("suspects.*"))
    # A folder alone is not the data of the run.
    other = Path("mine").rename("other")
    main(["check-data", str(other), "--run", str(run), "--data.batch_size", "2", ALLOW])
    assert len(regions(Path("data_check/other/suspects.csv"))) == 3


def test_what_cannot_be_read_is_left_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/images/a0.png").write_bytes(b"no image")
    Image.fromarray(np.full((40, 40), 77, np.uint8)).save("mine/masks/a5.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("mine/masks/a6.png")
    with pytest.raises(SystemExit) as caught:
        check(run, "--data.root", "mine")
    assert caught.value.code == 1
    assert list(regions(Path("data_check/mine/suspects.csv"))) == ["a3"]
    said = capsys.readouterr().err
    assert "Suspect labels: 1 region in 1 of 7 images. 3 with errors were left out." in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--run", "nowhere"], "nowhere: no config.yaml there"),
        (["--run", "RUN", "--output", "null"], "--run writes suspects.csv"),
        (["--run", "RUN", "--data.classes", "[rest, blue, other]"], "class 1 is 'blue' here"),
        (["--run", "RUN", "--data.classes", "[rest, red]"], "2 classes here, 3 in"),
        (["--run", "RUN", "--suspects.min_confidence", "2"], "min_confidence must be from 0 to 1"),
        (["--run", "RUN", "--suspects.min_confidence", "high"], "--suspects.min_confidence high"),
        (["--run", "RUN", "--suspects.min_with", "2"], "The nearest is --suspects.min_width."),
        (["--run", "RUN", "--suspects", "2"], "--suspects 2: expected a setting"),
        (["--run", "RUN", "--ckpt_path", "epoch9"], "epoch9"),
        (["mine", "--suspects.min_width", "2"], "--suspects needs a trained network"),
        (["mine", "--weights", "x.pth"], "no setting --weights"),
    ],
)
def test_a_mistake(
    run: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    given = [str(run) if flag == "RUN" else flag for flag in flags]
    root = ["--data.root", "mine"] if "mine" not in flags else []
    assert said in refused(capsys, "check-data", *given, *root)
    assert not Path("data_check").exists()


def test_a_run_without_a_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    assert "best.ckpt does not exist; there are last." in refused(
        capsys, "check-data", "--run", run, "--data.root", "mine"
    )
    check(run, "--ckpt_path", "last", "--data.root", "mine")
    assert len(regions(Path("data_check/mine/suspects.csv"))) == 3


def test_splits_without_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        (Path("mine") / split).mkdir()
        shutil.copytree("mine/images", f"mine/{split}/images")
    shutil.rmtree("mine/images")
    Path("mine/masks").rename("mine/train/masks")
    check(run, "--data.root", "mine")
    assert "test" not in {row["split"] for row in rows(Path("data_check/mine/suspects.csv"))}
    said = refused(capsys, "check-data", "--run", run, "--data.root", "mine", "--splits", "test")
    assert "No split has labels that --run could compare" in said
