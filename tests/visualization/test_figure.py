"""All plots: the user's style neither shows nor changes, names have room, threads may draw."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure

from pne_seg.visualization import (
    Embeddings,
    plot_class_iou,
    plot_confusion_matrix,
    plot_curves,
    plot_embeddings,
    plot_label_histogram,
    save_figure,
    validation_mosaic,
)
from pne_seg.visualization.figure import figure_with_axes, wrap
from tests.visualization.pictures import PALETTE, classes, flat, pixels, some_history

NAN = float("nan")
NAMES = ["a_$b$", "_c", "$x^$"]  # a dollar sign is no formula

DRAWINGS: dict[str, Callable[[], Figure]] = {
    "curves": lambda: plot_curves(some_history(), title="a_b $x^2$"),
    "iou": lambda: plot_class_iou(NAMES, [0.5, NAN, 1], title="IoU", pixel_share=[0.5, 0, 0.5]),
    "confusion": lambda: plot_confusion_matrix([[5, 1, 1], [0, 3, 1], [0, 0, 0]], NAMES, title="C"),
    "histogram": lambda: plot_label_histogram(
        classes(NAMES), {"train": [9, 1, 0], "val": [1, 2, 3]}, title="Pixels"
    ),
    "mosaic": lambda: validation_mosaic(
        [flat(30, 40, 99)],
        [np.ones((30, 40), int)],
        [np.zeros((30, 40), int)],
        ["a_$b$.png"],
        classes(NAMES),
        title="Mosaic",
    ),
    "embeddings": lambda: plot_embeddings(
        [Embeddings("step $0", np.eye(3), np.arange(3), np.zeros(3))] * 2,
        class_names=NAMES,
        palette=PALETTE,
        title="Embeddings",
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_ignore_the_users_style_and_leave_it_alone(name: str, tmp_path: Path) -> None:
    draw = DRAWINGS[name]
    save_figure(draw(), tmp_path / "deep" / "er" / "plain.png")
    plain = pixels(tmp_path / "deep" / "er" / "plain.png")
    assert plain.shape[0] > 250
    assert plain.shape[1] > 700
    assert (plain[0] == 255).all()
    assert (plain[-1] == 255).all()

    own = {"savefig.transparent": True, "figure.constrained_layout.use": True, "font.size": 30}
    with mpl.style.context(["ggplot", "dark_background", own]):
        before = mpl.rcParams.copy()
        save_figure(draw(), tmp_path / "styled.png")
        assert mpl.rcParams.copy() == before  # reading single items would choose a backend
    assert np.array_equal(pixels(tmp_path / "styled.png"), plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "styled.png"]


def test_long_names_widen_the_picture(tmp_path: Path) -> None:
    widths = []
    for number, name in enumerate(["short", "a very long class name " * 6]):
        for kind, matrix in (("iou", False), ("confusion", True)):
            path = tmp_path / f"{kind}{number}.png"
            if matrix:
                figure = plot_confusion_matrix(np.eye(2), [name, "b"], title="")
            else:
                figure = plot_class_iou([name, "b"], [0.5, 0.5], title="")
            save_figure(figure, path)
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
        list(pool.map(lambda job: save_figure(job[0](), job[1]), jobs))
    for name in DRAWINGS:
        assert (tmp_path / f"{name}a.png").read_bytes() == (tmp_path / f"{name}b.png").read_bytes()


def test_long_texts_are_wrapped_not_cut() -> None:
    text = "a word " * 30 + "x" * 200
    lines = wrap(text, 2.0, 9)
    assert lines.replace("\n", "").replace(" ", "") == text.replace(" ", "")
    figure, (axes,) = figure_with_axes([1], 1)
    written = axes.text(0, 0, lines, fontsize=9, fontfamily="DejaVu Sans")
    assert written.get_window_extent().width / figure.dpi < 2.2


def test_a_long_title_makes_the_picture_taller_not_wider(tmp_path: Path) -> None:
    sizes = []
    for title in ("one", "word " * 100):
        path = tmp_path / "picture.png"
        save_figure(plot_class_iou(["a", "b"], [0.5, 0.5], title=title), path)
        sizes.append(pixels(path).shape)
    assert sizes[1][0] > sizes[0][0] + 100
    assert abs(sizes[1][1] - sizes[0][1]) < 40
