"""Pages: where texts break, and that the page grows with them."""

from pathlib import Path

import numpy as np

from pne_seg.report import page
from tests.report.pictures import pixels


def test_long_texts_are_wrapped_not_cut() -> None:
    font = page._font(15)
    text = "a word " * 30 + "x" * 200
    lines = page._wrap(text, font, 120)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= 120


def test_page_grows_by_the_lines_of_its_heading(tmp_path: Path) -> None:
    cell = page.Cell(np.zeros((10, 10, 3), np.uint8))
    heights = []
    for title in ("one", "word " * 100):
        path = tmp_path / "page.png"
        page.save_page(path, title=title, columns=[""], group=1, rows=[[cell]], legends=[])
        heights.append(pixels(path).shape[0])
    lines = page._wrap("word " * 100, page._font(24, bold=True), 190)  # the narrowest page
    assert heights[1] - heights[0] == 32 * (len(lines) - 1)
