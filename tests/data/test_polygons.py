"""Masks drawn of COCO and LabelMe JSON, against other rasterizers and masks made by hand."""

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pne_seg.data import Folder
from pne_seg.data.inspection import inspect
from pne_seg.data.polygons import drawn_masks
from pne_seg.errors import UserError
from tests.data.held import saved
from tests.data.miniature import zip_tree

SIZE = (30, 40)
SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]
INNER = [8, 8, 12, 8, 12, 12, 8, 12]


def photos(root: Path, *names: str, size: tuple[int, int] = SIZE, **options: Any) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), number, np.uint8)).save(path, **options)
    return root


def coco(
    path: Path, names: list[str], annotations: list[dict[str, Any]] | None = None, **changes: Any
) -> None:
    """COCO's JSON, in which each image has a square of category 7 (road)."""
    sizes = {"height": SIZE[0], "width": SIZE[1]}
    images = [{"id": number, "file_name": name, **sizes} for number, name in enumerate(names)]
    if annotations is None:
        annotations = [
            {"id": n, "image_id": n, "category_id": 7, "segmentation": [SQUARE]}
            for n in range(len(names))
        ]
    categories = [{"id": 7, "name": "road"}, {"id": 3, "name": "tree"}]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories, **changes}
    path.write_text(json.dumps(content), "utf-8")


def one(segmentation: Any, category: int = 7, image: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        **more,
    }


def labelme(path: Path, *shapes: dict[str, Any], **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "imagePath": f"{path.stem}.jpg"}
    path.write_text(json.dumps({**content, "shapes": list(shapes), **changes}), "utf-8")


def shape(label: str, kind: str | None, *points: list[float], **more: Any) -> dict[str, Any]:
    return {"label": label, "points": list(points), "shape_type": kind, **more}


