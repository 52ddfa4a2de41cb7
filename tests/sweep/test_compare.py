"""`compare`: runs by hand as arms and seeds, with hand-computed figures; mistakes in a line."""

import base64
import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from pne_seg.cli import main
from pne_seg.data import Scenes
from pne_seg.errors import UserError
from tests.cli.commands import SCENES, SMALL, command

PNE = {"class_path": "pne_seg.PNE", "init_args": {"temperature": 1.0, "weight": 1.3}}
CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "name": "study",
    "model": {"contrast": PNE, "optimizer": {"init_args": {"lr": 0.1}}},
    "trainer": {"max_epochs": 4, "default_root_dir": None},
}
MIOU = {"baseline": [0.40, 0.42, 0.41], "null": [0.39, 0.40, 0.40]}


def write_run(
    folder: Path,
    seed: int,
    miou: float,
    contrast: Any = PNE,
    tested: bool = True,
    protocol: dict[str, Any] | None = None,
    images: dict[str, float] | None = None,
) -> Path:
    config = copy.deepcopy(CONFIG) | {"seed_everything": seed}
    config["model"]["contrast"] = contrast
    config["trainer"]["default_root_dir"] = str(folder)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shared = {"step": 200, "protocol": {"data": "Scenes", "images": 2} | (protocol or {})}
    own = {"val/mIoU": miou + 0.1, "median_seconds_per_training_batch": 12.5} | shared
    own["peak_memory_bytes"] = 3.25e9
    (folder / "metrics.json").write_text(json.dumps(own))
    if tested:
        test = folder / "test" / "best"
        test.mkdir(parents=True)
        metrics = {"test/mIoU": miou, "test/IoU/road": miou / 2, "test/IoU/gone": float("nan")}
        (test / "metrics.json").write_text(json.dumps(metrics | shared))
        rows = [f"{name},{value},0.9,100" for name, value in (images or {}).items()]
        (test / "images.csv").write_text(
            "\n".join(["name,mIoU,pixel_accuracy,labeled_pixels", *rows])
        )
    return folder


def study(folder: Path) -> list[str]:
    runs = []
    for arm, values in MIOU.items():
        for seed, value in enumerate(values):
            contrast = None if arm == "null" else PNE
            runs.append(str(write_run(folder / arm / str(seed), seed, value, contrast)))
    return runs


def test_arms_are_compared_within_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *study(tmp_path), "--output", str(tmp_path / "out")]) is None
    text = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (tmp_path / "out" / "comparison.md").read_text() in text
    assert figures["split"] == "test"
    assert list(figures["arms"]) == ["baseline", "model.contrast null"]
    (miou, road) = figures["differences"]
    # By hand: -1, -2 and -1 points; t(0.975, 2) = 4.302653, standard error 1/3 point.
    paired = miou["paired"]
    assert paired["mean"] == pytest.approx(-0.04 / 3)
    assert paired["std"] == pytest.approx(0.01 / 3**0.5)
    assert (paired["low"], paired["high"]) == pytest.approx(
        (-0.04 / 3 - 4.302653 / 300, -0.04 / 3 + 4.302653 / 300), abs=1e-8
    )
    assert paired["p_value"] == 2 / 8
    assert road["metric"] == "IoU/road"
    assert road["paired"]["mean"] == pytest.approx(-0.02 / 3)
    assert "| model.contrast null | 0 1 2 | 39.67 | 0.58 | -1.33 " in text
    assert "| model.contrast null | model.contrast null          | 12.5    | 3.25 |" in text
    assert "-2.77 to +0.10" in text
    # Three seeds: neither a p-value nor a claim.
    assert "| p" not in text
    assert "significant" not in text
    assert "With 3 shared seeds no test can give a p-value of 0.05" in text
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert [float(row["value"]) for row in rows if row["metric"] == "mIoU"] == [
        *MIOU["baseline"], *MIOU["null"],
    ]  # fmt: skip


