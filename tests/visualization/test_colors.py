"""Masks, overlays and maps of wrong pixels, against colors worked out by hand."""

import numpy as np
import pytest

from pne_seg.visualization import color_labels, error_map, overlay
from pne_seg.visualization.colors import IGNORED, WRONG
from tests.visualization.pictures import PALETTE, flat


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_each_label_takes_its_color_and_ignored_is_black(dtype: type) -> None:
    labels: np.ndarray = np.array([[0, 1], [2, 255]]).astype(dtype)
    expected = [[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [0, 0, 0]]]
    picture = color_labels(labels, PALETTE, 255)
    assert picture.dtype == np.uint8
    assert picture.tolist() == expected


def test_negative_and_inner_ignore_index() -> None:
    assert color_labels(np.array([[-100, 1]]), PALETTE, -100).tolist() == [[[0] * 3, PALETTE[1]]]
    assert color_labels(np.array([[0, 1]]), PALETTE, 0).tolist() == [[[0] * 3, PALETTE[1]]]


@pytest.mark.parametrize(("bad", "ignore"), [(3, 255), (-1, 255), (255, 11)])
def test_label_out_of_range_is_named(bad: int, ignore: int) -> None:
    with pytest.raises(ValueError, match=rf"hold {bad}, .*0 to 2.*ignore index \({ignore}\)"):
        color_labels(np.array([[0, bad]]), PALETTE, ignore)


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(ValueError, match="integers, got float64"):
        color_labels(np.zeros((2, 2)), PALETTE, 255)
    with pytest.raises(ValueError, match=r"\(height, width\).*\(2, 2, 1\)"):
        color_labels(np.zeros((2, 2, 1), int), PALETTE, 255)
    with pytest.raises(ValueError, match=r"shape \(classes, 3\)"):
        color_labels(np.zeros((2, 2), int), [1, 2, 3], 255)
    with pytest.raises(ValueError, match="0 to 255"):
        color_labels(np.zeros((2, 2), int), [[0, 0, 300]], 255)
    with pytest.raises(ValueError, match="differ in size"):
        overlay(flat(2, 2, 0), np.zeros((2, 3), int), PALETTE, 255)
    with pytest.raises(ValueError, match="uint8"):
        error_map(np.zeros((2, 2, 3)), np.zeros((2, 2), int), np.zeros((2, 2), int), 255)  # type: ignore[arg-type]


def test_overlay_mixes_image_and_color() -> None:
    image, labels = flat(1, 2, 100), np.array([[0, 255]])
    half = overlay(image, labels, PALETTE, 255)
    assert half.tolist() == [[[175, 55, 55], [50, 50, 50]]]
    quarter = overlay(image, labels, PALETTE, 255, opacity=0.25)
    assert quarter.tolist() == [[[138, 78, 78], [75, 75, 75]]]  # 137.5 and 77.5 to even
    assert overlay(image, labels, PALETTE, 255, opacity=0).tolist() == image.tolist()
    full = overlay(image, labels, PALETTE, 255, opacity=1)
    assert full.tolist() == color_labels(labels, PALETTE, 255).tolist()
    with pytest.raises(ValueError, match="opacity"):
        overlay(image, labels, PALETTE, 255, opacity=1.5)


def test_error_map_pixel_by_pixel() -> None:
    image = np.array([[[200, 200, 200], [200, 200, 200], [0, 0, 0], [255, 0, 0]]], np.uint8)
    labels = np.array([[1, 1, 255, 2]], np.uint8)
    prediction = np.array([[1, 0, 0, 2]], np.int64)
    picture = error_map(image, labels, prediction, 255)
    assert picture[0, 0].tolist() == [104] * 3  # 32 + 0.36 · 200
    assert picture[0, 1].tolist() == list(WRONG)
    assert picture[0, 2].tolist() == list(IGNORED)  # a wrong guess there does not count
    assert picture[0, 3].tolist() == [59] * 3  # 32 + 0.36 · 0.299 · 255
    assert picture.dtype == np.uint8