def labels(root: Path, name: str = "a", **settings: Any) -> npt.NDArray[np.uint8]:
    """Return the labels of one image."""
    data = Folder(root, **settings)
    pairs = [(data.split(s), n) for s in ("train", "val") for n in range(len(data.split(s)))]
    return next(s.read(n).labels for s, n in pairs if s.name(n) == name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return photos(tmp_path / "mine", "images/a.jpg", "images/b.jpg")


# ---- what is drawn -----------------------------------------------------------------------


def blob(random: np.random.Generator, corners: int = 9) -> list[float]:
    """A star-shaped outline, a part of which may lie outside of the image."""
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radii = random.uniform(2, 14, corners)
    center = random.uniform([5, 5], [35, 25])
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return [round(float(value), 2) for value in points.reshape(-1)]


def rle(mask: npt.NDArray[Any], compressed: bool) -> dict[str, Any]:
    if compressed:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    counts, value = [0], 0
    for pixel in mask.T.reshape(-1).astype(int).tolist():
        if pixel == value:
            counts[-1] += 1
        else:
            counts.append(1)
            value = pixel
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize("seed", range(8))
def test_coco_as_its_own_tools_draw_it(seed: int, root: Path) -> None:
    random = np.random.default_rng(seed)
    noise = random.random((2, *SIZE)) < 0.1
    inside = [[float(np.clip(v, 0, 29)) for v in blob(random)] for _ in range(4)]
    regions = [*([part] for part in inside), inside[:2], rle(noise[0], False), rle(noise[1], True)]
    entries = [
        {
            **one(region, int(random.choice([3, 7]))),
            "id": n,
            "iscrowd": int(isinstance(region, dict)),
        }
        for n, region in enumerate(regions)
    ]
    coco(root / "x.json", ["a.jpg", "b.jpg"], entries)
    theirs = COCO(root / "x.json")
    masks = [(theirs.annToMask(entry), entry["category_id"]) for entry in entries]
    expected = np.zeros(SIZE, np.uint8)
    for mask, category in sorted(masks, key=lambda pair: -int(pair[0].sum())):
        expected[mask == 1] = {3: 1, 7: 2}[category]
    np.testing.assert_array_equal(labels(root, polygons="x.json"), expected)
    assert not labels(root, "b", polygons="x.json").any()  # no annotation: all background


@pytest.mark.parametrize("seed", range(8))
def test_outlines_cover_the_pixels_whose_centers_they_hold(seed: int, root: Path) -> None:
    points = np.reshape(blob(np.random.default_rng(seed), 7), (-1, 2))
    labelme(root / "json/a.json", shape("x", None, *points.tolist()))
    labelme(root / "json/b.json")
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centers = np.stack([xs.ravel(), ys.ravel()], 1)
    outline = Outline(points, closed=False)
    sure, perhaps = (outline.contains_points(centers, radius=r).reshape(SIZE) for r in (-0.3, 0.3))
    drawn = labels(root, polygons="json") == 1
    reference = outline.contains_points(centers).reshape(SIZE)
    least, most = (sure, perhaps) if sure.sum() < perhaps.sum() else (perhaps, sure)
    assert (drawn >= least).mean() == 1
    assert (drawn <= most).mean() == 1
    assert (drawn != reference).sum() <= 0.15 * max(20, reference.sum())


def test_the_shapes_of_labelme(root: Path) -> None:
    small = np.zeros((5, 6), np.uint8)
    small[1:4, 2:5] = 1
    text = base64.b64encode(saved(small * np.uint8(255), "PNG")).decode()
    labelme(
        root / "json/a.json",
        shape("b", "rectangle", [20, 12], [4, 2]),
        shape("a", "circle", [12, 12], [12, 18]),  # later ones cover those before
        shape("c", "mask", [30, 20], [35, 24], mask=text),
        shape("d", "polygon", [25, 3], [29, 3], [29, 7], [25, 7]),
        shape("q", "point", [3, 3]),
        shape("q", "linestrip", [3, 3], [9, 9], [3, 5]),
    )
    labelme(root / "json/b.json", shapes=None)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = np.zeros(SIZE, np.uint8)
    expected[2:12, 4:20] = 2
    expected[np.hypot(xs - 12, ys - 12) < 6] = 1
    expected[20:25, 30:36][small == 1] = 3
    expected[3:7, 25:29] = 4
    drawn = labels(root, polygons="json")
    circle = np.abs(np.hypot(xs - 12, ys - 12) - 6) < 0.3
    np.testing.assert_array_equal(drawn[~circle], expected[~circle])
    assert Folder(root, polygons="json").class_names == ("background", "a", "b", "c", "d")


def test_smaller_areas_of_coco_stay_visible_in_any_order(root: Path) -> None:
    for order in (1, -1):
        coco(root / "x.json", ["a.jpg", "b.jpg"], [one([SQUARE]), one([INNER], 3)][::order])
        drawn = labels(root, polygons="x.json")
        assert np.bincount(drawn.ravel()).tolist() == [1100, 16, 84]


@pytest.mark.parametrize("sizes", ["stored", "displayed", None])
@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_photos_that_exif_data_turn(
    ending: str, orientation: int, sizes: str | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    names = [f"images/a.{ending}", f"images/b.{ending}"]
    photos(tmp_path / "mine", *names, exif=exif)  # 40 wide and 30 high as stored
    turned = orientation != 1
    height, width = SIZE[::-1] if turned and sizes != "stored" else SIZE
    stated = {} if sizes is None else {"height": height, "width": width}
    coco(
        tmp_path / "mine/x.json",
        names,
        [one([[0, 0, 9, 0, 9, 4, 0, 4]])],
        images=[{"id": n, "file_name": name, **stated} for n, name in enumerate(names)],
    )
    expected = np.zeros((height, width), np.uint8)
    expected[:4, :9] = 2
    if turned and sizes == "stored":
        expected = np.rot90(expected, {6: 3, 8: 1}[orientation])
    np.testing.assert_array_equal(labels(tmp_path / "mine", polygons="x.json"), expected)


# ---- classes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "names", "values"),
    [
        ({}, ("background", "tree", "road"), (0, 1, 2)),
        ({"classes": ["road", "tree"]}, ("background", "road", "tree"), (0, 2, 1)),
        ({"classes": ["road", "background", "tree"]}, ("road", "background", "tree"), (1, 2, 0)),
        ({"background": None}, ("tree", "road"), (255, 0, 1)),
        ({"background": "tree"}, ("tree", "road"), (0, 0, 1)),
        ({"background": "rest"}, ("rest", "tree", "road"), (0, 1, 2)),
        ({"ignore_labels": ["tree"]}, ("background", "road"), (0, 255, 1)),
        ({"classes": ["road"], "ignore_labels": ["tree"]}, ("background", "road"), (0, 255, 1)),
        ({"classes": ["tree", "road", "sky"]}, ("background", "tree", "road", "sky"), (0, 1, 2)),
    ],
)
def test_classes_by_name(
    settings: dict[str, Any], names: tuple[str, ...], values: tuple[int, int, int], root: Path
) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"], [one([SQUARE]), one([INNER], 3)])
    data = Folder(root, polygons="x.json", **settings)
    assert data.class_names == names
    drawn = labels(root, polygons="x.json", **settings)
    assert (drawn[0, 0], drawn[10, 10], drawn[6, 6]) == values
    assert len(data.palette) == len(names)


def test_categories_that_only_group_others_are_no_classes(root: Path) -> None:
    categories = [
        {"id": 0, "name": "things", "supercategory": "none"},  # as Roboflow writes
        {"id": 1, "name": "road", "supercategory": "things"},
        {"id": 2, "name": "road", "supercategory": "things"},
        {"id": 3, "name": "tree", "supercategory": ["x"]},
    ]
    entries = [{**one([SQUARE]), "category_id": 1.0}, one([INNER], 2)]
    coco(root / "x.json", ["a.jpg", "b.jpg"], entries, categories=categories)
    assert Folder(root, polygons="x.json").class_names == ("background", "road", "tree")


def test_colors_of_the_classes_are_for_pictures(root: Path) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    (root / "classes.yaml").write_text("{background: [0, 0, 0], tree: [1, 2, 3], road: [4, 5, 6]}")
    data = Folder(root, polygons="x.json")
    assert data.palette == ((0, 0, 0), (1, 2, 3), (4, 5, 6))


# ---- where files lie ---------------------------------------------------------------------


def one_file(root: Path) -> dict[str, Any]:
    photos(root, "images/a.jpg", "images/sub/b.jpg")
    coco(root / "x.json", ["a.jpg", "sub\\b.jpg"])
    return {"polygons": "x.json"}


def converted(root: Path) -> dict[str, Any]:
    photos(root, "images/a.jpg", "images/in/b.x.jpg")
    (root / "images/in/b.x.jpg").rename(root / "images/in/b.jpg")
    coco(root / "x.json", ["images/a.png", "in/b"])
    return {"polygons": "x.json"}


def official(root: Path) -> dict[str, Any]:
    photos(root, "train2017/a.jpg", "train2017/b.jpg", "val2017/c.jpg", "test2017/d.jpg")
    coco(root / "annotations/instances_train2017.json", ["a.jpg", "b.jpg"])
    coco(root / "annotations/instances_val2017.json", ["c.jpg"])
    return {"images": "{split}2017", "polygons": "annotations/instances_{split}2017.json"}


def roboflow(root: Path) -> dict[str, Any]:
    photos(root, "train/a.jpg", "train/b.jpg", "valid/c.jpg")
    coco(root / "train/_annotations.coco.json", ["a.jpg", "b.jpg"])
    coco(root / "valid/_annotations.coco.json", ["c.jpg"])
    return {"images": "{split}", "polygons": "{split}/_annotations.coco.json"}


def one_for_splits(root: Path) -> dict[str, Any]:
    photos(root, "images/train/a.jpg", "images/train/b.jpg", "images/val/c.jpg")
    coco(root / "x.json", ["train/a.jpg", "/home/me/train/b.jpg", "val/c.jpg"])
    return {"polygons": "x.json"}


def splits_of_one_folder(root: Path) -> dict[str, Any]:
    photos(root, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    coco(root / "train.json", ["images/a.jpg", "images/b.jpg"])
    coco(root / "val.json", ["images/c.jpg"])
    return {"polygons": "{split}.json"}


def lists(root: Path) -> dict[str, Any]:
    photos(root, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    coco(root / "x.json", ["a.jpg", "b.jpg", "c.jpg"])
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("a\nb\n")
    (root / "lists/val.txt").write_text("c\n")
    return {"polygons": "x.json", "split_lists": "lists"}


ROAD = shape("road", "rectangle", [5, 5], [15, 15])


def beside(root: Path) -> dict[str, Any]:
    for name in photos(root, "train/a.jpg", "train/in/b.jpg", "val/c.jpg").rglob("*.jpg"):
        labelme(name.with_suffix(".json"), ROAD)
    return {"images": ".", "polygons": "."}


def elsewhere(root: Path) -> dict[str, Any]:
    photos(root, "images/a.jpg", "images/in/b.jpg")
    labelme(root / "labels/a.json", ROAD)
    labelme(root / "labels/in/b.json", ROAD)
    return {"polygons": "labels"}


def by_split(root: Path) -> dict[str, Any]:
    photos(root, "train/images/a.jpg", "train/images/b.jpg", "val/images/c.jpg")
    for name in ("train/json/a", "train/json/b", "val/json/c"):
        labelme(root / f"{name}_poly.json", ROAD)
    return {"polygons": "json", "mask_suffix": "_poly"}


LAYOUTS = [
    one_file, converted, official, roboflow, one_for_splits, splits_of_one_folder, lists, beside,
    elsewhere, by_split,
]  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("write", LAYOUTS)
def test_layouts(write: Callable[[Path], dict[str, Any]], zipped: bool, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    settings = write(root)
    before = sorted(root.rglob("*"))
    given = zip_tree(root, tmp_path / "packed.zip") if zipped else root
    data = Folder(given, **settings)
    train, val = data.split("train"), data.split("val")
    # Of two images one is split off.
    assert {train.name(n) for n in range(len(train))} <= {"a", "b", "in/b", "sub/b"}
    assert len(train) + len(val) == len(list(root.rglob("[abc].jpg")))
    for split in (train, val):
        for index in range(len(split)):
            assert (split.read(index).labels != 0).sum() == 100
    assert sorted(root.rglob("*")) == before
    drawn = tmp_path / ("packed_drawn_masks" if zipped else "mine_drawn_masks")
    (note,) = drawn.glob("*/SOURCE.txt")
    assert "road" in note.read_text()
    if write is official:
        assert len(data.split("test")) == 1
        assert not data.split("test").labeled


def test_later_lists_take_other_images_of_a_known_file(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    settings = lists(root)
    (root / "lists/val.txt").write_text("b\n")
    (root / "lists/train.txt").write_text("a\n")
    assert labels(root, "b", **settings).any()
    (root / "lists/val.txt").write_text("b\nc\n")
    assert labels(root, "c", **settings).any()


def test_json_files_of_one_name_elsewhere(tmp_path: Path) -> None:
    root = photos(tmp_path / "mine", "images/train/a.jpg", "images/val/a.jpg")
    coco(tmp_path / "json/train/x.json", ["a.jpg"])
    coco(tmp_path / "json/val/x.json", ["a.jpg"], [one([INNER], 3)])
    data = Folder(root, polygons=str(tmp_path / "json/{split}/x.json"))
    assert [int((data.split(s).read(0).labels > 0).sum()) for s in ("train", "val")] == [100, 16]


def test_check_data_reads_drawn_masks(root: Path) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    data = Folder(root, polygons="x.json", batch_size=1, crop_size=(8, 8))
    found = inspect(data, processes=1)
    assert not found.of("error")
    assert found.splits["train"] is not None
    assert found.splits["train"].pixels.tolist() == [1100, 0, 100]


# ---- once --------------------------------------------------------------------------------


def test_masks_are_drawn_once_and_again_for_other_content(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    first = labels(root, polygons="x.json")
    with monkeypatch.context() as patched:
        patched.setattr(drawn_masks, "read_json", lambda *_: pytest.fail("is read again"))
        np.testing.assert_array_equal(labels(root, polygons="x.json"), first)
        assert Folder(root, polygons="x.json").class_names == ("background", "tree", "road")
    content = (root / "x.json").read_text()
    (root / "x.json").write_text(content.replace('"road"', '"lane"'))
    assert Folder(root, polygons="x.json").class_names[2] == "lane"
    labels(root, polygons="x.json")
    (root / "x.json").write_text(content)  # as before, of another date: nothing to draw
    monkeypatch.setattr(drawn_masks, "draw", lambda *_: pytest.fail("is drawn again"))
    np.testing.assert_array_equal(labels(root, polygons="x.json"), first)
    assert len(list((root.parent / "mine_drawn_masks").glob("*/SOURCE.txt"))) == 2


def _sum(root: Path) -> int:
    return int(labels(root, polygons="x.json").sum())


def test_several_processes_draw_at_once(root: Path) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    with ProcessPoolExecutor(3, get_context("fork")) as pool:
        assert [*pool.map(_sum, [root] * 6)] == [200] * 6
    assert not list((root.parent / "mine_drawn_masks").glob(".*.drawing"))


def test_a_folder_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    (tmp_path / "mine_drawn_masks").write_text("in the way")
    with pytest.raises(UserError, match=r"mine_drawn_masks: .*Pass another folder as drawn_masks"):
        labels(root, polygons="x.json")
    assert labels(root, polygons="x.json", drawn_masks=tmp_path / "there").any()
    assert (tmp_path / "mine_drawn_masks").read_text() == "in the way"


# ---- what is wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "entries", "changes", "said"),
    [
        (["a.jpg", "c.jpg", "d.jpg"], None, {}, r"x\.json has c\.jpg, .* not there \(2 such"),
        (["a.jpg"], None, {}, r"b\.jpg has no labels \(1 such.*skip_unlabeled=True"),
        (["a.jpg", "a.jpg"], [], {}, r"images has the file_name 'a\.jpg' twice"),
        (["x/a.jpg", "y/a.jpg"], None, {}, r"a\.jpg is meant by x/a\.jpg in .* and by y/a\.jpg in"),
        (None, [one([SQUARE], 8)], {}, r"annotation 5 has category_id 8, which is .* ids 3, 7"),
        (None, [one([SQUARE], 7, 9)], {}, r"annotation 5 has image_id 9, which is .* ids 0, 1"),
        (None, [one([[1, 2, "x", 4, 5, 6]])], {}, r"annotation 5 \(image a\.jpg\): its points"),
        (None, [one([[1, 2, 3, 4, 5, 6, 7]])], {}, "must be pairs of numbers"),
        (None, [one([[1, 2, 3, 4, 5, float("nan")]])], {}, "must be pairs of numbers"),
        (None, [one([[0, 0, 1e9, 0, 1e9, 9]])], {}, r"'road' is at x 1e\+09.*40×30.*pixels"),
        (None, [one([[0, 0, 0.5, 0, 0.5, 1]])], {}, "between 0 and 1, as fractions"),
        (
            None,
            [one([]), one(None)],
            {},
            "no area to draw. 2 shapes left out: they have a box but no outline",
        ),
        (
            None,
            [one({"size": [30, 40], "counts": [9]})],
            {},
            r"RLE mask is damaged, .* do not fill its size \[30, 40\]",
        ),
        (
            None,
            [one({"size": [40, 30], "counts": [1200]})],
            {},
            r"RLE mask of 'road' is \[40, 30\]",
        ),
        (None, [one({"size": [30, 40], "counts": "é"})], {}, "RLE mask is damaged"),
        (None, [one({"size": [30, 40], "counts": "05"})], {}, "RLE mask is damaged"),
        (None, [one({"size": [30, 40], "counts": [1210, -10]})], {}, "RLE mask is damaged"),
        (None, [one({"size": 30, "counts": [1200]})], {}, "RLE mask is damaged"),
        (None, [], {}, "there is no area to draw. Annotate"),
        (None, [], {"images": {"a": 1}}, "images must be a list of entries"),
        (None, [], {"images": [{"id": [1], "file_name": "a.jpg"}]}, "images has no id"),
        (
            None,
            [one([SQUARE])],
            {"categories": [{"id": 7, "name": "road"}, {"id": 7, "name": "tree"}]},
            "categories has the id 7 twice",
        ),
        (
            None,
            [one({"size": [40, 30], "counts": [1200]})],
            {"images": [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("ab")]},
            r"a\.jpg is 30×40 there, but .*a\.jpg is 40×30",
        ),
        (None, [], {"categories": [{"id": 1}]}, "an entry of categories has no name"),
        (None, [], {"images": [{"id": 1}]}, "an entry of images has no file_name"),
        (
            None,
            [one([SQUARE])],
            {"categories": [{"id": n, "name": str(n)} for n in range(300)]},
            "300 labels; 8-bit masks hold 255",
        ),
        (
            None,
            [one([SQUARE])],
            {
                "images": [
                    {"id": n, "file_name": f"{name}.jpg", "height": 4, "width": 9}
                    for n, name in enumerate("ab")
                ]
            },
            r"x\.json: a\.jpg is 9×4 there, but .*a\.jpg is 40×30",
        ),
    ],
)
def test_coco_files_with_mistakes(
    names: list[str] | None,
    entries: list[Any] | None,
    changes: dict[str, Any],
    said: str,
    root: Path,
) -> None:
    coco(root / "x.json", names or ["a.jpg", "b.jpg"], entries, **changes)
    with pytest.raises(UserError, match=said):
        labels(root, polygons="x.json")


@pytest.mark.parametrize(
    ("shapes", "changes", "said"),
    [
        ([{"points": [[1, 2]]}], {}, r"a\.json: shape 0 has no label"),
        ([shape("x", "cube", [1, 2])], {}, r"shape 0 \(x, cube\): only a polygon, a rectangle"),
        ([shape("x", "rectangle")], {}, "with their points"),
        ([shape("x", "circle", [1, 2])], {}, "only a polygon"),
        ([shape("x", "mask", [1, 2], mask="!")], {}, "its mask is damaged"),
        ([shape("", None, [1, 2])], {}, "shape 0 has no label"),
        ([3], {}, "shapes must be a list"),
        ([], {"imageHeight": 7, "imageWidth": 9}, r"a\.json is 9×7 there, but .*is 40×30"),
        ([], {"shapes": 3}, "shapes must be a list"),
    ],
)
def test_labelme_files_with_mistakes(
    shapes: list[Any], changes: dict[str, Any], said: str, root: Path
) -> None:
    labelme(root / "json/a.json", *shapes, **changes)
    labelme(root / "json/b.json", ROAD)
    with pytest.raises(UserError, match=said):
        labels(root, polygons="json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"images": [\n  {"id": 1,}]}', r"x\.json is not valid JSON \(.*line 2 column 12"),
        (b"", r"x\.json is not valid JSON \(.*line 1 column 1"),
        ('{"images": "é"}'.encode("latin-1"), "not valid JSON .*utf-8"),
        (b"[" * 100_000, "not valid JSON .*recursion"),
        (b'{"shapes": []}', "is LabelMe. polygons must be .* a folder with one LabelMe"),
        (b'{"_via_img_metadata": {}}', "is VIA"),
        (b'{"a.jpg1": {"filename": "a.jpg", "regions": []}}', "is VIA"),
        (b'{"objects": [], "size": {"height": 3}}', "is Supervisely JSON"),
        (b'{"objects": [], "imgHeight": 3}', "is Cityscapes' JSON"),
        (b'{"annotations": [{"segments_info": []}], "images": []}', "is COCO panoptic"),
        (b'{"annotations": [{"caption": "x"}], "images": []}', "is COCO captions"),
        (b'[{"image_id": 1, "category_id": 1}]', "is a list of COCO annotations"),
        (b'[{"annotations": []}]', "is Label Studio"),
        (b'{"type": "FeatureCollection", "features": []}', "is GeoJSON"),
        (b"3", "is JSON of an unknown kind"),
        (b"{}", "JSON of an unknown kind.*must be the path of a COCO .* LabelMe"),
    ],
)
def test_files_that_are_not_coco(content: bytes, said: str, root: Path) -> None:
    (root / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        Folder(root, polygons="x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"0 0.5 0.5 0.1 0.1\n", r"a\.txt is a YOLO text file"),
        ("a.xml", b"<annotation><object/></annotation>", "is Pascal VOC XML"),
        ("a.xml", b"<?xml?><annotations></annotations>", "is CVAT XML"),
        ("a.jpg.json", b'{"objects": [], "size": {}}', "is Supervisely JSON"),
        ("a.json", b'{"shapes": []}', r"is LabelMe JSON, .*pass polygons='masks'"),
        ("x.json", b'{"images": [], "annotations": []}', r"pass polygons='masks/x\.json'"),
    ],
)
def test_annotations_in_place_of_masks_are_named(
    name: str, content: bytes, said: str, root: Path
) -> None:
    (root / "masks").mkdir()
    (root / "masks" / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        Folder(root, classes=["a", "b"]).split("train")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"polygons": "y.json"}, r"there is no y\.json; these JSON files lie there: .*x\.json"),
        ({"polygons": "{split}.json"}, r"no \{split\}\.json"),
        ({"polygons": "json"}, r"(?s)does not hold images and json"),
        ({"polygons": "images"}, r"has no labels|no JSON file"),
        ({"classes": ["Road", "tree"]}, r"'road' \(2 shapes\).*did you mean 'Road'.*ignore_labels"),
        ({"classes": {"road": 3}}, r"classes gives values.*pass classes=\['road'\]"),
        ({"ignore_values": [3]}, "are for masks"),
        ({"pairs_csv": "x.csv"}, "are for masks"),
        ({"reduce_zero_label": True}, "are for masks"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], said: str, root: Path) -> None:
    coco(root / "x.json", ["a.jpg", "b.jpg"])
    with pytest.raises(ValueError, match=said):
        Folder(root, **{"polygons": "x.json", **settings})


def test_what_is_not_drawn_is_reported(
    root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO")
    outside = [100, 100, 120, 100, 120, 120]
    entries = [one([SQUARE]), one([outside]), one([[1, 1, 2, 2]]), one([])]
    coco(root / "x.json", ["a.jpg", "b.jpg"], entries)
    for _ in range(2):  # at every start
        caplog.clear()
        assert labels(root, polygons="x.json").any()
        for said in (
            r"1 shape left out: they cover no pixel of the image (first: ",
            "1 shape left out: they have fewer than three points (first: ",
            "1 shape left out: they have a box but no outline (first: ",
        ):
            assert said in caplog.text
            assert said in next(tmp_path.glob("mine_drawn_masks/*/SOURCE.txt")).read_text()


def test_images_without_annotations_are_left_out_on_request(root: Path) -> None:
    coco(root / "x.json", ["a.jpg", "c.jpg"])
    photos(root, "images/c.jpg")
    data = Folder(root, polygons="x.json", skip_unlabeled=True)
    assert len(data.split("train")) + len(data.split("val")) == 2


def test_hostile_paths_stay_inside_the_drawn_folder(root: Path, tmp_path: Path) -> None:
    coco(root / "x.json", ["../../../a.jpg", "C:\\x\\..\\b.jpg"])
    labels(root, polygons="x.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine_drawn_masks"]
    assert io.BytesIO(next(tmp_path.glob("mine_drawn_masks/*/a.png")).read_bytes()).getvalue()
