"""Scores of single images, and which of them are shown."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pne_seg import visualization
from pne_seg.callbacks import ImageScores
from tests.callbacks.halves import IGNORE, HalvesData, module, trainer

COUNT = 9


class Outcomes:
    """Batches with predictions of known quality: image i has i of its 8 columns wrong."""

    def __init__(self) -> None:
        self.labels = torch.zeros(COUNT, 8, 8, dtype=torch.uint8)
        self.labels[:, :, 4:] = 1
        self.labels[:, 0] = IGNORE
        self.predictions = self.labels.clone().long()
        self.predictions[:, 0] = 0
        for image in range(COUNT - 1):
            self.predictions[image, :, :image] = 1 - self.predictions[image, :, :image]
        self.labels[-1] = IGNORE  # the last has nothing to score

    def feed(self, callback: ImageScores, runner: Any, own: Any) -> None:
        order = torch.randperm(COUNT).tolist()  # best and worst may come first or last
        for start in range(0, COUNT, 2):
            places = order[start : start + 2]
            batch = {
                "name": [f"image_{place}" for place in places],
                "image": torch.stack([self.image(place) for place in places]),
                "mask": self.labels[places],
            }
            callback.on_test_batch_end(runner, own, self.predictions[places], batch, 0)

    def image(self, place: int) -> Tensor:
        return torch.full((3, 4, 4), place, dtype=torch.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What is drawn, by the picture's name."""
    pictures: dict[str, dict[str, Any]] = {}

    def draw(images: Any, labels: Any, predictions: Any, **given: Any) -> dict[str, Any]:
        return {"images": images, "labels": labels, "predictions": predictions, **given}

    def save(figure: dict[str, Any], path: Path) -> None:
        pictures[path.name] = figure

    monkeypatch.setattr(visualization, "validation_mosaic", draw)
    monkeypatch.setattr(visualization, "save_figure", save)
    return pictures


def plain_miou(labels: Tensor, prediction: Tensor) -> float:
    counted = labels != IGNORE
    ious = []
    for index in range(3):
        true, said = (labels == index) & counted, (prediction == index) & counted
        if (true | said).any():
            ious.append(((true & said).sum() / (true | said).sum()).item())
    return sum(ious) / len(ious) if ious else math.nan


@pytest.mark.parametrize("shown", [0, 2, 3, 20])
def test_worst_and_best_images(tmp_path: Path, drawn: dict[str, Any], shown: int) -> None:
    outcomes, callback = Outcomes(), ImageScores(shown)
    callback.folder = tmp_path
    runner, own = trainer(tmp_path), module()
    runner.datamodule = HalvesData()  # type: ignore[attr-defined]
    callback.on_test_start(runner, own)
    outcomes.feed(callback, runner, own)
    held = sum(entry.example is not None for entry in callback._images)
    assert held <= 2 * shown
    callback.on_test_end(runner, own)

    with (tmp_path / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [
        plain_miou(labels, prediction)
        for labels, prediction in zip(outcomes.labels, outcomes.predictions, strict=True)
    ]
    assert [row["name"] for row in rows] == [f"image_{place}" for place in range(COUNT)]
    for place, row in enumerate(rows[:-1]):
        assert float(row["mIoU"]) == pytest.approx(expected[place], abs=1e-6)
        assert float(row["pixel_accuracy"]) == pytest.approx(1 - place / 8, abs=1e-6)
        assert row["labeled_pixels"] == "56"
    assert list(rows[-1].values()) == [f"image_{COUNT - 1}", "", "", "0"]

    ranked = sorted(range(COUNT - 1), key=lambda place: expected[place])
    worst = ranked[:shown]
    best = [place for place in ranked[::-1] if place not in worst][:shown]
    for name, places in (("worst.png", worst), ("best.png", best)):
        if not places:
            assert name not in drawn
            continue
        assert [said.split(",")[0] for said in drawn[name]["names"]] == [
            f"image_{place}" for place in places
        ]
        for place, image, labels, prediction in zip(
            places,
            *(drawn[name][key] for key in ("images", "labels", "predictions")),
            strict=True,
        ):
            assert image.shape == (8, 8, 3)  # at the labels' size
            assert (image == place).all()
            assert np.array_equal(labels, outcomes.labels[place].numpy())
            assert np.array_equal(prediction, outcomes.predictions[place].numpy())


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    callback = ImageScores()
    trainer(tmp_path, callback).test(module(), datamodule=HalvesData(), verbose=False)
    assert not callback._images
    assert not list(tmp_path.iterdir())
