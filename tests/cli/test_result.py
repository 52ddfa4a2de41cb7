"""What `main` returns, against the files and the network it comes from."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pne_seg.cli import main
from pne_seg.cli.result import Result
from pne_seg.errors import UserError
from tests.cli.commands import ALLOW, DRY, QUICK


def done(verb: str, *args: object) -> Result:
    result = main([verb, *map(str, args), ALLOW])
    assert result is not None
    return result


def check_scores(result: Result, split: str) -> pd.DataFrame:
    """Compare the table with `metrics.json`, whose fractions come from another path."""
    assert result.run_folder is not None
    saved = json.loads((result.run_folder / "metrics.json").read_text())
    scores = result.scores
    names = list(result.datamodule.class_names)
    assert [*scores.index] == [*names, "mean", "all pixels"]
    for name in names:
        expected = saved[f"{split}/IoU/{name}"]
        np.testing.assert_allclose(
            scores.loc[name, "IoU"], np.nan if expected is None else 100 * expected
        )
    assert scores.loc["mean", "IoU"] == pytest.approx(100 * saved[f"{split}/mIoU"])
    assert scores.loc["mean", "accuracy"] == pytest.approx(100 * saved[f"{split}/mAcc"])
    accuracy = 100 * saved[f"{split}/pixel_accuracy"]
    assert scores.loc["all pixels", "accuracy"] == pytest.approx(accuracy)
    assert scores.loc[names, "share of pixels"].sum() == pytest.approx(100)
    assert f"mIoU {100 * saved[f'{split}/mIoU']:.2f}%" in repr(result)
    return scores


def test_a_training(tiny: Path, tmp_path: Path) -> None:
    result = done("fit", "--config", tiny, "--trainer.default_root_dir", tmp_path,
                  "--figures.num_images", "2")  # fmt: skip
    assert result.run_folder == tmp_path / "runs" / "tiny" / "0"
    check_scores(result, "val")
    files = {file.stem: file for file in (result.run_folder / "figures").iterdir()}
    assert result.figures.keys() == files.keys() >= {"curves", "predictions"}
    # A notebook asks a picture for its PNG.
    assert (result.figures["curves"]._repr_png_() or b"")[:4] == b"\x89PNG"
    assert result.trainer.max_epochs == 1
    html = result._repr_html_()
    assert str(result.run_folder) in html
    assert html.count("<tr") == 2 + len(result.scores)  # two rows of headings


def test_other_verbs(run: Path, tmp_path: Path) -> None:
    tested = done("test", "--run", run, *QUICK)
    check_scores(tested, "test")
    assert {"worst", "predictions"} <= tested.figures.keys()
    predicted = done("predict", "--run", run, *QUICK, "--output", tmp_path / "out")
    assert predicted.run_folder == tmp_path / "out"
    assert len(predicted.figures) == 2  # of the test split
    with pytest.raises(UserError, match="predict measured nothing"):
        _ = predicted.scores
    given = ["--output", tmp_path / "exported", "--formats", "safetensors"]
    exported = done("export", "--run", run, *given)
    assert exported.run_folder == tmp_path / "exported"
    assert repr(exported) == f"export: {tmp_path / 'exported'}\nfigures: preview"
    with pytest.raises(UserError, match="export has no trainer"):
        _ = exported.model


def test_a_data_check(tmp_path: Path) -> None:
    given = ["--data", "Scenes", *(f"--data.{split}_size=20" for split in ("train", "val", "test"))]
    result = main(["check-data", *given, "--output", str(tmp_path), "--processes", "1"])
    assert result is not None
    assert result.figures.keys() == {file.stem for file in tmp_path.glob("*.png")}
    assert "mosaic_train" in result.figures
    assert main(["check-data", *given, "--output", "null", "--processes", "1"]) is None


def test_a_dry_run_writes_nothing(tiny: Path) -> None:
    result = done("fit", "--config", tiny, *DRY)
    assert result.run_folder is None
    assert result.figures == {}
    assert result.scores.loc["mean", "IoU"] >= 0
    assert main(["--help"]) is None


def test_without_pandas(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = done("validate", "--run", run, *QUICK)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"pip install 'pne-seg\[notebook\]'"):
        _ = result.scores
    assert result._repr_html_() == f"<pre>{result!r}</pre>"
