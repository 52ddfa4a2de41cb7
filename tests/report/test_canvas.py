"""All plots: the user's style neither shows nor changes, names have room, threads may draw."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pytest

from pne_seg.report import plot_class_iou, plot_confusion_matrix, plot_curves
from tests.report.pictures import pixels, some_history

NAN = float("nan")

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
