"""Curves, IoU bars and confusion matrices: what stands where, and that they leave no traces."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from pne_seg.report import plot_class_iou, plot_confusion_matrix, plot_curves, plots

NAN = float("nan")


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.findobj(Text)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def some_history() -> plots.History:
    steps = range(200)
    return {
        "train/loss": [(step, 2 + 0.1 * (-1) ** step) for step in steps],
        "train/loss_ce": [(step, 1.0) for step in steps],
        "val/loss": [(99, 1.5), (199, 1.4)],
        "val/mIoU": [(99, 0.25), (149, 0.5), (199, 0.4)],
    }


# ---- curves ----------------------------------------------------------------------------------


def test_curves_are_in_percent_with_the_best_named() -> None:
    losses, scores = plots._figure_curves(some_history(), "A run").axes
    assert scores.lines[0].get_xydata().tolist() == [[99, 25], [149, 50], [199, 40]]  # type: ignore[union-attr]
    assert scores.lines[0].get_marker() == "o"
    assert "best 50.0% at step 149" in texts(scores)
    legend = losses.get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["train/loss", "train/loss_ce", "val/loss"]  # what is missing is left out


def test_noisy_series_is_faint_under_a_smoothed_line() -> None:
    losses, _ = plots._figure_curves({"train/loss": some_history()["train/loss"]}, "").axes
    faint, smooth = losses.lines
    assert faint.get_alpha() == pytest.approx(0.22)
    assert np.ptp(np.asarray(faint.get_ydata())) == pytest.approx(0.2)
    assert np.ptp(np.asarray(smooth.get_ydata())) < 0.03
    assert smooth.get_xdata() == pytest.approx(np.arange(200))


def test_smoothing_is_a_centred_mean() -> None:
    values = np.random.default_rng(0).normal(size=150)

    def mean(numbers: list[float]) -> list[float]:  # a window of 2 on either side
        around = [numbers[max(0, place - 2) : place + 3] for place in range(len(numbers))]
        return [sum(window) / len(window) for window in around]

    assert plots._smooth(values) == pytest.approx(mean(mean(values.tolist())))
    line = np.arange(150.0)
    assert plots._smooth(line)[4:-4] == pytest.approx(line[4:-4])  # no lag


def test_thinning_keeps_ends_and_extremes() -> None:
    values = np.random.default_rng(0).normal(size=50_123)
    values[31_234], values[31_235] = 50, -50
    steps, kept = plots._thin(np.arange(50_123.0), values)
    assert 1000 < len(steps) < 2500
    assert kept == pytest.approx(values[steps.astype(int)])
    assert (np.diff(steps) > 0).all()
    assert {0, 31_234, 31_235, 50_122} <= set(steps.astype(int).tolist())
    few = plots._thin(np.arange(10.0), np.ones(10))
    assert len(few[0]) == 10


def test_values_that_are_not_finite_are_left_out() -> None:
    history = {
        "train/loss": [(2.0, NAN), (0.0, 3.0), (1.0, float("inf"))],
        "val/mIoU": [(0.0, NAN), (5.0, 0.3)],
        "val/loss": [(0.0, NAN)],
    }
    losses, scores = plots._figure_curves(history, "").axes
    assert [line.get_xydata().tolist() for line in losses.lines] == [[[0, 3]]]  # type: ignore[union-attr]
    assert losses.lines[0].get_marker() == "o"  # a single point is a dot
    assert "best 30.0% at step 5" in texts(scores)


def test_spike_does_not_flatten_the_losses_and_small_values_get_a_log_scale() -> None:
    spiky = [(step, 500.0 if step == 300 else 2.0) for step in range(1000)]
    losses = plots._figure_curves({"train/loss": spiky}, "").axes[0]
    assert losses.get_ylim()[1] < 50
    falling = [(step, 10 * 0.99**step) for step in range(1000)]
    losses = plots._figure_curves({"train/loss": falling}, "").axes[0]
    assert losses.get_yscale() == "log"
    zero = [(step, 0.0) for step in range(100)]
    losses = plots._figure_curves({"train/loss": falling, "train/loss_ce": zero}, "").axes[0]
    assert losses.get_yscale() == "linear"


def test_empty_history_says_so(tmp_path: Path) -> None:
    losses, scores = plots._figure_curves({}, "").axes
    assert "no loss logged yet" in texts(losses)
    assert "no validation yet" in texts(scores)
    plot_curves({"train/loss": []}, path=tmp_path / "empty.png", title="Nothing")
    assert pixels(tmp_path / "empty.png").size


# ---- IoU of each class -----------------------------------------------------------------------


def test_bars_are_sorted_and_as_long_as_the_iou() -> None:
    figure = plots._figure_class_iou(["a", "b", "c", "d"], [0.25, NAN, 0.875, 0.0], "IoU")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [87.5, 25, 0, 0]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "d", "b"]
    assert axes.yaxis_inverted()  # the first is on top
    shown = {text.get_text(): text.xy for text in axes.texts if hasattr(text, "xy")}
    assert shown["87.5"] == (87.5, 0)
    assert shown["25.0"] == (25, 1)
    assert shown["0.0"] == (0, 2)
    assert shown["n/a"] == (0, 3)
    assert shown["mean 37.5% over 3 of 4 classes"][0] == 37.5
    assert list(np.asarray(axes.lines[0].get_xdata())) == [37.5, 37.5]


def test_without_absent_classes_the_mean_is_plain_and_without_any_there_is_none() -> None:
    assert "mean 50.0%" in texts(plots._figure_class_iou(["a", "b"], [0.4, 0.6], "").axes[0])
    nothing = texts(plots._figure_class_iou(["a", "b"], [NAN, NAN], "").axes[0])
    assert nothing.count("n/a") == 2
    assert not any(text.startswith("mean") for text in nothing)


def test_pixel_shares_follow_the_order_of_the_bars() -> None:
    figure = plots._figure_class_iou(["a", "b", "c"], [0.1, 0.9, 0.5], "", [0.6996, 0.0004, 0.3])
    shown = [text for text in texts(figure.axes[0]) if text.endswith("%") and "mean" not in text]
    assert shown == ["<0.1%", "30.0%", "70.0%"]


@pytest.mark.parametrize(
    ("iou", "message"),
    [([0.5], "2 class names"), ([0.5, 63.0], "63; fractions"), ([-0.1, 0.5], "fractions")],
)
def test_iou_must_be_fractions_one_a_class(iou: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots._figure_class_iou(["a", "b"], iou, "")


@pytest.mark.parametrize("count", [11, 19, 150, 171])
def test_class_labels_do_not_overlap(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    figure = plots._figure_class_iou(names, np.linspace(0, 1, count), "IoU")
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    gaps = [above.y0 - below.y1 for above, below in pairwise(boxes)]
    assert len(gaps) == count - 1
    assert min(gaps) > 0
    assert min(box.height for box in boxes) > 7  # pixels


# ---- confusion matrix ------------------------------------------------------------------------


def test_rows_are_percentages_of_the_label() -> None:
    figure = plots._figure_confusion_matrix([[6, 2, 0], [0, 0, 0], [1, 0, 9]], ["a", "b", "c"], "")
    axes = figure.axes[0]
    shown = axes.images[0].get_array()
    assert shown is not None
    filled = np.ma.filled(shown, NAN)
    assert filled[0].tolist() == [75, 25, 0]
    assert np.isnan(filled[1]).all()  # no pixel of this label: gray
    assert filled[2].tolist() == [10, 0, 90]
    cells = {text.get_position(): text.get_text() for text in axes.texts if _in_cell(text)}
    assert cells == {(0, 0): "75.0", (1, 0): "25.0", (0, 2): "10.0", (2, 2): "90.0"}
    listed = texts(axes)
    assert listed[listed.index("25.0%") + 1] == "a → b"  # label → prediction
    assert listed[listed.index("10.0%") + 1] == "c → a"
    assert "gray rows: 1 class does not occur" in listed


def _in_cell(text: Text) -> bool:
    return not hasattr(text, "xyann")


def test_largest_confusions_come_first_and_leave_out_the_diagonal() -> None:
    percent = np.array([[90, 4, 6.0], [0, 100, 0], [NAN, NAN, NAN]])
    assert plots._largest_confusions(percent) == [(0, 2), (0, 1)]
    many = np.random.default_rng(0).random((30, 30))
    found = plots._largest_confusions(many)
    off_diagonal = many[~np.eye(30, dtype=bool)]
    assert [many[place] for place in found] == sorted(off_diagonal, reverse=True)[:8]


@pytest.mark.parametrize("count", [20, 21, 171])
def test_ticks_are_thinned_and_large_matrices_not_annotated(count: int) -> None:
    names = [f"class {index}" for index in range(count)]
    axes = plots._figure_confusion_matrix(np.ones((count, count), int), names, "").axes[0]
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
        (np.array([[1, -1], [0, 1]]), "not negative"),
        (np.array([[1, NAN], [0, 1]]), "finite"),
    ],
)
def test_bad_matrix_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots._figure_confusion_matrix(matrix, ["a", "b"], "")


# ---- files -----------------------------------------------------------------------------------

DRAWINGS: dict[str, Callable[[Path], None]] = {
    "curves": lambda path: plot_curves(some_history(), path=path, title="a_b $x^2$"),
    "iou": lambda path: plot_class_iou(
        ["a_$b$", "c", "d"], [0.5, NAN, 1], path=path, title="IoU", pixel_share=[0.5, 0, 0.5]
    ),
    "confusion": lambda path: plot_confusion_matrix(
        [[5, 1], [0, 3]], ["a_$b$", "c"], path=path, title="Confusion"
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_ignore_the_users_style_and_leave_it_alone(name: str, tmp_path: Path) -> None:
    draw = DRAWINGS[name]
    draw(tmp_path / "deep" / "er" / "plain.png")
    plain = pixels(tmp_path / "deep" / "er" / "plain.png")
    assert plain.shape[0] > 250
    assert plain.shape[1] > 700
    assert (plain[0] == 255).all()
    assert (plain[-1] == 255).all()

    own = {"savefig.transparent": True, "figure.constrained_layout.use": True, "font.size": 30}
    with mpl.style.context(["ggplot", "dark_background", own]):
        before = mpl.rcParams.copy()
        draw(tmp_path / "styled.png")
        assert mpl.rcParams.copy() == before  # reading single items would choose a backend
    assert np.array_equal(pixels(tmp_path / "styled.png"), plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "styled.png"]


def test_long_names_widen_the_picture(tmp_path: Path) -> None:
    widths = []
    for number, name in enumerate(["short", "a very long class name " * 6]):
        for kind, matrix in (("iou", False), ("confusion", True)):
            path = tmp_path / f"{kind}{number}.png"
            if matrix:
                plot_confusion_matrix(np.eye(2), [name, "b"], path=path, title="")
            else:
                plot_class_iou([name, "b"], [0.5, 0.5], path=path, title="")
            picture = pixels(path)
            assert (picture[:, :4] == 255).all()  # nothing touches the edges
            assert (picture[:, -4:] == 255).all()
            widths.append(picture.shape[1])
    assert widths[2] > widths[0] + 500
    assert widths[3] > widths[1] + 300


def test_threads_draw_the_same_pictures(tmp_path: Path) -> None:
    jobs = [
        (draw, tmp_path / f"{name}{copy}.png") for copy in "ab" for name, draw in DRAWINGS.items()
    ]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda job: job[0](job[1]), jobs))
    for name in DRAWINGS:
        assert (tmp_path / f"{name}a.png").read_bytes() == (tmp_path / f"{name}b.png").read_bytes()


def test_drawing_loads_no_pyplot_and_sets_no_backend(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from pne_seg import report
folder = Path(sys.argv[1])
report.plot_curves({"val/mIoU": [(1, 0.5)]}, path=folder / "1.png", title="")
report.plot_class_iou(["a"], [0.5], path=folder / "2.png", title="")
report.plot_confusion_matrix([[1]], ["a"], path=folder / "3.png", title="")
report.training_mosaic([np.zeros((8, 8, 3), np.uint8)], [np.zeros((8, 8), int)], class_names=["a"],
                       palette=[[9, 9, 9]], ignore_index=255, path=folder / "4.png", title="")
import matplotlib
chosen = dict.__getitem__(matplotlib.rcParams, "backend")  # plainly read, it would be chosen now
print("matplotlib.pyplot" in sys.modules, isinstance(chosen, str))
"""
    # The variable would name a backend from the start.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["False", "False"]
    assert len(list(tmp_path.iterdir())) == 4
