"""The miniature sets hold the traps they promise, and the indices promised for them are right."""

import json
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.io import loadmat

from tests.data.miniature import (
    FOLDER_CLASSES,
    IGNORE,
    Expected,
    Item,
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

WRITERS: dict[str, Callable[[Path], Expected]] = {
    "ade20k": write_ade20k,
    "camvid": write_camvid,
    "cityscapes": lambda root: write_cityscapes(root, "both"),
    "coco_10k": lambda root: write_coco_10k(root, "both"),
    "coco_164k": lambda root: write_coco_164k(root, "both"),
}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def check_image(path: Path, item: Item) -> None:
    """Against what Pillow decodes, turned as it is shown."""
    assert item.labels.shape == item.image.shape[:2]
    assert max(item.labels.shape) <= 200
    with Image.open(path) as image:
        decoded = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), int)
    assert np.abs(decoded - item.image).max() <= item.tolerance, path


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def values_and_classes(stored: np.ndarray, classes: np.ndarray) -> dict[int, int]:
    """What each stored value stands for; one class alone, or the table is none."""
    pairs = set(zip(stored.ravel().tolist(), classes.ravel().tolist(), strict=True))
    table = dict(pairs)
    assert len(table) == len(pairs)
    return table


@pytest.mark.parametrize("name", WRITERS)
def test_images_decode_to_what_is_promised_and_a_second_tree_is_the_same(
    name: str, tmp_path: Path
) -> None:
    expected = WRITERS[name](tmp_path / "a")
    WRITERS[name](tmp_path / "b")
    first = contents(tmp_path / "a")
    second = contents(tmp_path / "b")
    for mat in [path for path in first if path.endswith(".mat")]:  # their header has the time
        first[mat], second[mat] = first[mat][128:], second[mat][128:]
    assert first == second
    others = {"annotations", "gtFine", "trainannot", "valannot", "testannot"}
    images = [p for p in (tmp_path / "a").rglob("*.*g") if others.isdisjoint(p.parts)]
    for (_, stem), item in expected.items():
        own = [path for path in images if path.stem == stem]
        assert own
        for path in own:
            check_image(path, item)


def test_cityscapes_ids_and_siblings(tmp_path: Path) -> None:
    expected = write_cityscapes(tmp_path, "both")
    table = {}
    for (split, name), item in expected.items():
        folder = tmp_path / "gtFine" / split / name.split("_")[0]
        frame = name.removesuffix("_leftImg8bit")
        ids = pixels(folder / f"{frame}_gtFine_labelIds.png")
        table.update(values_and_classes(ids, item.labels))
        train_ids = pixels(folder / f"{frame}_gtFine_labelTrainIds.png")
        np.testing.assert_array_equal(train_ids, item.labels)
        assert mode(folder / f"{frame}_gtFine_instanceIds.png") == "I;16"
        assert mode(folder / f"{frame}_gtFine_color.png") == "RGBA"
        assert json.loads((folder / f"{frame}_gtFine_polygons.json").read_text())["objects"] == []
        assert (split == "test") == bool((item.labels == IGNORE).all())
    assert set(table) == {*range(34), 255}
    assert [id_ for id_, label in sorted(table.items()) if label != IGNORE] == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
    ]  # fmt: skip
    assert sorted(set(table.values())) == [*range(19), IGNORE]


def test_ade20k_labels_and_odd_jpegs(tmp_path: Path) -> None:
    expected = write_ade20k(tmp_path)
    assert mode(tmp_path / "images/training/ADE_train_00000002.jpg") == "L"
    assert mode(tmp_path / "images/training/ADE_train_00000003.jpg") == "CMYK"
    table = {}
    for (split, name), item in expected.items():
        folder = {"train": "training", "val": "validation"}[split]
        stored = pixels(tmp_path / "annotations" / folder / f"{name}.png")
        table.update(values_and_classes(stored, item.labels))
    assert table == {0: 255, **{label: label - 1 for label in range(1, 151)}}
    shapes = {item.labels.shape for item in expected.values()}
    assert {(16, 200), (200, 16)} <= shapes
    assert any(max(shape) < 64 for shape in shapes)
    assert any(min(shape) > 64 for shape in shapes)


def test_the_full_ade20k_has_masks_of_three_channels(tmp_path: Path) -> None:
    top = write_full_ade20k(tmp_path)
    assert (top / "index_ade20k.pkl").is_file()
    masks = sorted(top.rglob("*_seg.png"))
    assert len(masks) == 4
    assert {mode(path) for path in masks} == {"RGB"}
    assert not (top / "annotations").exists()