def test_six_seeds_have_p_values_adjusted_for_the_arms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"null": None, "InfoNCE": {"class_path": "pne_seg.InfoNCE", "init_args": {}}}
    arms["hot"] = copy.deepcopy(PNE)
    arms["hot"]["init_args"]["temperature"] = 0.5  # type: ignore[index]
    runs = [str(write_run(tmp_path / "b" / str(s), s, 0.4 + s / 1000)) for s in range(6)]
    for arm, contrast in arms.items():
        for seed in range(6):
            noise = 0.002 * seed if arm == "hot" else -0.001 * seed * (-1) ** seed
            value = 0.41 + seed / 1000 + noise
            runs.append(str(write_run(tmp_path / arm / str(seed), seed, value, contrast)))
    main(["compare", *runs])
    text = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if "0 1 2 3" in line}
    assert list(rows) == [
        "baseline",
        "model.contrast null",
        "model.contrast InfoNCE",
        "model.contrast.temperature 0.5",
    ]
    # All six differences are positive in each arm: 2 / 64, and three times that by Holm.
    assert all("0.031 | 0.094" in row for name, row in rows.items() if name != "baseline")
    assert "significant" not in text


def test_images_are_resampled_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = {f"{index}.png": index / 100 for index in range(50)}
    better = {name: value + 0.03 for name, value in images.items()} | {"blank.png": float("nan")}
    ours = write_run(tmp_path / "a", 0, 0.4, images=images | {"blank.png": float("nan")})
    theirs = write_run(tmp_path / "b", 0, 0.5, None, images=better)
    main(["compare", str(ours), str(theirs)])
    text = capsys.readouterr().out
    assert "mean difference of the images' mIoU +3.00, paired bootstrap over images +3.00" in text
    assert "of these trained networks" in text
    assert "With 1 shared seed no test" in text


