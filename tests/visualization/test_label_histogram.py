"""Label histograms: order, lengths, numbers and colors of the bars."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from pne_seg.visualization import plot_label_histogram, save_figure
from tests.visualization.pictures import PALETTE, classes, pixels, texts

NAMES = ["a", "b", "c"]
TRAIN, VAL = [100, 700, 200], [0, 1, 999]


def ends(axes: Axes) -> dict[int, float]:
    """Where the bar of each row ends, in percent."""
    return {
        round(bar.get_y() + bar.get_height() / 2): bar.get_x() + bar.get_width()  # type: ignore[attr-defined]
        for bar in axes.patches
    }


def test_bars_end_at_the_shares_in_the_order_of_the_first_split() -> None:
    figure = plot_label_histogram(classes(NAMES), {"train": TRAIN, "val": VAL}, title="")
    train, val = figure.axes
    assert [label.get_text() for label in train.get_yticklabels()] == ["b", "c", "a"]
    assert not any(label.get_text() for label in val.get_yticklabels())
    assert ends(train) == pytest.approx({0: 70, 1: 20, 2: 10})
    nowhere = val.get_xlim()[0]  # "a" is nowhere in val: its bar has no length
    assert ends(val) == pytest.approx({0: 0.1, 1: 99.9, 2: nowhere})
    for axes in (train, val):
        assert axes.get_xscale() == "log"
        assert axes.yaxis_inverted()  # the first is on top
        assert axes.get_xlim()[0] < 0.1 < 100 < axes.get_xlim()[1]
    colors = [to_rgb(bar.get_facecolor()) for bar in train.patches]
    expected = [tuple(part / 255 for part in PALETTE[index]) for index in (1, 2, 0)]
    assert colors == [pytest.approx(color) for color in expected]


def test_numbers_and_splits_are_written() -> None:
    figure = plot_label_histogram(classes(NAMES), {"train": TRAIN, "val": VAL}, title="title")
    train, val = (texts(axes) for axes in figure.axes)
    assert {"train", "70.0", "20.0", "10.0"} <= {*train}
    assert {"val", "0.1", "99.9", "none"} <= {*val}
    assert "none" not in train


def test_rare_classes_keep_a_bar_and_a_number() -> None:
    figure = plot_label_histogram(classes(["a", "b"], PALETTE[:2]), {"train": [10**9, 3]}, title="")
    (axes,) = figure.axes
    assert ends(axes)[1] == pytest.approx(3e-7)
    assert axes.get_xlim()[0] < 3e-7
    assert "3e-07" in texts(axes)
    assert sum(bool(label.get_text()) for label in axes.get_xticklabels()) <= 6


@pytest.mark.parametrize("count", [2, 11, 19, 150, 171])
def test_class_names_do_not_overlap(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    shares = {split: np.arange(1, count + 1) for split in ("train", "val", "test")}
    figure = plot_label_histogram(classes(names, [[0, 0, 0]] * count), shares, title="")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == count
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert min(box.height for box in boxes) > 7  # pixels


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "histogram.png"
    save_figure(plot_label_histogram(classes(NAMES), {"train": TRAIN}, title="T"), path)
    found = {tuple(color) for color in pixels(path).reshape(-1, 3).tolist()}
    assert found > {tuple(color) for color in PALETTE}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "no split"),
        ({"val": [1, 2]}, "val has shape .2,., but there are 3"),
        ({"train": TRAIN, "val": [0, 0, 0]}, "val has no labeled pixel"),
        ({"train": [3, -1, 2]}, "train must be finite and not negative, got -1"),
        ({"train": [3, float("nan"), 2]}, "train must be .* got nan"),
    ],
)
def test_what_cannot_be_drawn(shares: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_label_histogram(classes(NAMES), shares, title="")
