"""Folder leaves nothing out in silence, and finds what people have."""

import os
import shutil
from pathlib import Path

import albumentations as A
import pytest

from pne_seg.data import Folder
from pne_seg.data.samples import SampleView
from pne_seg.errors import UserError
from tests.data.miniature import write_folder, zip_tree
from tests.data.test_image_folder import CLASSES, flat, names

TRAIN, VAL = 7, 4  # images of `write_folder`


@pytest.mark.parametrize("layout", ["split_first", "kind_first"])
def test_split_folders_in_any_case_of_letters(layout: str, tmp_path: Path) -> None:
    write_folder(tmp_path, layout)  # type: ignore[arg-type]
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        if path.name in ("train", "val"):
            path.rename(path.with_name(path.name.capitalize()))
    split = names(Folder(tmp_path))
    assert (len(split["train"]), len(split["val"])) == (TRAIN, VAL)


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "kind_first")
    for kind in ("images", "masks"):
        shutil.copytree(tmp_path / kind / "train", tmp_path / kind / "training")
    with pytest.raises(UserError, match="are both of the train split"):
        Folder(tmp_path).split("train")


def test_images_beside_the_split_folders_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, "kind_first")
    flat(tmp_path, 2)
    with pytest.raises(UserError, match=r"n000\.png belongs to no split \(4 such files"):
        Folder(tmp_path).split("train")


def test_several_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        flat(tmp_path / name, 4)
    with pytest.raises(UserError, match=r"several data sets: .*one, .*two.*as root"):
        Folder(tmp_path, CLASSES).split("train")


def test_test_images_without_masks_are_for_prediction(tmp_path: Path) -> None:
    write_folder(tmp_path, "split_first")
    shutil.rmtree(tmp_path / "val" / "masks")
    (tmp_path / "val").rename(tmp_path / "test")
    data = Folder(tmp_path, num_workers=0, batch_size=2)
    data.setup("fit")
    data.setup("predict")
    assert len(data.split("test")) == VAL
    with pytest.raises(UserError, match="no labels to score by"):
        data.setup("test")


@pytest.mark.parametrize("suffix", [".zip", ".ZIP"])
def test_classes_lie_in_the_archive(suffix: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "x", "split_first")
    data = Folder(zip_tree(tmp_path / "x", tmp_path / f"mine{suffix}"))
    assert len(data.class_names) == 4
    assert len(data.split("train")) == TRAIN


def test_classes_lie_beside_the_images_one_level_below(tmp_path: Path) -> None:
    write_folder(tmp_path / "inner")
    assert len(Folder(tmp_path).class_names) == 4


def test_the_working_directory_as_root(tmp_path: Path) -> None:
    write_folder(tmp_path)
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        assert len(Folder(Path()).split("train")) > 0
    finally:
        os.chdir(before)


def test_a_value_of_two_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="255 stands for two classes"):
        Folder(tmp_path, {"a": 0, "b": 255, "c": 255})


def test_masks_with_and_without_the_suffix_are_both_seen(tmp_path: Path) -> None:
    flat(tmp_path, 4, "masks", "_mask")
    (tmp_path / "masks" / "n001_mask.png").rename(tmp_path / "masks" / "n001.png")
    assert sum(map(len, names(Folder(tmp_path, CLASSES, mask_suffix="_mask")).values())) == 5
    shutil.copy(tmp_path / "masks" / "n001.png", tmp_path / "masks" / "n001_mask.png")
    with pytest.raises(UserError, match="share a name"):
        Folder(tmp_path, CLASSES, mask_suffix="_mask").split("train")


@pytest.mark.parametrize(
    "transform", [A.Normalize(), A.ToFloat(), A.ToTensorV2(), A.ToGray(num_output_channels=1, p=1)]
)
def test_transforms_that_leave_something_else_are_refused(
    transform: A.BasicTransform, tmp_path: Path
) -> None:
    source = Folder(flat(tmp_path, 4), CLASSES).split("train")
    with pytest.raises(UserError, match=r"n00\d: .*must give a uint8 image .*Leave normalizing"):
        SampleView(source, A.Compose([transform]))[0]


def test_a_choice_among_transforms_in_yaml(tmp_path: Path) -> None:
    source = Folder(flat(tmp_path, 4), CLASSES).split("train")
    choice = A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=1)
    assert SampleView(source, A.Compose([choice]))[0]["image"].shape == (3, 8, 8)
