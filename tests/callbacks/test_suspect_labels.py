"""Suspect labels of a test: what is written, where, and when nothing is."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pne_seg.callbacks import Figures, ImageScores, RunPage, Summary, SuspectLabels
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.inference import Inference
from pne_seg.module import SegmentationModule
from pne_seg.page.run_content import PAGE
from pne_seg.suspects import SuspectSearch
from tests.callbacks.halves import HalvesData, Split, trainer
from tests.page.browser import Page
from tests.tiny_networks import Red

SIZES = ((24, 40), (32, 40), (24, 40), (24, 40), (32, 40))
WRONG = {1: (10, 4, 12, 9), 3: (2, 8, 7, 7), 4: (30, 0, 6, 32)}
"""Column, row, width and height of the wrong labels of an image."""


class Mislabeled(SegmentationDataset):
    """A red right half, class 1, and labels that say otherwise in places."""

    def __len__(self) -> int:
        return len(SIZES)

    def name(self, index: int) -> str:
        return f"image_{index}"

    def read(self, index: int) -> Sample:
        image = np.zeros((*SIZES[index], 3), np.uint8)
        image[:, 20:, 0] = 255
        labels = np.zeros(SIZES[index], np.uint8)
        labels[:, 21:] = 1  # a rim of a pixel is wrong everywhere
        if index in WRONG:
            x, y, width, height = WRONG[index]
            labels[y : y + height, x : x + width] = 2
        return Sample(image, labels, SIZES[index])


class MislabeledData(HalvesData):
    ignore_index = 255
    resize_base: tuple[int, int] | None = None

    def dataset(self, split: Split) -> Any:
        return Mislabeled()


def run(
    folder: Path | None,
    search: SuspectSearch | None = None,
    shown: int = 8,
    precision: Any = "32-true",
    data: MislabeledData | None = None,
    **inference: Any,
) -> SuspectLabels:
    own = SegmentationModule(
        Red(), 3, 255, HalvesData.class_names, inference=Inference(**inference)
    )
    callback = SuspectLabels(search or SuspectSearch(), shown)
    callback.folder = folder
    runner = trainer(folder or Path(), callback, precision=precision)
    runner.test(own, datamodule=data or MislabeledData(), verbose=False)
    assert own.scored is None
    assert not own.log_probabilities
    return callback


def rows(folder: Path) -> list[tuple[Any, ...]]:
    with (folder / "suspects.csv").open(newline="") as file:
        return [
            (one["image"], *(int(one[key]) for key in ("x", "y", "width", "height", "pixels")))
            for one in csv.DictReader(file)
        ]


EXPECTED = [
    ("image_4", 30, 0, 6, 32, 192),
    ("image_1", 10, 4, 10, 9, 90),  # on both sides of the border, of two predictions
    ("image_3", 2, 8, 7, 7, 49),
]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize(
    "inference", [{}, {"window": (16, 16)}, {"flip": True}, {"window": (24, 32), "flip": True}]
)
def test_under_any_protocol_and_precision(
    tmp_path: Path, precision: str, inference: dict[str, Any]
) -> None:
    run(tmp_path, precision=precision, **inference)
    assert rows(tmp_path) == EXPECTED
    with (tmp_path / "suspects.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["split"], first["label"], first["predicted"]) == ("test", "never", "right")
    assert float(first["confidence"]) > 0.99
    with Image.open(tmp_path / "figures" / "suspects.png") as picture:
        assert picture.width > 400


def test_at_the_size_of_the_labels(tmp_path: Path) -> None:
    """The network sees images of half the size: borders shift, regions stay."""
    data = MislabeledData()
    data.resize_base = (20, 20)
    run(tmp_path, data=data)
    found = rows(tmp_path)
    assert [row[0] for row in found] == ["image_4", "image_1", "image_3"]
    for row, expected in zip(found, EXPECTED, strict=True):
        assert np.abs(np.subtract(row[1:5], expected[1:5])).max() <= 1


def test_the_table_alone_without_figures(tmp_path: Path) -> None:
    assert run(tmp_path, shown=0).worst is not None
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.csv"]


def test_off(tmp_path: Path) -> None:
    for folder, search in ((tmp_path, SuspectSearch(max_rows=0)), (None, SuspectSearch())):
        assert run(folder, search).worst is None
    assert not list(tmp_path.iterdir())


def test_no_picture_is_left_of_an_earlier_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    assert (tmp_path / "figures" / "suspects.png").is_file()
    run(tmp_path, SuspectSearch(min_width=20))
    assert not (tmp_path / "figures" / "suspects.png").exists()
    assert rows(tmp_path) == []


def test_the_page_of_the_run_shows_them(tmp_path: Path) -> None:
    figures, summary, images = Figures(2), Summary(), ImageScores(2)
    suspects = SuspectLabels(SuspectSearch())
    page = RunPage(figures, summary, images, suspects)
    for one in (figures, summary, images, suspects, page):
        one.folder = tmp_path
    every = [figures, summary, images, suspects, page]
    own = SegmentationModule(
        Red(), 3, 255, HalvesData.class_names, optimizer=lambda p: torch.optim.SGD(p, lr=0.0)
    )
    data = MislabeledData()
    data.batch_size = 1  # they have two sizes
    trainer(tmp_path, *every).fit(own, datamodule=data)
    assert "Suspect labels" not in Page((tmp_path / PAGE).read_text()).text
    trainer(tmp_path, *every).test(own, datamodule=MislabeledData(), verbose=False)
    text = Page((tmp_path / PAGE).read_text()).text
    captions = ["image_4, never → right", "image_1, never → left", "image_3, never → left"]
    places = [text.index(f"{rank}. {said}") for rank, said in enumerate(captions, 1)]
    assert text.index("Suspect labels") < places[0]
    assert places == sorted(places)
