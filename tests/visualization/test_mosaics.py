"""Mosaics: how much of each view they show, their texts and legends, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from pne_seg.visualization import (
    MAX_IMAGES,
    mosaics,
    save_figure,
    training_mosaic,
    validation_mosaic,
)
from pne_seg.visualization.colors import IGNORED, WRONG
from tests.visualization.pictures import PALETTE, classes, flat, pixels

NAMES = ["road", "tree", "sky"]


def count(picture: np.ndarray, color: object) -> int:
    return int((picture == np.asarray(color)).all(axis=2).sum())


def test_validation_mosaic_shows_all_four_views_and_the_whole_image_accuracy(
    tmp_path: Path,
) -> None:
    labels = np.zeros((40, 80), np.int64)
    labels[:, 40:] = 1
    labels[:10] = 255
    prediction = np.zeros_like(labels)
    prediction[:, 60:] = 1  # of 2400 counted pixels 600 are wrong
    everything_ignored = np.full((30, 30), 255)
    path = tmp_path / "new" / "folder" / "val.png"
    figure = validation_mosaic(
        [flat(40, 80, 140), flat(30, 30, 90)],
        [labels, everything_ignored],
        [prediction, np.zeros((30, 30), np.int64)],
        ["first.png", "second.png"],
        classes(NAMES),
        title="A heading",
    )
    save_figure(figure, path)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert {"A heading", "first.png", "second.png", *NAMES, "ignored", "wrong"} <= set(texts)
    assert {"image", "label", "prediction", "wrong pixels"} <= set(texts)
    assert "pixel accuracy 75.0%" in texts
    assert "pixel accuracy n/a" in texts

    picture = pixels(path)
    # 40 × 80 is drawn as 200 × 400, 30 × 30 as 300 × 300: count what each view must show.
    assert count(picture, WRONG) == pytest.approx(150 * 100, abs=400)
    assert count(picture, IGNORED) == pytest.approx(50 * 400 + 300 * 300, abs=400)
    assert count(picture, (140, 140, 140)) == pytest.approx(200 * 400, abs=400)
    road = 150 * 200 + 200 * 300 + 300 * 300  # label, prediction, second prediction
    assert count(picture, PALETTE[0]) == pytest.approx(road, abs=400)
    assert count(picture, PALETTE[2]) > 100  # in the legend only
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_label_order_survives_shrinking() -> None:
    labels = np.arange(8).repeat(256)[None].repeat(1024, axis=0)  # 8 stripes, 1024 × 2048
    image, small = mosaics.shrink(flat(1024, 2048, 7), labels)
    assert image.shape == (200, 400, 3)
    assert small.shape == (200, 400)
    assert (image == 7).all()
    assert small[0].tolist() == np.arange(8).repeat(50).tolist()
    _, same = mosaics.shrink(flat(300, 400, 0), np.arange(120_000).reshape(300, 400))
    assert same.ravel().tolist() == list(range(120_000))


@pytest.mark.parametrize("number", [1, 3, 8, 11])
def test_training_mosaic_draws_up_to_eight(tmp_path: Path, number: int) -> None:
    path = tmp_path / "train.png"
    figure = training_mosaic(
        [flat(60, 80, 200)] * number,
        [np.full((60, 80), 1)] * number,
        classes(NAMES),
        title="Training",
    )
    save_figure(figure, path)
    picture = pixels(path)
    drawn = min(number, MAX_IMAGES)
    area = 300 * 400
    assert count(picture, (200, 200, 200)) == pytest.approx(drawn * area, abs=500)
    mixed = np.rint(0.45 * 200 + 0.55 * np.array(PALETTE[1]))
    assert count(picture, mixed) == drawn * area
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_legend_lists_what_is_shown_when_classes_are_many() -> None:
    names = [f"class {index}" for index in range(40)]
    data = classes(names, [[index] * 3 for index in range(40)])
    shown = [np.array([[3, 39], [255, 3]]), np.array([[7]])]
    many = mosaics.shown_classes(shown, data)
    assert many == [
        ("class 3", (3, 3, 3)),
        ("class 7", (7, 7, 7)),
        ("class 39", (39, 39, 39)),
        ("ignored", (0, 0, 0)),
    ]
    data = classes(names[:30], data.palette[:30])
    few = mosaics.shown_classes([np.array([[2]])], data)
    assert [name for name, _ in few] == names[:30]


def test_mosaics_refuse_what_they_cannot_draw() -> None:
    image, labels = flat(20, 2000, 0), np.zeros((20, 2000), int)
    labels[3, 17] = 9  # one pixel that shrinking drops

    def draw(images: list[np.ndarray], labels: list[np.ndarray]) -> None:
        training_mosaic(images, labels, classes(NAMES), title="")

    with pytest.raises(ValueError, match="hold 9"):
        draw([image], [labels])
    with pytest.raises(ValueError, match="no image"):
        draw([], [])
    with pytest.raises(ValueError, match="shorter"):
        draw([image], [])
    with pytest.raises(ValueError, match="2 class names with 3 colors"):
        classes(["a", "b"])
    with pytest.raises(ValueError, match="differ in size"):
        draw([image], [np.zeros((20, 20), int)])
