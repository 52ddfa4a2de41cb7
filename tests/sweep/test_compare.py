"""`compare`: runs by hand as arms and seeds, with hand-computed figures; mistakes in a line."""

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pne_seg.cli import main
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
    own = {"val/mIoU": miou + 0.1, "median_seconds_per_training_epoch": 12.5} | shared
    (folder / "metrics.json").write_text(json.dumps(own))
    if tested:
        test = folder / "test" / "best"
        test.mkdir(parents=True)
        metrics = {"test/mIoU": miou, "test/IoU/road": miou / 2, "test/IoU/gone": float("nan")}
        (test / "metrics.json").write_text(json.dumps(metrics | shared))
        rows = [f"{name},{value},0.9,100" for name, value in (images or {}).items()]
        (test / "images.csv").write_text(
            "\n".join(["name,mIoU,pixel_accuracy,labelled_pixels", *rows])
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
    assert "| model.contrast null | 0 1 2 | 39.67 | 0.58 | 12.5    | -1.33 " in text
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


@pytest.mark.slow
def test_two_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for number, extra in enumerate(([], ["--model.contrast", "InfoNCE"])):
        place = ["--trainer.default_root_dir", str(tmp_path / str(number))]
        quick = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
        run = command("fit", "--config", SCENES, *SMALL, *quick, *place, *extra)
        assert run.run_folder is not None
        folders.append(str(run.run_folder))
    capsys.readouterr()
    main(["compare", *folders])
    text = capsys.readouterr().out
    for name, folder in zip(("baseline", "model.contrast InfoNCE"), folders, strict=True):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name}"))
        miou = json.loads(Path(folder, "metrics.json").read_text())["val/mIoU"]
        assert f"| {100 * miou:.2f} |" in row


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
