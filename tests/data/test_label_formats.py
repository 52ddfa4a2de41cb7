"""Label tables and colors against plain loops, dictionaries and other packages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.helpers import labels as cityscapes_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from pne_seg.data import Cityscapes, coco_stuff
from pne_seg.data.label_formats import (
    IGNORE,
    ColorLabels,
    IndexLabels,
    LabelFormat,
)
from pne_seg.data.mat import MatLabels
from pne_seg.errors import UserError
from tests.data.held import Held, saved
from tests.data.miniature import write_cityscapes

ALL = np.arange(256, dtype=np.uint8).reshape(16, 16)


def refused_values(table: IndexLabels) -> list[int]:
    """Which of the 256 values are refused, one image for each."""
    refused = []
    for value in range(256):
        try:
            table.apply(np.full((2, 3), value, np.uint8), "x.png")
        except UserError:
            refused.append(value)
    return refused


# ---- tables ------------------------------------------------------------------------------


def test_a_map_by_hand() -> None:
    table = IndexLabels({7: 0, 3: 1, 200: 2, 8: 1}, ignored=[0, 255])
    labels = np.array([[7, 3, 200], [0, 255, 8]], np.uint8)
    mapped = table.apply(labels, "x.png")
    assert mapped.tolist() == [[0, 1, 2], [255, 255, 1]]
    assert mapped.dtype == np.uint8
    assert labels.tolist() == [[7, 3, 200], [0, 255, 8]]
    mapped[:] = 9  # an array of its own
    assert table.apply(labels, "x.png").tolist() == [[0, 1, 2], [255, 255, 1]]
    assert refused_values(table) == sorted(set(range(256)) - {0, 3, 7, 8, 200, 255})


def test_class_indices_in_the_order_of_their_values() -> None:
    table = IndexLabels([30, 10, 20], ignored=[0], ignore_index=3, hint="Mend it.")
    assert table.apply(np.array([[10, 20, 30, 0]], np.uint8), "x.png").tolist() == [[1, 2, 0, 3]]
    with pytest.raises(UserError, match=r"Mend it\.$"):
        table.apply(np.array([[255]], np.uint8), "x.png")


@settings(max_examples=40)
@given(
    st.dictionaries(st.integers(0, 255), st.integers(0, 253), max_size=256),
    st.sets(st.integers(0, 255)),
    st.sampled_from([254, 255]),
)
def test_any_table(classes: dict[int, int], ignored: set[int], ignore_index: int) -> None:
    ignored -= set(classes)
    table = IndexLabels(classes, ignored, ignore_index)
    plain = {**classes, **dict.fromkeys(ignored, ignore_index)}
    assert table.valid == set(plain)
    for value in range(256):
        if value in plain:
            assert table.apply(np.array([[value]], np.uint8), "x")[0, 0] == plain[value]
        else:
            with pytest.raises(UserError):
                table.apply(np.array([[value]], np.uint8), "x")


def test_254_classes_are_the_most() -> None:
    table = IndexLabels(range(254), ignored=[255])
    np.testing.assert_array_equal(table.apply(ALL[:15], "x"), ALL[:15])
    assert refused_values(table) == [254]
    with pytest.raises(ValueError, match="255 classes; 8-bit labels hold 254"):
        IndexLabels(range(255), ignored=[255])


@pytest.mark.parametrize(
    ("classes", "ignored", "said"),
    [
        ({256: 0}, [], "0 to 255"),
        ({-1: 0}, [], "0 to 255"),
        ({0: 0}, [300], "0 to 255"),
        ({5: 0, 6: 1}, [6], "6 stands for a class and is ignored"),
        ({5: 255}, [], "index 255 is the ignore value"),
    ],
)
def test_tables_that_cannot_be(classes: dict[int, int], ignored: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        IndexLabels(classes, ignored)


@pytest.mark.parametrize(
    ("values", "ignored", "valid"),
    [
        (range(11), [], "0 to 10"),
        (range(11), [11, 255], "0 to 11 and 255"),
        ([0, 255], [128], "0, 128 and 255"),
        ([3], [], "3"),
        ([1, 2, 5, 7, 8, 9], [100], "1 to 2, 5, 7 to 9 and 100"),
    ],
)
def test_the_message_names_value_count_and_what_is_valid(
    values: list[int], ignored: list[int], valid: str
) -> None:
    table = IndexLabels(values, ignored)
    labels = np.full((4, 5), values[0], np.uint8)
    labels[1:3, 2] = 77
    labels[0, 0] = 99
    with pytest.raises(UserError) as caught:
        table.apply(labels, "a/b.png")
    start = f"a/b.png: label 77 (2 pixels) is no class: valid are {valid}"
    assert str(caught.value) == f"{start}, but 99 occurs too. Correct the labels."
    labels[3, 3], labels[3, 4] = 98, 177
    with pytest.raises(UserError) as caught:
        table.apply(labels, "a/b.png")
    assert str(caught.value) == f"{start}, but 98 to 99 and 177 occur too. Correct the labels."
    labels[labels > 77] = values[0]
    with pytest.raises(UserError) as caught:
        table.apply(labels, "a/b.png")
    assert str(caught.value) == f"{start}. Correct the labels."


def test_cityscapes_as_its_own_scripts_have_it(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    table = Cityscapes(tmp_path, num_workers=0).pairs("train").label_format
    assert isinstance(table, IndexLabels)
    for label in cityscapes_labels.labels:
        stored = label.id % 256  # −1 in 8 bits
        mapped = table.apply(np.array([[stored]], np.uint8), "x")
        assert mapped[0, 0] == (IGNORE if label.trainId in (-1, 255) else label.trainId), label.name
    known = {label.id % 256 for label in cityscapes_labels.labels}
    assert refused_values(table) == sorted(set(range(256)) - known)


def test_coco_stuff_10k_is_164k_shifted_by_one() -> None:
    small, large = coco_stuff.LABELS_10K, coco_stuff.LABELS_164K
    for value in range(182):
        one = small.apply(np.array([[value + 1]], np.uint8), "x")
        assert one[0, 0] == large.apply(np.array([[value]], np.uint8), "x")[0, 0]
    assert small.apply(np.zeros((1, 1), np.uint8), "x")[0, 0] == IGNORE
    assert large.apply(np.full((1, 1), 255, np.uint8), "x")[0, 0] == IGNORE
    assert refused_values(large) == list(range(182, 255))
    assert refused_values(small) == list(range(183, 256))
    dropped = [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]
    assert [v for v in range(182) if large.entries[v] == IGNORE] == dropped
    assert [v for v in range(183) if small.entries[v] == IGNORE] == [0, *(v + 1 for v in dropped)]


# ---- colors -----------------------------------------------------------------------------

COLORS = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (255, 255, 255), (128, 64, 128)]
VOID = [(7, 7, 7), (255, 0, 255)]


@pytest.mark.parametrize("ignored", [[], VOID])
def test_colors_by_a_plain_loop(ignored: list[tuple[int, int, int]]) -> None:
    drawn = [*COLORS, *ignored]
    chosen = np.random.default_rng(0).integers(0, len(drawn), (13, 9))
    image = np.array(drawn, np.uint8)[chosen]
    labels = ColorLabels(COLORS, ignored).read(Held(saved(image, "PNG")))
    plain = {
        **{color: index for index, color in enumerate(COLORS)},
        **dict.fromkeys(ignored, 255),
    }
    for row in range(13):
        for column in range(9):
            red, green, blue = image[row, column].tolist()
            assert labels[row, column] == plain[red, green, blue]
    assert labels.dtype == np.uint8


def test_an_unknown_color_is_named_with_its_place() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[2, 3:5] = (0, 1, 0)
    with pytest.raises(UserError) as caught:
        ColorLabels(COLORS).read(Held(saved(image, "PNG")))
    said = r"held.bin: color [0, 1, 0] at row 2, column 3 is no class's (2 such pixels). "
    assert (
        f"{said}Add it to classes if it is one; to ignore it, pass ignore_colors=[[0, 1, 0]]."
        in str(caught.value)
    )


@pytest.mark.parametrize(
    ("colors", "ignored", "said"),
    [
        ([(0, 0, 0), (0, 0, 0)], [], r"\[0, 0, 0\] is given twice"),
        ([(0, 0, 0)], [(0, 0, 0)], r"\[0, 0, 0\] is given twice"),
        ([(0, 0, 256)], [], r"\[0, 0, 256\] is no color"),
        ([(0, 0)], [], r"\[0, 0\] is no color"),
        ([(0, 0, index) for index in range(255)], [], "255 classes"),
    ],
)
def test_colors_that_cannot_be(colors: Any, ignored: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ColorLabels(colors, ignored)


def test_other_classes_have_another_identity() -> None:
    formats: list[LabelFormat] = [
        ColorLabels(COLORS),
        ColorLabels(COLORS[::-1]),
        ColorLabels(COLORS, VOID),
        ColorLabels(COLORS[:4], [COLORS[4]]),
        IndexLabels({0: 0, 1: 1}),
        IndexLabels({0: 1, 1: 0}),
        IndexLabels({0: 0}, [1]),
        MatLabels(IndexLabels({0: 2})),
    ]
    assert len({one.identity for one in formats}) == len(formats)
