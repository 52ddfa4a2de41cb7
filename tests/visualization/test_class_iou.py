"""IoU bars: their order, lengths, numbers and names."""

from itertools import pairwise

import numpy as np
import pytest

from pne_seg.visualization import plot_class_iou
from tests.visualization.pictures import texts

NAN = float("nan")


def test_bars_are_sorted_and_as_long_as_the_iou() -> None:
    figure = plot_class_iou(["a", "b", "c", "d"], [0.25, NAN, 0.875, 0.0], title="IoU")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [87.5, 25, 0, 0]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "d", "b"]
    assert axes.yaxis_inverted()  # the first is on top
    shown = {text.get_text(): getattr(text, "xy", text.get_position()) for text in axes.texts}
    assert shown["87.5"] == pytest.approx((87.5, 0))
    assert shown["25.0"] == pytest.approx((25, 1))
    assert shown["0.0"] == pytest.approx((0, 2))
    assert shown["n/a"] == pytest.approx((0, 3))
    assert shown["mean 37.5% over 3 of 4 classes"][0] == 37.5
    assert list(np.asarray(axes.lines[0].get_xdata())) == [37.5, 37.5]


def test_without_absent_classes_the_mean_is_plain_and_without_any_there_is_none() -> None:
    assert "mean 50.0%" in texts(plot_class_iou(["a", "b"], [0.4, 0.6], title="").axes[0])
    nothing = texts(plot_class_iou(["a", "b"], [NAN, NAN], title="").axes[0])
    assert nothing.count("n/a") == 2
    assert not any(text.startswith("mean") for text in nothing)


def test_pixel_shares_follow_the_order_of_the_bars() -> None:
    shares = [0.6996, 0.0004, 0.3]
    figure = plot_class_iou(["a", "b", "c"], [0.1, 0.9, 0.5], title="", pixel_share=shares)
    shown = [text for text in texts(figure.axes[0]) if text.endswith("%") and "mean" not in text]
    assert shown == ["<0.1%", "30.0%", "70.0%"]


@pytest.mark.parametrize(
    ("iou", "message"),
    [
        ([0.5], "2 class names"),
        ([0.5, 63.0], "iou must be from 0 to 1, got 63"),
        ([-0.1, 0.5], "0 to 1, got -0.1"),
    ],
)
def test_iou_must_be_fractions_one_a_class(iou: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_class_iou(["a", "b"], iou, title="")


@pytest.mark.parametrize("count", [11, 19, 150, 171])
def test_class_labels_do_not_overlap(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    figure = plot_class_iou(names, np.linspace(0, 1, count), title="IoU")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    gaps = [above.y0 - below.y1 for above, below in pairwise(boxes)]
    assert len(gaps) == count - 1
    assert min(gaps) > 0
    assert min(box.height for box in boxes) > 7  # pixels
