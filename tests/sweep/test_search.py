"""`sweep --search`: what is chosen, pruned and resumed, on planted objectives."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
import yaml

from pne_seg.cli import main
from pne_seg.errors import UserError
from pne_seg.runs import create_run
from pne_seg.sweep import cells
from pne_seg.sweep.arms import Search, describe_range, read_space
from pne_seg.sweep.cells import CellStoppedError, Worker

SEEDS = (0, 1, 2, 3, 4, 5)
SPACE = "model.contrast.weight: {low: 0.1, high: 2.0}\n"


class Planted:
    """In place of `fit`: mIoU is highest at a weight of 1; each seed adds the same to all arms."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trained: list[tuple[str, float | None]] = []
        self.stop_after = 10**6
        self.baseline = 0.3

    def __call__(
        self, arguments: Sequence[str], _log: IO[str], _lock: int, _worker: Worker
    ) -> None:
        assert arguments[0] == "fit"  # the test split takes no part
        if len(self.trained) >= self.stop_after:
            raise CellStoppedError("stopped (fit)")
        given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        weight = float(given["--model.contrast.weight"]) if len(given) > 4 else None
        seed = int(given["--seed_everything"])
        self.trained.append((given["--name"], weight))
        miou = (self.baseline if weight is None else 0.6 - 0.2 * abs(weight - 1)) + 0.02 * (
            seed % 3
        )
        run = create_run(self.root, given["--name"])
        config = {"seed_everything": seed, "model": {"weight": weight}}
        run.config.write_text(yaml.safe_dump(config))
        run.folder.joinpath("metrics.json").write_text(json.dumps({"step": 4, "val/mIoU": miou}))


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text("{}")
    (tmp_path / "space.yaml").write_text(SPACE)
    replaced = Planted(tmp_path)
    monkeypatch.setattr(cells, "_command", replaced)
    return replaced


def run_main(*args: str) -> int:
    try:
        main(["sweep", "--config", "base.yaml", "--search", "space.yaml", *args])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


LINE = ("--seeds", "0,1,2,3,4,5", "--trials", "25", "--name", "s")


def test_the_best_setting_is_found_and_bad_ones_are_pruned(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(*LINE, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "model.contrast.weight: 0.1 … 2",
        "25 arms and the baseline, 6 seeds: 156 cells at most.",
    ]
    assert run_main(*LINE) == 0
    text = capsys.readouterr().out
    assert "26 of 26 arms done" in text

    by_arm: dict[str, list[float | None]] = {}
    for name, weight in planted.trained:
        by_arm.setdefault(name.split("/")[1], []).append(weight)
    assert len(by_arm) == 26
    assert by_arm["baseline"] == [None] * 6
    # An arm keeps its setting for all seeds, and can be worse beyond doubt from the fourth on.
    assert all(len(set(weights)) == 1 for weights in by_arm.values())
    lengths = {len(weights) for weights in by_arm.values()}
    assert lengths == {4, 6}
    pruned = [weights[0] for weights in by_arm.values() if len(weights) == 4]
    chosen = [weights[0] for name, weights in by_arm.items() if name != "baseline"]
    closest = min(abs(weight - 1) for weight in chosen if weight is not None)
    assert closest < 0.1
    assert all(weight is not None and abs(weight - 1) > closest for weight in pruned)

    best = yaml.safe_load((tmp_path / "runs" / "s" / "best.yaml").read_text())
    assert best["baseline"] == {"baseline": True}
    (setting,) = (settings for arm, settings in best.items() if arm != "baseline")
    assert abs(setting["model.contrast.weight"] - 1) == closest
    assert "--arms runs/s/best.yaml --seeds 6,7,8,9,10,11 --name s-confirmed" in text
    figures = json.loads((tmp_path / "runs" / "s" / "comparison.json").read_text())
    assert figures["split"] == "val"
    assert next(iter(figures["arms"])) == "baseline"
    means = [difference["mean"] for difference in figures["differences"]]
    assert means == sorted(means, reverse=True)

    # The same again trains nothing; more trials are added.
    count = len(planted.trained)
    assert run_main(*LINE) == 0
    assert len(planted.trained) == count
    assert run_main(*LINE, "--trials", "26") == 0
    assert len(planted.trained) > count
    capsys.readouterr()
    assert run_main(*LINE, "--trials", "26", "--status") == 0
    assert "27 of 27 arms done" in capsys.readouterr().out


def test_an_arm_that_is_not_better_is_not_recommended(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.baseline = 0.7  # no weight reaches more than 0.6
    assert run_main("--name", "s", "--seeds", "0,1", "--trials", "2") == 0
    text = capsys.readouterr().out
    assert "No arm is better than the baseline: there is nothing to confirm." in text
    assert "--arms" not in text
    assert not (tmp_path / "runs" / "s" / "best.yaml").exists()


def test_a_search_that_is_stopped_keeps_what_it_chose(planted: Planted) -> None:
    planted.stop_after = 9  # the baseline, and half of the first arm
    assert run_main(*LINE, "--trials", "1") == 1
    planted.stop_after = 10**6
    assert run_main(*LINE, "--trials", "1") == 0
    assert len(planted.trained) == 12
    assert len({weight for name, weight in planted.trained if "trial0" in name}) == 1


def test_a_space_is_read(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "a: {low: 0.1, high: 5, log: true}\nb: {low: 10, high: 400, step: 10}\n"
        "c: [PNE, InfoNCE, null]\n"
    )
    space = read_space(file)
    kinds = [type(found).__name__ for found in space.values()]
    assert kinds == ["FloatDistribution", "IntDistribution", "CategoricalDistribution"]
    assert [describe_range(found) for found in space.values()] == [
        "0.1 … 5 (log)",
        "10 … 400 (step 10)",
        "PNE, InfoNCE, null",
    ]
    search = Search("s", tmp_path, [], [0], [], [], space=space)
    arm = search.arm("trial0", {"c": None, "a": 1e-5, "b": 20})
    assert arm.arguments == ["--a", "1.0e-05", "--b", "20", "--c", "null"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "expected ranges by setting"),
        ("a: 3", "space.yaml: a is 3. Expected choices"),
        ("a: []", r"a is \[\]. Expected choices"),
        ("a: [[1, 2], 3]", "A choice is a word or a number"),
        ("a: {low: 1}", "Expected choices"),
        ("a: {low: 1, high: 2, lgo: true}", "a has lgo"),
        ("a: {low: x, high: 2}", "not all of it numbers"),
        ("a: {low: 3, high: 2}", "a is {'low': 3, 'high': 2}: "),
    ],
)
def test_a_space_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_space(tmp_path / "space.yaml")


def test_what_does_not_go_together_is_refused(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    for line, said in (
        (["--set", "lr=1,2"], "--set and --search all name arms"),
        (["--only", "trial1"], "--only names arms, and --search makes its own"),
        (["--trials", "0"], "--trials 0: expected 1 or more"),
    ):
        assert run_main(*line) == 2
        assert said in capsys.readouterr().err
    assert run_main("--name", "t", "--seeds", "0,1", "--trials", "1") == 0
    capsys.readouterr()
    assert run_main("--name", "t", "--seeds", "0,1,2", "--trials", "1") == 2
    assert "seeds changed since the study began ([0, 1] then, [0, 1, 2] now)" in (
        capsys.readouterr().err
    )
    assert len(planted.trained) == 4