def test_without_all_tests_the_validation_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = write_run(tmp_path / "a", 0, 0.4)
    theirs = write_run(tmp_path / "b", 0, 0.5, None, tested=False)
    main(["compare", str(ours), str(theirs)])
    text = capsys.readouterr().out
    assert "# 2 arms, val split" in text
    assert "| 50.00 |" in text


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that differ in their contrast; none is tested yet."""
    folders = []
    for extra in ([], ["--model.contrast", "InfoNCE", "--model.contrast.weight", "30"]):
        place = ["--trainer.default_root_dir", str(tmp_path_factory.mktemp("run"))]
        quick = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
        run = command("fit", "--config", SCENES, *SMALL, *quick, *place, *extra)
        assert run.run_folder is not None
        folders.append(run.run_folder)
    return folders


@pytest.mark.slow
def test_two_real_runs(
    tmp_path: Path, real_runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", *map(str, real_runs)])
    text = capsys.readouterr().out
    names = ("baseline", "model.contrast InfoNCE")
    for name, folder in zip(names, real_runs, strict=True):
        miou, cost = (line for line in text.splitlines() if line.startswith(f"| {name} "))
        own = json.loads(Path(folder, "metrics.json").read_text())
        gigabytes = own["peak_memory_bytes"] / 1e9
        seconds = own["median_seconds_per_training_batch"]
        assert 0.1 < gigabytes < 100
        assert seconds * 2 == own["median_seconds_per_training_epoch"]
        assert f"| {100 * own['val/mIoU']:.2f} | - " in miou
        assert f"| {seconds:.3g} " in cost
        assert f"| {gigabytes:.3g} " in cost

    for folder in real_runs:
        command("test", "--run", folder)
    main(["compare", *map(str, real_runs), "--output", str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    tables = [read_images(folder / "test" / "best" / "images.csv") for folder in real_runs]
    order = sorted(tables[0], key=lambda name: -abs(tables[1][name] - tables[0][name]))
    shown = re.findall(r'<p class="note">(\S+): ([-+.\d]+) on average; seed (\d+) is shown', page)
    assert [name for name, *_ in shown] == order[:2]
    for name, mean, seed in shown:
        assert float(mean) == pytest.approx(100 * (tables[1][name] - tables[0][name]), abs=0.051)
        run = yaml.safe_load((real_runs[0] / "config.yaml").read_text())
        assert int(seed) == run["seed_everything"]
    # The pictures are those images' labels and predictions: enlarged, they score the same.
    data = Scenes(test_size=2, height=32, width=32)
    urls = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(url)))) for url in urls]
    assert len(pictures) == 6
    for index, (name, *_) in enumerate(shown):
        label, *predictions = (classes(p, data) for p in pictures[3 * index : 3 * index + 3])
        for prediction, table in zip(predictions, tables, strict=True):
            assert mean_iou(label, prediction) == pytest.approx(table[name], abs=0.01)


def read_images(file: Path) -> dict[str, float]:
    with file.open(newline="") as opened:
        return {row["name"]: float(row["mIoU"]) for row in csv.DictReader(opened)}


def classes(picture: Any, data: Scenes) -> Any:
    """Return the class of each pixel by its color; 255 for black, the ignored."""
    matches = (picture[:, :, None] == np.array(data.palette)).all(-1)
    return np.where(matches.any(-1), matches.argmax(-1), 255)


def mean_iou(label: Any, prediction: Any) -> float:
    """Over the classes that occur, one by one."""
    counted, ious = label != 255, []
    for index in np.union1d(label[counted], prediction[counted]):
        ours, theirs = (label == index) & counted, (prediction == index) & counted
        ious.append((ours & theirs).sum() / (ours | theirs).sum())
    return float(np.mean(ious))


@pytest.mark.slow
def test_a_page_without_the_data_says_so(
    tmp_path: Path,
    real_runs: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(*_: object) -> None:
        raise UserError("images/: no such folder")

    for folder in real_runs:
        command("test", "--run", folder)
    monkeypatch.setattr(Scenes, "dataset", gone)
    main(["compare", *map(str, real_runs), "--output", str(tmp_path)])
    said = "warning: the page shows no images on which arms disagree: images/: no such folder"
    assert said in capsys.readouterr().out
    assert "Images on which" not in (tmp_path / "report.html").read_text()


def test_mistakes_are_answered_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "first", 0, 0.4)
    other_seed = write_run(tmp_path / "seed", 1, 0.4, None)
    wide = write_run(tmp_path / "wide", 0, 0.5, None, protocol={"images": 3})
    unscored = write_run(tmp_path / "unscored", 0, 0.5, None, tested=False)
    (unscored / "metrics.json").unlink()
    stale = write_run(tmp_path / "stale", 0, 0.5, None)
    (stale / "metrics.json").write_text(json.dumps({"step": 400, "val/mIoU": 0.5}))
    damaged = write_run(tmp_path / "damaged", 0, 0.5, None)
    (damaged / "metrics.json").write_text("{")
    seedless = write_run(tmp_path / "seedless", 0, 0.5, None)
    config = yaml.safe_load((seedless / "config.yaml").read_text()) | {"seed_everything": True}
    (seedless / "config.yaml").write_text(yaml.safe_dump(config))
    again = write_run(tmp_path / "again", 0, 0.3)
    for runs, said in {
        (first,): "there is one arm, and nothing to compare it with",
        (first, again): "have the same settings and the same seed (0). Leave one out",
        (first, other_seed): "but the baseline has seeds 0",
        (first, wide): "were measured differently: images is 2 and 3",
        (first, unscored): "has no metrics.json: the run has not been scored yet",
        (first, stale): f"Run `test --run {stale}` again",
        (first, damaged): "is damaged",
        (first, seedless): "seed_everything is True, expected the number",
        (first, tmp_path / "none"): "no config.yaml there",
    }.items():
        with pytest.raises(SystemExit) as ended:
            main(["compare", *map(str, runs)])
        error = capsys.readouterr().err
        assert ended.value.code == 2
        assert said in error, error
        assert len(error.splitlines()) <= 3
