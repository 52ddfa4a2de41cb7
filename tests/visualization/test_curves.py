"""Curves: which lines are drawn, on what scales, and what is left out."""

from pathlib import Path

import numpy as np
import pytest

from pne_seg.visualization import plot_curves, save_figure
from tests.visualization.pictures import pixels, some_history, texts

NAN = float("nan")


def test_curves_are_in_percent_with_the_best_named() -> None:
    figure = plot_curves(some_history(), title="A run")
    scores = figure.axes[1]
    assert scores.lines[0].get_xydata().tolist() == [[99, 25], [149, 50], [199, 40]]  # type: ignore[union-attr]
    assert scores.lines[0].get_marker() == "o"
    assert "best 50.0% at step 149" in texts(scores)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["train/loss", "train/loss_ce", "val/loss"]  # what is missing is left out


def test_noisy_series_is_faint_under_a_smoothed_line() -> None:
    losses, _ = plot_curves({"train/loss": some_history()["train/loss"]}, title="").axes
    faint, smooth = losses.lines
    assert faint.get_alpha() == pytest.approx(0.22)
    assert np.ptp(np.asarray(faint.get_ydata())) == pytest.approx(0.2)
    assert np.ptp(np.asarray(smooth.get_ydata())) < 0.03
    assert smooth.get_xdata() == pytest.approx(np.arange(200))


def test_values_that_are_not_finite_are_left_out() -> None:
    history = {
        "train/loss": [(2.0, NAN), (0.0, 3.0), (1.0, float("inf"))],
        "val/mIoU": [(0.0, NAN), (5.0, 0.3)],
        "val/loss": [(0.0, NAN)],
    }
    losses, scores = plot_curves(history, title="").axes
    assert [line.get_xydata().tolist() for line in losses.lines] == [[[0, 3]]]  # type: ignore[union-attr]
    assert losses.lines[0].get_marker() == "o"  # a single point is a dot
    assert "best 30.0% at step 5" in texts(scores)


def test_spike_does_not_flatten_the_losses_and_small_values_get_a_log_scale() -> None:
    spiky = [(step, 500.0 if step == 300 else 2.0) for step in range(1000)]
    losses = plot_curves({"train/loss": spiky}, title="").axes[0]
    assert losses.get_ylim()[1] < 50
    falling = [(step, 10 * 0.99**step) for step in range(1000)]
    losses = plot_curves({"train/loss": falling}, title="").axes[0]
    assert losses.get_yscale() == "log"
    zero = [(step, 0.0) for step in range(100)]
    losses = plot_curves({"train/loss": falling, "train/loss_ce": zero}, title="").axes[0]
    assert losses.get_yscale() == "linear"


def test_empty_history_says_so(tmp_path: Path) -> None:
    losses, scores = plot_curves({}, title="").axes
    assert "no loss logged yet" in texts(losses)
    assert "no validation yet" in texts(scores)
    save_figure(plot_curves({"train/loss": []}, title="Nothing"), tmp_path / "empty.png")
    assert pixels(tmp_path / "empty.png").size


def test_every_loss_that_was_logged_is_drawn_in_a_color_of_its_own() -> None:
    names = ("train/loss_dice", "train/loss", "train/loss_ohem", "train/loss_contrast")
    history = {name: [(0.0, 1.0), (1.0, 0.5)] for name in names}
    figure = plot_curves(history, title="")
    (legend,), losses = figure.legends, figure.axes[0]
    assert {text.get_text() for text in legend.get_texts()} == set(names)
    assert len({line.get_color() for line in losses.lines}) == len(names)


@pytest.mark.parametrize("steps", [[1], [1, 2], [1, 2, 3, 4], [10, 20, 30, 40]])
def test_axes_of_a_short_run_begin_at_zero_with_whole_steps(
    steps: list[int], tmp_path: Path
) -> None:
    history = {
        "train/loss": [(step, 2.0) for step in steps],
        "val/mIoU": [(step, 0.4 * number) for number, step in enumerate(steps)],
    }
    figure = plot_curves(history, title="")
    save_figure(figure, tmp_path / "curves.png")
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low == 0
        assert steps[-1] < high <= 1.04 * steps[-1] + 1
        assert axes.get_ylim()[0] >= 0  # no loss and no mIoU here is below it
        assert all(tick == int(tick) >= 0 for tick in axes.get_xticks() if low <= tick <= high)


def test_curves_of_a_run_that_was_resumed_late_begin_there() -> None:
    history = {"train/loss": [(step, 2.0) for step in range(9000, 10001, 10)]}
    low, high = plot_curves(history, title="").axes[0].get_xlim()
    assert 8900 < low < 9000
    assert 10000 < high < 10100
