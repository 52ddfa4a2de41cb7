"""Confusion matrices: rows in percent, the largest confusions, and names that fit."""

import numpy as np
import pytest
from matplotlib.text import Text

from pne_seg.visualization import class_plots, plot_confusion_matrix
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
    assert class_plots.largest_confusions(percent) == [(0, 2), (0, 1)]
    many = np.random.default_rng(0).random((30, 30))
    found = class_plots.largest_confusions(many)
    off_diagonal = many[~np.eye(30, dtype=bool)]
    assert [many[place] for place in found] == sorted(off_diagonal, reverse=True)[:8]


@pytest.mark.parametrize("count", [20, 21, 171])
def test_ticks_are_thinned_and_large_matrices_not_annotated(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    axes = plot_confusion_matrix(np.ones((count, count), int), names, title="").axes[0]
    cells = [text for text in axes.texts if _in_cell(text)]
    assert len(cells) == (count * count if count <= 20 else 0)
    for labels, ticks in (
        (axes.get_xticklabels(), axes.get_xticks()),
        (axes.get_yticklabels(), axes.get_yticks()),
    ):
        assert [label.get_text() for label in labels] == [names[int(tick)] for tick in ticks]
        assert len(ticks) == count if count < 30 else 40 < len(ticks) < 90


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
