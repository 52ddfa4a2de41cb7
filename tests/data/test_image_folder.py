"""Folder's own rules: the split by chance, the classes' forms, settings that contradict."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.data import Folder
from pne_seg.data.classes import read_classes
from pne_seg.errors import UserError
from tests.data.miniature import write_folder


def flat(root: Path, count: int, mask_folder: str = "masks", suffix: str = "") -> Path:
    for folder in ("images", mask_folder):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.full((8, 8), number % 2, np.uint8)
        Image.fromarray(pixels).convert("RGB").save(root / "images" / f"n{number:03d}.png")
        Image.fromarray(pixels).save(root / mask_folder / f"n{number:03d}{suffix}.png")
    return root


def names(data: Folder) -> dict[str, set[str]]:
    splits = {split: data.split(split) for split in ("train", "val", "test")}
    return {split: {s.name(i) for i in range(len(s))} for split, s in splits.items()}


CLASSES = ["a", "b"]


@pytest.mark.parametrize(
    ("val", "test", "sizes"),
    [(0.2, 0.0, (40, 10, 10)), (0.2, 0.1, (35, 10, 5)), (0.001, 0.0, (49, 1, 1))],
)
def test_the_split_by_chance(
    val: float, test: float, sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    flat(tmp_path, 50)
    one = names(Folder(tmp_path, CLASSES, val_fraction=val, test_fraction=test))
    assert tuple(len(one[split]) for split in ("train", "val", "test")) == sizes
    assert not one["train"] & one["val"]
    assert len(one["train"] | one["val"] | one["test"]) == 50
    if test:
        assert not one["test"] & (one["train"] | one["val"])
    else:
        assert one["test"] == one["val"]
    again = names(Folder(tmp_path, CLASSES, val_fraction=val, test_fraction=test, seed=9))
    assert again == one
    other = names(Folder(tmp_path, CLASSES, val_fraction=val, test_fraction=test, split_seed=1))
    assert other != one


def test_new_images_leave_the_split_nearly_as_it_was(tmp_path: Path) -> None:
    before = names(Folder(flat(tmp_path, 50), CLASSES))
    after = names(Folder(flat(tmp_path, 60), CLASSES))
    assert len(before["val"] & after["val"]) >= 8


def test_what_is_split_off_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Folder(flat(tmp_path, 10), CLASSES).setup("validate")
    assert "2 of 10 images are split off for val, 8 stay for training" in caplog.text


def test_a_folder_for_val_is_taken_as_it_is(tmp_path: Path) -> None:
    write_folder(tmp_path, "split_first")
    (tmp_path / "val").rename(tmp_path / "validation")
    split = names(Folder(tmp_path))
    assert split["val"] == split["test"] == {"yard", "south/dock", "sideways", "glass"}


def test_without_a_folder_for_val_some_are_split_off_train(tmp_path: Path) -> None:
    write_folder(tmp_path, "kind_first")
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").rename(tmp_path / kind / "test")
    split = names(Folder(tmp_path))
    assert len(split["train"]) == 6
    assert len(split["val"]) == 1
    assert len(split["test"]) == 4


def test_masks_with_a_suffix_in_a_folder_of_another_name(tmp_path: Path) -> None:
    flat(tmp_path, 5, "gt", "_mask")
    data = Folder(tmp_path, CLASSES, masks="gt", mask_suffix="_mask")
    assert len(data.split("train")) == 4
    assert data.split("train").read(0).labels.shape == (8, 8)


def test_images_and_masks_in_one_folder(tmp_path: Path) -> None:
    flat(tmp_path, 5, "images", "_mask")
    data = Folder(tmp_path, CLASSES, masks="images", mask_suffix="_mask")
    assert len(data.split("train")) == 4
    with pytest.raises(ValueError, match="mask_suffix"):
        Folder(tmp_path, CLASSES, masks="images")


def test_jpeg_masks_are_refused(tmp_path: Path) -> None:
    flat(tmp_path, 3)
    for path in list((tmp_path / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(UserError, match=r"n000\.jpg: masks must be PNG.*Export them again as PNG"):
        Folder(tmp_path, CLASSES).setup("fit")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("images", r"masks/n001\.png has no image \(1"), ("masks", r"images/n001\.png has no labels")],
)
def test_a_missing_partner(kind: str, said: str, tmp_path: Path) -> None:
    flat(tmp_path, 4)
    (tmp_path / kind / "n001.png").unlink()
    with pytest.raises(UserError, match=said):
        Folder(tmp_path, CLASSES).setup("fit")


def test_a_label_beyond_the_classes(tmp_path: Path) -> None:
    flat(tmp_path, 4)
    data = Folder(tmp_path, ["only"]).split("train")
    with pytest.raises(UserError, match=r"label 1 \(64 pixels\).*valid are 0 and 255.*to classes"):
        [data.read(index) for index in range(len(data))]


# ---- classes -----------------------------------------------------------------------------


def test_the_three_forms_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("sky: [0, 0, 255]\nroad: [9, 9, 9]\n")
    own = read_classes(str(path))
    assert own.names == ("sky", "road")
    assert own.colors == own.palette == ((0, 0, 255), (9, 9, 9))
    assert read_classes({"a": 0, "b": 255}).values == (0, 255)
    assert read_classes(["x", "y"]).names == ("x", "y")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "names no classes"),
        ({}, "names no classes"),
        ([1, 2], "a class is called 1: YAML takes .* into quotes"),
        (["a", "a"], "'a' is named twice"),
        ("[a, 2024-01-01]", r"called datetime\.date.* a date"),
        ("[a, b: c]", "called {'b': 'c'}: .* a colon"),
        (["a", "b "], "'b ' begins or ends with a space"),
        (["a", "b\nc"], r"'b\\nc' .* a line break"),
        (["a b", "a  b"], "'a  b' looks the same as 'a b'"),
        (["\u00e9", "e\u0301"], r"'e\\u0301' looks the same as '\\xe9'"),
        ({"a": 0, "b": [1, 2, 3]}, "b: .* does not fit the others"),
        ({"a": 0, "b": 256}, "b: 256 does not fit"),
        ({"a": [0, 0, 0], "b": [1, 2]}, "b: .* does not fit"),
    ],
)
def test_classes_that_are_not_understood(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_classes(given)


def test_classes_must_be_given(tmp_path: Path) -> None:
    flat(tmp_path, 2)
    with pytest.raises(UserError, match=r"(?s)classes\.yaml: cannot be read.*background, road"):
        Folder(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "classes.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=r"classes\.yaml is not valid YAML"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"val_fraction": 0}, "val_fraction"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "below 1"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"ignore_values": [0]}, "0 stands for a class"),
        ({"ignore_colors": [[0, 0, 0]]}, "ignore_colors needs"),
        ({"classes": {"a": 1}, "reduce_zero_label": True}, "reduce_zero_label"),
        ({"classes": {"a": [0, 0, 1]}, "ignore_values": [3]}, "use ignore_colors"),
        ({"classes": {"a": [0, 0, 1], "b": [0, 0, 1]}}, "given twice"),
        ({"classes": [str(n) for n in range(255)]}, "254"),
        ({"scale_range": (2.0, 0.5)}, "scale"),
        ({"crop_size": (0, 8)}, "size"),
        ({"cat_max_ratio": 0.0}, "cat_max_ratio"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        Folder(tmp_path, **{"classes": CLASSES, **settings})


def test_pictures_call_a_folder_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "leaves").mkdir()
    flat(tmp_path / "leaves", 2)
    assert Folder(tmp_path / "leaves", classes=["a", "b"]).display_name == "leaves"
