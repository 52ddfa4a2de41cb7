"""Confusion matrices: rows in percent, the largest confusions, and names that fit."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

from pne_seg.visualization import confusion_plot, plot_confusion_matrix, save_figure
from tests.visualization.pictures import texts

NAN = float("nan")


def _in_cell(text: Text) -> bool:
    return not hasattr(text, "xyann")


def test_rows_are_percentages_of_the_label() -> None:
    figure = plot_confusion_matrix([[6, 2, 0], [0, 0, 0], [1, 0, 9]], ["a", "b", "c"], title="")
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    filled = np.ma.filled(shown, NAN)
    assert filled[0].tolist() == [75, 25, 0]
    assert np.isnan(filled[1]).all()  # no pixel of this label: gray
    assert filled[2].tolist() == [10, 0, 90]
    cells = {text.get_position(): text.get_text() for text in axes.texts if _in_cell(text)}
    assert cells == {(0, 0): "75.0", (1, 0): "25.0", (0, 2): "10.0", (2, 2): "90.0"}
    (listed,) = (text for text in texts(axes) if "a → b" in text)
    shares = [line.split() for line in listed.split("\n")[:2]]
    assert shares == [["25.0%", "a", "→", "b"], ["10.0%", "c", "→", "a"]]  # label → prediction
    assert listed.endswith("gray rows: 1 class does not occur")


def test_largest_confusions_come_first_and_leave_out_the_diagonal() -> None:
    percent = np.array([[90, 4, 6.0], [0, 100, 0], [NAN, NAN, NAN]])
    assert confusion_plot.largest_confusions(percent, 8) == [(0, 2), (0, 1)]
    many = np.random.default_rng(0).random((30, 30))
    found = confusion_plot.largest_confusions(many, 8)
    off_diagonal = many[~np.eye(30, dtype=bool)]
    assert [many[place] for place in found] == sorted(off_diagonal, reverse=True)[:8]


@pytest.mark.parametrize("count", [20, 21, 86])
def test_every_class_is_named_where_there_is_room(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    axes = plot_confusion_matrix(np.ones((count, count), int), names, title="").axes[0]
    cells = [text for text in axes.texts if _in_cell(text)]
    assert len(cells) == (count * count if count <= 20 else 0)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == names


def test_of_many_classes_those_of_the_largest_confusions_are_named(tmp_path: Path) -> None:
    count = 150
    names = [f"class {index}" for index in range(count)]
    matrix = np.diag(np.full(count, 1000))
    confused = {(3, 140), (4, 141), (5, 141), (70, 2), (149, 0)}
    for number, place in enumerate(sorted(confused)):
        matrix[place] = 500 + number
    figure = plot_confusion_matrix(matrix, names, title="")
    axes = figure.axes[0]
    lined = [text for text in axes.texts if isinstance(text, Annotation) and text.arrow_patch]
    rows = {text.get_text() for text in lined if text.xy[0] == 0 and text.get_rotation() == 0}
    columns = {text.get_text() for text in lined if text.get_rotation() == 90}
    assert rows == {names[row] for row, _ in confused}
    assert columns == {names[column] for _, column in confused}
    (boxes,) = axes.collections
    assert {(y, x) for x, y in np.asarray(boxes.get_offsets()).tolist()} == confused
    # Each name stands by itself, though 3, 4 and 5, and 140 and 141, are neighbors.
    save_figure(figure, tmp_path / "matrix.png")
    assert not any(
        _text_box(one).overlaps(_text_box(other)) for one, other in combinations(lined, 2)
    )


def _text_box(text: Text) -> Bbox:
    """The box of a text without its line."""
    return Text.get_window_extent(text)


def test_names_are_spread_by_as_little_as_possible() -> None:
    assert confusion_plot.spread([0, 10, 20], 2).tolist() == [0, 10, 20]
    assert confusion_plot.spread([4, 5, 6, 50], 2).tolist() == [3, 5, 7, 50]
    assert confusion_plot.spread([], 2).tolist() == []
    places = np.sort(np.random.default_rng(0).uniform(0, 50, 12))
    moved = confusion_plot.spread(places.tolist(), 3)
    assert np.diff(moved).min() > 3 - 1e-9
    expected = isotonic_regression(places - 3 * np.arange(12)).x + 3 * np.arange(12)
    assert moved == pytest.approx(expected)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((2, 3)), "shape"),
        (np.ones((3, 3)), "2 class names"),
        (np.array([[1, -1], [0, 1]]), "finite and not negative, got -1"),
        (np.array([[1, NAN], [0, 1]]), "finite and not negative, got nan"),
    ],
)
def test_bad_matrix_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_confusion_matrix(matrix, ["a", "b"], title="")