def test_both_versions_of_coco_stuff_differ_by_one(tmp_path: Path) -> None:
    whole = write_coco_164k(tmp_path / "164k", "both")
    table: dict[int, int] = {}
    for (split, name), item in whole.items():
        annotation = tmp_path / "164k" / "annotations" / f"{split}2017" / name
        table.update(values_and_classes(pixels(annotation.with_suffix(".png")), item.labels))
        train_ids = pixels(annotation.with_name(f"{name}_labelTrainIds.png"))
        np.testing.assert_array_equal(train_ids, item.labels)
    assert {mode(p) for p in (tmp_path / "164k/annotations").rglob("0*[0-9].png")} == {"L", "P"}
    assert table[255] == IGNORE
    assert [table[label] for label in (0, 10, 11, 12, 89, 90, 91, 181)] == [
        0, 10, IGNORE, 11, 79, IGNORE, 80, 170,
    ]  # fmt: skip

    small = write_coco_10k(tmp_path / "10k", "both")
    table_10k: dict[int, int] = {}
    types = set()
    for (split, name), item in small.items():
        stored = loadmat(tmp_path / "10k/annotations" / f"{name}.mat")["S"]
        types.add(stored.dtype.name)
        table_10k.update(values_and_classes(stored.astype(int), item.labels))
        part = "train2014" if split == "train" else "test2014"
        converted = pixels(tmp_path / "10k/annotations" / part / f"{name}_labelTrainIds.png")
        np.testing.assert_array_equal(converted, (item.labels.astype(int) + 1) % 256)
    assert types == {"uint8", "uint16", "float64"}
    assert table_10k == {0: IGNORE, **{label + 1: table[label] for label in range(182)}}
    lists = {p.stem: p.read_text().split() for p in (tmp_path / "10k/imageLists").iterdir()}
    assert lists["train"] == [name for split, name in small if split == "train"]
    assert lists["test"] == [name for split, name in small if split == "val"]
    assert lists["all"] == lists["train"] + lists["test"]


@pytest.mark.parametrize("layout", ["flat", "split_first", "kind_first"])
@pytest.mark.parametrize("masks", ["index", "palette", "bit", "white", "color"])
def test_images_and_masks_of_a_folder(layout: str, masks: str, tmp_path: Path) -> None:
    expected = write_folder(tmp_path, layout, masks, void=(9, 9, 9))  # type: ignore[arg-type]
    stored_as = {
        "white": np.array([0, 255], np.uint8),
        "color": np.array([*FOLDER_CLASSES.values(), *[(9, 9, 9)] * 252], np.uint8),
    }
    place = {"flat": "{kind}", "split_first": "{split}/{kind}", "kind_first": "{kind}/{split}"}
    modes = set()
    for (split, name), item in expected.items():
        images, stored = (
            tmp_path / place[layout].format(kind=kind, split=split) / name
            for kind in ("images", "masks")
        )
        (image,) = (path for path in images.parent.iterdir() if path.stem == images.name)
        check_image(image, item)
        mask = stored.with_name(f"{stored.name}.png")
        modes.add(mode(mask))
        table = stored_as.get(masks, np.arange(256))
        np.testing.assert_array_equal(pixels(mask), table[item.labels])
    assert len([*tmp_path.rglob("*.*")]) == 2 * len(expected) + len(["classes.yaml"])
    kinds = {"index": "L", "palette": "P", "bit": "1", "white": "L", "color": "RGB"}
    assert modes == {kinds[masks]}
    without_class = any(IGNORE in item.labels for item in expected.values())
    assert without_class == (masks not in ("bit", "white"))
    first = contents(tmp_path)
    write_folder(tmp_path, layout, masks, void=(9, 9, 9))  # type: ignore[arg-type]
    assert contents(tmp_path) == first


@pytest.mark.parametrize("name", ["turned", "sideways"])
def test_turned_images_are_stored_on_their_side(name: str, tmp_path: Path) -> None:
    expected = write_folder(tmp_path)
    (path,) = (tmp_path / "images").glob(f"{name}.*")
    assert pixels(path).shape[:2] == expected["all", name].labels.shape[::-1]


def test_a_folder_whose_classes_count_from_one(tmp_path: Path) -> None:
    expected = write_folder(tmp_path, "kind_first", reduce_zero_label=True)
    for (split, name), item in expected.items():
        stored = pixels(tmp_path / "masks" / split / f"{name}.png")
        assert {0, 255} < set(stored.ravel().tolist())
        np.testing.assert_array_equal(
            item.labels, np.where(stored == 255, 255, stored.astype(int) - 1) % 256
        )


def test_archives_hold_the_tree_under_the_official_names(tmp_path: Path) -> None:
    write_ade20k(tmp_path / "ade")
    with zipfile.ZipFile(zip_tree(tmp_path / "ade", tmp_path / "a.zip", "ADE")) as packed:
        files = {name: packed.read(name) for name in packed.namelist() if name[-1] != "/"}
    assert files == {f"ADE/{name}": data for name, data in contents(tmp_path / "ade").items()}

    expected = write_coco_164k(tmp_path / "coco")
    members = set()
    for archive in zip_coco_164k(tmp_path / "coco", tmp_path / "zips"):
        with zipfile.ZipFile(archive) as packed:
            members |= {f"{archive.stem}:{name}" for name in packed.namelist() if name[-1] != "/"}
    pairs = (
        (
            f"{split}2017:{split}2017/{name}.jpg",
            f"stuffthingmaps_trainval2017:{split}2017/{name}.png",
        )
        for split, name in expected
    )
    assert members == set(chain.from_iterable(pairs))
