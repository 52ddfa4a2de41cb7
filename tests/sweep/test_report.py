"""The page of a comparison: complete without a network, true to its figures, shown by a browser."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from pne_seg.page.plots import Interval, curve_plot, forest_plot
from pne_seg.sweep.comparison import Comparison
from pne_seg.sweep.report import Disagreement, report_html
from pne_seg.sweep.results import Arm, Result, validation_curve
from tests.page.browser import THEMES, Page, browse, needs_browser


def comparison() -> Comparison:
    generator = np.random.default_rng(0)
    arms = []
    for name, gain in (("cross-entropy", 0.0), ("PNE <τ=1>", 0.01), ("InfoNCE & more", -0.002)):
        arm = Arm(name, {})
        for seed in range(6):
            metrics = {
                metric: 0.5 + gain + float(generator.normal(0, 0.004))
                for metric in ("mIoU", "IoU/road", "IoU/traffic sign", "boundary_mIoU/3px")
            }
            images = {f"{i}.png": 0.5 + gain + 0.01 * i for i in range(20)}
            folder = Path(f"runs/study/{name}/seed{seed}/0")
            arm.runs[seed] = Result(folder, seed, {}, "test", metrics, {}, images, 0.5, 2e9)
        arms.append(arm)
    return Comparison(arms)


def page() -> str:
    compared = comparison()
    curves = {
        arm.name: [{100: 0.2 + seed / 100, 200: 0.4 + seed / 100} for seed in arm.runs]
        for arm in compared.arms
    }
    picture = np.full((30, 40, 3), 200, np.uint8)
    shown = Disagreement("PNE <τ=1>", "a<b>.png", 0, 0.05, (0.4, 0.5), (picture,) * 4)
    command = "python cli.py sweep --set 'a=<1>'"
    return report_html(compared, "study", curves, [shown], command, "torch==2")


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = page()
    pictures = [url.partition(",")[0] for url in Page(text).loads]
    assert pictures == ["data:", "data:image/jpeg;base64", *["data:image/png;base64"] * 3]
    assert "://" not in text
    assert "PNE &lt;τ=1&gt;" in text
    assert "<τ" not in text
    assert "a&lt;b&gt;.png: +5.0 on average; seed 0 is shown." in text
    assert "PNE &lt;τ=1&gt;, mIoU 50.0" in text
    for figure in comparison().differences["mIoU"]:
        assert f"{100 * figure.paired.mean:+.2f}" in text


def test_the_forest_plot_is_to_scale() -> None:
    svg = forest_plot([Interval("a", 1, 0, 2), Interval("b", -1, -1.5, -0.5)], "points", ["red"])
    dots = [float(x) for x in re.findall(r'<circle fill="red" cx="([\d.]+)"', svg)]
    lines = [tuple(map(float, pair)) for pair in re.findall(r'x1="([\d.]+)" x2="([\d.]+)" y1', svg)]
    (zero,) = (float(x) for x in re.findall(r'class="zero" x1="([\d.]+)"', svg))
    unit = dots[0] - zero
    assert unit > 0
    assert dots[1] == pytest.approx(zero - unit, abs=0.2)
    wide = [line for line in lines if line[1] > line[0]]
    assert wide[0] == pytest.approx((zero, zero + 2 * unit), abs=0.2)
    assert wide[1] == pytest.approx((zero - 1.5 * unit, zero - 0.5 * unit), abs=0.2)


def test_curves_are_means_on_bands() -> None:
    svg = curve_plot({"a": [{0: 0.0, 10: 4.0}, {0: 2.0, 10: 8.0, 20: 9.0}]}, "mIoU")
    (mean,) = re.findall(r'<polyline [^>]*points="([^"]+)"', svg)
    (band,) = re.findall(r'<polygon [^>]*points="([^"]+)"', svg)
    heights = [float(point.split(",")[1]) for point in band.split()]
    low_first, high_first, high_last, low_last = heights[3], heights[0], heights[1], heights[2]
    # Shared steps only, and the mean half-way between the two seeds.
    assert len(mean.split()) == 2
    first, last = (float(point.split(",")[1]) for point in mean.split())
    assert first == pytest.approx((low_first + high_first) / 2, abs=0.1)
    assert last == pytest.approx((low_last + high_last) / 2, abs=0.1)
    assert "No curve" in curve_plot({"a": [{}]}, "mIoU")


def test_a_curve_continues_over_resumed_runs(tmp_path: Path) -> None:
    for name, rows in (("0", "1,9,0.1\n2,19,\n2,19,0.2\n"), ("1", "2,19,0.2\n3,29,0.3\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"epoch,step,val/mIoU\n{rows}")
    folders = [tmp_path / "0", tmp_path / "1", tmp_path / "none"]
    assert validation_curve(folders) == {10: 0.1, 20: 0.2, 30: 0.3}


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize(("theme", "scheme"), THEMES)
def test_a_browser_shows_it(tmp_path: Path, width: int, theme: str, scheme: int) -> None:
    file, picture = tmp_path / "report.html", tmp_path / "page.png"
    file.write_text(page())
    browse(file, width, scheme, screenshot=picture)
    shown = cv2.imread(str(picture))
    assert shown is not None
    assert (shown[5, 5].mean() < 60) == (theme == "dark")
    assert shown.std() > 5
