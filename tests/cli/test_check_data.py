"""check-data on the command line: settings, exit codes, where the report goes, what stays as is."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.cli import main
from pne_seg.data import inspection
from tests.cli.commands import CAMVID, contents, refused, write_config
from tests.data.camvid_tree import write_tree
from tests.data.miniature import write_folder

TINY = """
model: {network: tests.tiny_networks.TinyNet}
trainer: {max_steps: 1, accelerator: cpu, fast_dev_run: true}
"""
REPORTS = {"report.txt", "report.json", "label_histogram.png"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "camvid")


def camvid(root: Path, *more: object) -> list[str]:
    given = ["--data", "CamVid", "--data.root", root, "--data.batch_size", 2, "--processes", 1]
    return ["check-data", *map(str, [*given, *more])]


def found(args: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run the command for its JSON."""
    capsys.readouterr()
    main([*args, "--json", "-", "--output", "null"])
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return read


def names(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def state(folder: Path) -> dict[str, Any]:
    """Content and times of every file and folder."""
    times = {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    return {**times, **contents(folder)}


def test_a_sound_data_set(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(tree)
    main(camvid(tree))
    said = capsys.readouterr()
    assert said.out.startswith(f"CamVid in {tree}: 11 classes\n")
    assert said.out.endswith("\nOK\n")
    assert said.err == "Written to data_check/CamVid\n"  # no bar where there is no terminal
    folder = Path("data_check/CamVid")
    mosaics = {f"mosaic_{split}.png" for split in ("train", "val", "test")}
    assert names(folder) == REPORTS | mosaics
    assert (folder / "report.txt").read_text() == said.out
    assert json.loads((folder / "report.json").read_text())["ok"]
    for name in (*mosaics, "label_histogram.png"):
        with Image.open(folder / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 9
    assert state(tree) == before


def test_errors_end_with_code_1(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(camvid(tree))
    (tree / "trainannot" / "train_0.png").write_bytes(b"no image")
    (tree / "val" / "val_0.png").unlink()
    before = state(tree)
    with pytest.raises(SystemExit) as caught:
        main(camvid(tree))
    assert caught.value.code == 1
    said = capsys.readouterr()
    assert str(tree / "trainannot" / "train_0.png") in said.out
    assert said.out.endswith("\n2 errors, 0 warnings\n")
    assert "Traceback" not in said.err
    # Val cannot be opened any more: no picture of it is left from before.
    pictures = {"mosaic_train.png", "mosaic_test.png"}
    assert names("data_check/CamVid") == REPORTS | pictures
    assert state(tree) == before


@pytest.mark.parametrize(
    ("values", "mask", "flags"),
    [
        ([0, 1, 2, 11], "masks/{}.png", "--data.ignore_values '[11]'"),
        ([1, 2, 3], "masks/{}.png", "--data.reduce_zero_label true"),
        ([0, 1, 2], "masks/{}_mask.png", "--data.mask_suffix _mask"),
        ([0, 1, 2], "images/{}-gt.png", "--data.masks images --data.mask_suffix=-gt"),
    ],
)
def test_a_fix_is_ready_to_paste(
    values: list[int],
    mask: str,
    flags: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "mine"
    for index in range(9):
        for name, pixels in (
            ("images/{}.png", np.random.default_rng(index).integers(0, 256, (8, 9, 3), np.uint8)),
            (mask, np.resize(np.array(values, np.uint8), (8, 9))),
        ):
            file = root / name.format(f"a{index}")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    given = ["--data.classes", "[a, b, c]", "--data.batch_size", "1", "--processes", "1"]
    given += ["--data.crop_size", "[8, 8]"]
    with pytest.raises(SystemExit):
        main(["check-data", str(root), *given, "--json", "out.json"])
    said = capsys.readouterr().out
    assert flags in said
    if "ignore" in flags:
        assert "label 11 in 9 of 9 masks" in said
        assert "and 4 more" in said
        files = json.loads(Path("out.json").read_text())["errors"][0]["files"]
        assert len(files) == 9
        report = next(Path("data_check").glob("*/report.txt")).read_text()
        assert all(file in report for file in files)
    fit = ["--config", write_config(Path("tiny.yaml"), TINY), "--data", "Folder", "--data.root"]
    assert flags in refused(capsys, "fit", *fit, root, *given[:4], *given[6:])
    main(["check-data", str(root), *given, *shlex.split(flags)])


def test_json_for_programs(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = found(camvid(tree), capsys)
    keys = ["data", "root", "ok", "class_names", "splits", "errors", "warnings", "notes"]
    assert list(report) == keys
    assert report["splits"]["train"]["images"] == 4
    assert not names(".")
    main(camvid(tree, "--json", "all/data.json", "--output", "null"))
    assert json.loads(Path("all/data.json").read_text()) == report
    assert capsys.readouterr().out.endswith("\nOK\n")
    assert names(".") == {"all"}


def test_the_data_part_of_a_config_is_read_alone(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "seed_everything": 3,
        "model": {"network": {"class_path": "no.such.Network"}, "unknown": 1},
        "trainer": {"max_epoch": "many"},
        "data": {"class_path": "CamVid", "init_args": {"root": str(tree), "batch_size": 2}},
    }
    file = write_config(tmp_path / "mine.yaml", config)
    assert found(["check-data", "--config", str(file)], capsys)["root"] == str(tree)
    shipped = ["check-data", "--config", str(CAMVID), "--data.root", str(tree)]
    report = found([*shipped, "--data.batch_size", "2"], capsys)
    assert report["splits"]["val"]["images"] == 2


def test_another_class_starts_from_its_own_defaults(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"data": {"class_path": "CamVid", "init_args": {"root": "gone", "batch_size": 999}}}
    file = write_config(tmp_path / "mine.yaml", config)
    scenes = ["--data", "Scenes", "--data.train_size", "9", "--data.val_size", "2"]
    report = found(["check-data", "--config", str(file), *scenes, "--splits", "train,val"], capsys)
    assert (report["data"], report["ok"]) == ("Scenes", True)
    assert list(report["splits"]) == ["train", "val"]


def test_a_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "mine")
    short = found(["check-data", "../mine", "--data.batch_size", "2"], capsys)
    given = ["--data", "Folder", "--data.root", "../mine", "--data.batch_size", "2"]
    assert short == found(["check-data", *given], capsys)
    assert short["splits"]["test"]["same_as"] == "val"
    main(["check-data", "../mine", "--data.batch_size", "2"])
    assert names("data_check/mine") == REPORTS | {"mosaic_train.png", "mosaic_val.png"}


def test_nothing_of_the_users_is_overwritten(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("photo.png", "report.txt"):
        Path("own").mkdir(exist_ok=True)
        Path("own", name).write_text("mine")
    said = refused(capsys, *camvid(tree, "--output", "own"))
    assert "--output own holds other files (photo.png)" in said
    assert contents(Path("own")) == {"photo.png": b"mine", "report.txt": b"mine"}
    said = refused(capsys, *camvid(tree, "--output", "own/photo.png"))
    assert "is a file" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "Missing: data. Give a --config file that sets it, --data CLASS, or a folder."),
        (["--data", "Camvid"], "The nearest is CamVid."),
        (["--data", "CamVid", "--data.rot", "x"], "The nearest is --data.root."),
        (["--data", "CamVid", "--data.scale", "0"], "scale must be above 0"),
        (["--data", "CamVid", "--model.contrast", "null"], "no setting --model.contrast"),
        (["--data", "CamVid", "--split", "val"], "The nearest is --splits."),
        (["--data", "CamVid", "--splits", "dev"], "'dev' is none of train, val, test"),
        (["--data", "CamVid", "--processes", "0"], "--processes 0: expected"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["nowhere"], "nowhere does not hold images and masks"),
        (["nowhere", "--data", "CamVid"], "'nowhere' belongs to no key"),
    ],
)
def test_a_mistake(capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    assert said in refused(capsys, "check-data", *args)
    assert not names(".")


def test_a_missing_root_is_an_error_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check-data", "--data", "CamVid", "--data.root", "nowhere", "--output", "null"])
    assert caught.value.code == 1
    said = capsys.readouterr().out
    assert "nowhere does not hold train and trainannot: there is no such folder" in said


def test_an_interruption_is_quiet(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspection, "inspect", stop)
    with pytest.raises(SystemExit) as caught:
        main(camvid(tree))
    assert caught.value.code == 130
    assert capsys.readouterr().err.strip() == "Stopped."
    assert not names(".")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check-data", "--help"])
    assert not caught.value.code
    listed = capsys.readouterr().out
    for setting in ("--splits", "--processes", "--json", "--output", "--data", "--config"):
        assert setting in listed
    main([])
    assert "check-data" in capsys.readouterr().out
