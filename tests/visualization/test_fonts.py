"""Class names in any script: drawn, or replaced and reported in one line, never as boxes."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest

from pne_seg.description import DataDescription
from pne_seg.visualization import (
    fonts,
    plot_class_iou,
    plot_confusion_matrix,
    plot_label_histogram,
    plot_legend,
    save_figure,
    training_mosaic,
)

NAMES = (
    "猫",
    "سيارة",
    "हिन्दी",
    "🐈\u200d⬛",
    "_hidden",
    "a$b$ 50% <b>x</b> / \\alpha",
    "two\nlines",
    "",
    "e\u0301t\u0300e",
    "x" * 300,
    "?",
)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    fonts._drawable.cache_clear()


def described(names: tuple[str, ...]) -> DataDescription:
    palette = tuple((20 * index, 90, 200 - index) for index in range(len(names)))
    return DataDescription(
        data="数据", class_names=names, palette=palette, ignore_index=255, resize_base=None
    )


def test_every_picture_is_drawn_without_missing_glyphs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, count = described(NAMES), len(NAMES)
    labels = np.arange(count, dtype=np.uint8).repeat(20).reshape(count, 20)
    image = np.zeros((count, 20, 3), np.uint8)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for index, figure in enumerate(
            [
                plot_class_iou(NAMES, np.linspace(0, 1, count), title="图"),
                plot_label_histogram(data, {"train": np.arange(1, count + 1)}, title="图"),
                plot_confusion_matrix(np.ones((count, count)), NAMES, title="图"),
                plot_legend(NAMES, data.palette),
                training_mosaic([image], [labels], data, title="图"),
            ]
        ):
            save_figure(figure, tmp_path / f"{index}.png")
    said = [record.getMessage() for record in caplog.records if record.name == fonts.__name__]
    assert len(said) <= 1  # none where fonts for all of it are installed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\U000f0000", "class 2"),  # of no script: no font has it
        ("ab\U000f0000", "class 2"),
        ("", "class 2"),
        (" \n", "class 2"),
        ("two\nlines", "two lines"),
        ("a\x07b", "a b"),
        ("?", "?"),
        ("naïve ж א", "naïve ж א"),
        ("a\ufe0f", "a"),
    ],
)
def test_what_is_written(name: str, shown: str) -> None:
    assert fonts.drawable(["x", "y", name])[2] in (shown, name if name.strip() else shown)
    if "\U000f0000" in name or not name.strip():
        assert fonts.drawable(["x", "y", name])[2] == shown


def test_lost_names_are_reported_once_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    lost = tuple(f"{index}\U000f0000" for index in range(9))
    for _ in range(3):
        assert fonts.drawable(lost) == [f"class {index}" for index in range(9)]
    (record,) = caplog.records
    assert "and 6 more: pictures show the number" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_font_that_has_the_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts._font_of.cache_clear()
    monkeypatch.setattr(fonts, "_fonts", lambda: [(fonts.FONT, "usual"), ("Other Sans", "other")])
    letters = {"usual": frozenset(map(ord, "ab")), "other": frozenset(map(ord, "猫"))}
    monkeypatch.setattr(fonts, "_letters", letters.__getitem__)
    assert fonts.families("ab猫") == [fonts.FONT, "Other Sans"]
    assert fonts.drawable(["a猫"]) == ["a猫"]
    fonts._font_of.cache_clear()


def test_a_legend_shows_names_that_begin_with_an_underscore() -> None:
    figure = plot_legend(["_hidden", "b"], [(0, 0, 0), (9, 9, 9)])
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["0  _hidden", "1  b"]
