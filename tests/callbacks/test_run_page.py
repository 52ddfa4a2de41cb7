"""The page of a run: what it says is true, what it is given is escaped, and it stops no run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback

from pne_seg.callbacks import Figures, ImageScores, RunPage, Stopped, Summary, run_page
from pne_seg.module import SegmentationModule
from pne_seg.page.run_content import PAGE, duration, read_facts
from tests.callbacks.halves import HalvesData, Threshold, module, trainer
from tests.data.noise import Noise, Noises
from tests.page.browser import THEMES, Page, browse, needs_browser

HOSTILE = ("<b>left", "</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>")


class HostileData(HalvesData):
    class_names = HOSTILE


def callbacks(folder: Path, num_images: int = 2) -> tuple[list[Callback], RunPage]:
    figures, summary, images = Figures(num_images), Summary(), ImageScores(num_images)
    page = RunPage(figures, summary, images)
    page.about = {"name": "<i>name</i>", "seed": 3}
    page.settings = lambda: [("data.root", "</script><u>here", "null")]
    for one in (figures, summary, images, page):
        one.folder = folder
    return [figures, summary, images, page], page


def fit(folder: Path, *more: Callback, num_images: int = 2, **settings: Any) -> None:
    folder.mkdir(parents=True)
    own = SegmentationModule(Threshold(6), 3, 9, HOSTILE, optimizer=module().optimizer)
    every = [*callbacks(folder, num_images)[0], *more]
    trainer(folder.parent, *every, **settings).fit(own, datamodule=HostileData())


def test_texts_are_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    text = (tmp_path / "run" / PAGE).read_text()
    page = Page(text)
    assert "://" not in text
    assert {load.partition(",")[0] for load in page.loads} == {
        *("data:", "data:image/jpeg;base64", "data:image/png;base64")
    }
    assert page.scripts == 2  # the page's facts and its slider
    for name in (*HOSTILE, "<i>name</i>", "</script><u>here"):
        assert name in page.text
    facts = read_facts(tmp_path / "run")
    assert facts is not None
    assert (facts["name"], facts["seed"]) == ("<i>name</i>", 3)
    assert tuple(facts["data"]["class_names"]) == HOSTILE


def test_the_numbers_are_those_of_the_metrics(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    page = Page((tmp_path / "run" / PAGE).read_text())
    # The first table of the classes; that of the confusions comes later.
    shown = {row[0]: row[1:] for row in reversed(page.rows) if row[0] in HOSTILE and len(row) == 4}
    # Columns 0-3 of 8 are left and right, 4 and 5 wrongly left, as in the summary's test.
    assert shown == {
        HOSTILE[0]: ["66.67", "100.00", "50.00"],
        HOSTILE[1]: ["50.00", "50.00", "50.00"],
        HOSTILE[2]: ["n/a", "n/a", "0.00"],
    }
    confused = [row for row in page.rows if len(row) == 3 and row[0] == HOSTILE[1]]
    assert confused == [[HOSTILE[1], HOSTILE[0], "50.0"]]
    for key in ("val/mIoU", "val/pixel_accuracy"):
        assert f"{100 * metrics[key]:.2f}%" in page.text
    assert ["training images", "4"] in page.rows
    assert ["validation images", "3"] in page.rows
    assert ["labeled validation pixels", str(3 * 7 * 8)] in page.rows


def test_the_worst_images_of_the_best_epoch(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    data = Noises(9, eval_batch_size=2)
    noisy = SegmentationModule(Threshold(9), 3, class_names=data.class_names)
    trainer(tmp_path, *callbacks(tmp_path / "run", 3)[0]).fit(noisy, datamodule=data)
    mious = {}
    for index in range(9):
        labels = Noise(9).read(index).labels
        said = np.repeat((np.arange(labels.shape[1]) >= 9)[None], len(labels), 0).astype(int)
        ious = [
            ((labels == c) & (said == c)).sum()
            / (((labels == c) | (said == c)) & (labels != 255)).sum()
            for c in range(3)
        ]
        mious[f"noise_{index}"] = float(np.mean(ious))
    worst = sorted(mious, key=mious.__getitem__)[:3]
    text = Page((tmp_path / "run" / PAGE).read_text()).text
    places = [text.index(f"{name}, mIoU {100 * mious[name]:.2f}%") for name in worst]
    assert places == sorted(places)
    assert text.count(", mIoU ") == 3


class Failing(Callback):
    """Ends a training after its second step."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no <number>"), "failed at step 2: no <number>"),
        (Stopped(15, 2, None), "stopped by SIGTERM after step 2."),
    ],
)
def test_a_training_that_ends_early_has_a_page(
    tmp_path: Path, error: BaseException, said: str
) -> None:
    with pytest.raises(type(error)):
        fit(tmp_path / "run", Failing(error), val_check_interval=1)
    page = Page((tmp_path / "run" / PAGE).read_text())
    assert f"The training was {said}" in page.text or f"The training {said}" in page.text
    assert "58.33%" in page.text  # of the validation after the first step
    assert "2 steps" in page.text


def test_a_failure_of_the_page_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(run_page, "run_html", fail)
    with pytest.warns(UserWarning, match=r"report\.html was not written: OSError: disk full"):
        fit(tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_without_figures_there_is_no_page(tmp_path: Path) -> None:
    fit(tmp_path / "run", num_images=0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.json"]


def test_durations() -> None:
    assert [duration(s) for s in (1.4, 119, 120, 3599, 12_000)] == [
        *("1 s", "119 s", "2 min", "1 h 0 min", "3 h 20 min")
    ]


CLIPS = """[50, 80].map(value => {
  const example = page.querySelector(".example"), slider = example.querySelector("input");
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  return [".label", ".prediction"].map(
    name => view.getComputedStyle(example.querySelector(name)).clipPath);
})"""


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize(("theme", "scheme"), THEMES)
def test_a_browser_shows_it(tmp_path: Path, width: int, theme: str, scheme: int) -> None:
    fit(tmp_path / "run")
    file = tmp_path / "run" / PAGE
    paper = "view.getComputedStyle(page.body).backgroundColor"
    widths = "page.documentElement.scrollWidth"
    clips, background, reaches = browse(file, width, scheme, f"[{CLIPS}, {paper}, {widths}]")
    assert clips == [
        ["inset(0px 50% 0px 0px)", "inset(0px 0px 0px 50%)"],
        ["inset(0px 20% 0px 0px)", "inset(0px 0px 0px 80%)"],
    ]
    assert (background != "rgb(255, 255, 255)") == (theme == "dark")
    assert reaches == width  # nothing to scroll sideways
