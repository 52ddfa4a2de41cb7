"""Which files Folder takes for images, masks and splits, in the layouts that people have."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.cli.settings import Settings
from pne_seg.data import Folder
from pne_seg.data.base import Split
from pne_seg.errors import UserError
from tests.data.miniature import zip_tree

CLASSES = ["a", "b"]


def write(root: Path, *files: str) -> Path:
    """Write small pictures: a gray one serves as image and as mask; other kinds are only bytes."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".bmp", ".jpg", ".tif"):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
        else:
            path.write_bytes(b"x")
    return root


def found(root: Path, **settings: Any) -> dict[str, list[tuple[str, str | None]]]:
    """Return image and mask of each pair by split, as paths below the root."""
    data = Folder(root, **{"classes": CLASSES, **settings})

    def below(file: object) -> str:
        return unicodedata.normalize("NFC", str(file).removeprefix(f"{root}/"))

    splits: list[Split] = ["train", "val", "test"]
    return {
        split: [
            (below(pair.image), None if pair.labels is None else below(pair.labels))
            for pair in data.pairs(split).pairs
        ]
        for split in splits
    }


def pairs(root: Path, **settings: Any) -> list[tuple[str, str | None]]:
    """Return the pairs of all splits, which are by chance."""
    splits = found(root, **settings)
    return sorted(splits["train"] + splits["val"])


@pytest.mark.parametrize(
    ("images", "masks", "settings"),
    [
        ("{}_sat.jpg", "{}_mask.png", {"image_suffix": "_sat", "mask_suffix": "_mask"}),
        ("img_{}.jpg", "gt_{}.png", {"image_prefix": "img_", "mask_prefix": "gt_"}),
        ("{}.jpg", "mask_{}.png", {"mask_prefix": "mask_"}),
        ("img-{}-v1.jpg", "{}.png", {"image_prefix": "img-", "image_suffix": "-v1"}),
        ("{}.jpg", "{}_mask.png", {"mask_suffix": "_mask.png"}),
        ("{}.jpg", "{}.jpg.png", {"mask_suffix": ".jpg"}),
        ("{}.v1.jpg", "{}.gt.png", {"image_suffix": ".v1", "mask_suffix": ".gt"}),
    ],
)
def test_names_with_something_around(
    images: str, masks: str, settings: dict[str, str], tmp_path: Path
) -> None:
    keys = ["0", "1", "sub/2"]

    def named(folder: str, pattern: str, key: str) -> str:
        above, _, name = f"{folder}/{key}".rpartition("/")
        return f"{above}/{pattern.format(name)}"

    both = [(named("images", images, key), named("masks", masks, key)) for key in keys]
    write(tmp_path, *(name for pair in both for name in pair))
    assert pairs(tmp_path, **settings) == sorted(both)


@pytest.mark.parametrize(
    ("image", "mask", "settings"),
    [
        ("{}.png", "{}_mask.png", {"mask_suffix": "_mask"}),
        ("{}.jpg", "{}.png", {"mask_suffix": ".png"}),
        ("{}.jpg", "{}.png", {"image_suffix": ".jpg"}),
        ("{}_sat.png", "{}.png", {"image_suffix": "_sat"}),
        ("{}_sat.jpg", "{}_mask.png", {"image_suffix": "_sat", "mask_suffix": "_mask"}),
        ("rgb_{}.png", "label_{}.png", {"image_prefix": "rgb_", "mask_prefix": "label_"}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_side_by_side_in_split_folders(
    image: str, mask: str, settings: dict[str, str], packed: bool, tmp_path: Path
) -> None:
    both = {
        split: [(f"{split}/{image.format(n)}", f"{split}/{mask.format(n)}") for n in "ab"]
        for split in ("train", "valid")
    }
    root = write(
        tmp_path / "set", *(name for part in both.values() for two in part for name in two)
    )
    if packed:
        root = zip_tree(root, tmp_path / "packed.zip")
    split = found(root, images=".", masks=".", **settings)
    assert split == {"train": both["train"], "val": both["valid"], "test": both["valid"]}


def test_side_by_side_without_splits(tmp_path: Path) -> None:
    write(tmp_path, *(f"{n}{end}" for n in "abc" for end in (".png", "_mask.png")))
    both = [(f"{n}.png", f"{n}_mask.png") for n in "abc"]
    assert pairs(tmp_path, images=".", masks=".", mask_suffix="_mask") == both


def test_a_name_that_is_neither_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, "train/a_sat.png", "train/a_mask.png", "train/b.png")
    with pytest.raises(UserError, match=r"train/b\.png has no labels"):
        found(tmp_path, images=".", masks=".", image_suffix="_sat", mask_suffix="_mask")


def test_masks_in_a_folder_among_the_images(tmp_path: Path) -> None:
    write(tmp_path, *(f"{folder}{n}.png" for n in "abc" for folder in ("", "masks/")))
    assert pairs(tmp_path, images=".") == [(f"{n}.png", f"masks/{n}.png") for n in "abc"]
    write(tmp_path, *(f"images/{n}.png" for n in "abc"), *(f"images/gt/{n}.png" for n in "abc"))
    both = [(f"images/{n}.png", f"images/gt/{n}.png") for n in "abc"]
    assert pairs(tmp_path, masks="images/gt") == both


@pytest.mark.parametrize("above", ["", "train/"])
def test_images_and_masks_in_a_folder_for_each_scene(above: str, tmp_path: Path) -> None:
    both = [
        (f"{above}{scene}/images/{n}.jpg", f"{above}{scene}/masks/{n}.png")
        for scene in ("night", "noon")
        for n in "12"
    ]
    write(tmp_path, *(name for pair in both for name in pair))
    assert pairs(tmp_path, images="*/images", masks="*/masks") == both
    data = Folder(tmp_path, CLASSES, images="*/images", masks="*/masks")
    splits: list[Split] = ["train", "val"]
    all_names = [pair.name for split in splits for pair in data.pairs(split).pairs]
    assert sorted(all_names) == ["night/1", "night/2", "noon/1", "noon/2"]


def test_a_star_for_a_part_of_a_name(tmp_path: Path) -> None:
    write(
        tmp_path, *(f"{kind}_{day}/{n}.png" for kind in ("im", "gt") for day in "12" for n in "ab")
    )
    assert pairs(tmp_path, images="im_*", masks="gt_*") == [
        (f"im_{day}/{n}.png", f"gt_{day}/{n}.png") for day in "12" for n in "ab"
    ]
    with pytest.raises(ValueError, match="is not read"):
        Folder(tmp_path, CLASSES, images="**/images")


def test_a_folder_beside_the_splits_that_is_none(tmp_path: Path) -> None:
    for split in ("train", "val", "more"):
        write(tmp_path, *(f"{split}/{kind}/a.png" for kind in ("images", "masks")))
    with pytest.raises(UserError, match="more holds images and masks but is no split"):
        found(tmp_path)


def test_a_split_in_one_of_both_folders(tmp_path: Path) -> None:
    write(tmp_path, "train/images/a.png", "masks/a.png")
    with pytest.raises(UserError, match="in only one of"):
        found(tmp_path, images="{split}/images", masks="masks")


def test_the_splits_name_within_the_folders(tmp_path: Path) -> None:
    write(tmp_path, *(f"{kind}/{split}2017/{n}.png" for kind in ("rgb", "gt")
                      for split in ("train", "val") for n in "ab"))  # fmt: skip
    split = found(tmp_path, images="rgb/{split}2017", masks="gt/{split}2017")
    assert split["train"] == [(f"rgb/train2017/{n}.png", f"gt/train2017/{n}.png") for n in "ab"]
    assert split["val"] == [(f"rgb/val2017/{n}.png", f"gt/val2017/{n}.png") for n in "ab"]


def test_names_are_compared_in_one_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich/größe") for form in ("NFC", "NFD"))
    write(
        tmp_path, f"images/{composed}.png", f"masks/{decomposed}.png", "images/b.png", "masks/b.png"
    )
    assert (f"images/{composed}.png", f"masks/{composed}.png") in pairs(tmp_path)


def test_a_folder_named_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Fotos Köln") for form in ("NFC", "NFD"))
    write(tmp_path, *(f"{folder}/{n}.png" for n in "ab" for folder in (decomposed, "masks")))
    assert len(pairs(tmp_path, images=composed)) == 2


@pytest.mark.parametrize(
    "folder",
    [
        "@eaDir",
        "#recycle",
        "lost+found",
        "@Recycle",
        "$RECYCLE.BIN",
        "RECYCLER",
        "found.000",
        "_gsdata_",
        "Network Trash Folder",
        ".thumbs",
    ],
)
def test_folders_of_storage_systems_are_passed_over(folder: str, tmp_path: Path) -> None:
    write(tmp_path, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in "ab"))
    write(tmp_path, f"images/{folder}/a.png/SYNO_THUMB_M.jpg", f"{folder}/images/c.png")
    assert len(pairs(tmp_path)) == 2
    assert len(pairs(zip_tree(tmp_path, tmp_path.parent / f"{tmp_path.name}.zip"))) == 2


# ---- lists -------------------------------------------------------------------------------


def voc(root: Path, **lists: str) -> Path:
    write(
        root,
        *(f"JPEGImages/{n}.jpg" for n in "abcde"),
        *(f"SegmentationClass/{n}.png" for n in "abcd"),
    )
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for name, text in lists.items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text(text, "utf-8")
    return root


VOC = {
    "images": "JPEGImages",
    "masks": "SegmentationClass",
    "split_lists": "ImageSets/Segmentation",
}


@pytest.mark.parametrize(
    "train",
    [
        "a\nb\n",
        "b\r\na\r\n\r\n",
        "\ufeffa.jpg\nb.jpg",
        "JPEGImages/a.jpg\n./JPEGImages/b",
        "a\nb\na",
        "/JPEGImages/a.jpg\n{root}/JPEGImages/b.jpg",
    ],
)
def test_a_split_by_lists(train: str, tmp_path: Path) -> None:
    train = train.replace("{root}", str(tmp_path))
    split = found(voc(tmp_path, train=train, val="c", trainval="a\nb\nc"), **VOC)
    assert split == {
        "train": [(f"JPEGImages/{n}.jpg", f"SegmentationClass/{n}.png") for n in "ab"],
        "val": [("JPEGImages/c.jpg", "SegmentationClass/c.png")],
        "test": [("JPEGImages/c.jpg", "SegmentationClass/c.png")],
    }


def test_lists_one_level_below_and_without_val(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2012", train="a\nb\nc\nd")
    split = found(tmp_path, **VOC)
    assert (len(split["train"]), len(split["val"])) == (3, 1)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"train": "a\nx"}, r"train\.txt lists 'x', as no image is called"),
        ({"train": "a\ne"}, r"e\.jpg has no labels \(1 .*skip_unlabeled"),
        ({"val": "a"}, "nothing for train"),
        ({"trainval": "a"}, "holds no train.txt"),
        ({"train": "a", "training": "b"}, "both list the train split"),
        ({"train": "a\nb", "val": "b\nc"}, r"both list 'b' \(1 such"),
    ],
)
def test_lists_that_cannot_be(lists: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        found(voc(tmp_path, **lists), **VOC)


def test_no_folder_of_lists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder lists of lists"):
        found(voc(tmp_path), **{**VOC, "split_lists": "lists"})


# ---- CSV ---------------------------------------------------------------------------------


def with_csv(root: Path, text: str, name: str = "pairs.csv") -> Path:
    write(root, *(f"x/{n}.jpg" for n in "abc"), *(f"y/m{n}.png" for n in "abc"))
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(text, "utf-8")
    return root


@pytest.mark.parametrize(
    "text",
    [
        "image,mask,split\nx/a.jpg,y/ma.png,train\nx/b.jpg,y/mb.png,val\n",
        "\ufeffSplit;Image;Mask\r\nTrain;x/a.jpg;y/ma.png\r\nvalid;x/b.jpg;y/mb.png\r\n",
        "id\timage_path\tlabel\tsubset\n1\tx\\a.jpg\t./y/ma.png\ttraining\n2\tx/b.jpg\ty/mb.png\tval",
        'image,mask,split\n"x/a.jpg","y/ma.png","train"\n\nx/b.jpg, y/mb.png, val',
        '\n"Image Path", "masks", "split"\n"x/a.jpg", "y/ma.png", "train"\nx/b.jpg,y/mb.png,dev',
    ],
)
def test_a_csv_of_pairs(text: str, tmp_path: Path) -> None:
    split = found(with_csv(tmp_path, text), pairs_csv="pairs.csv")
    assert split["train"] == [("x/a.jpg", "y/ma.png")]
    assert split["val"] == split["test"] == [("x/b.jpg", "y/mb.png")]


def test_a_csv_without_splits_beside_its_files_and_elsewhere(tmp_path: Path) -> None:
    root = with_csv(tmp_path / "set", "")
    with_csv(root, "image,mask\na.jpg,../y/ma.png\nb.jpg,y/mb.png\n", "x/pairs.csv")
    assert pairs(root, pairs_csv="x/pairs.csv") == [
        ("x/a.jpg", "y/ma.png"),
        ("x/b.jpg", "y/mb.png"),
    ]
    outside = tmp_path / "pairs.csv"
    outside.write_text(f"image,mask\n{root}/x/a.jpg,{root}/y/ma.png\nx/b.jpg,y/mb.png\n")
    both = [("x/a.jpg", "y/ma.png"), ("x/b.jpg", "y/mb.png")]
    assert pairs(root, pairs_csv=str(outside)) == both


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x/a.jpg,y/ma.png\n", r"expected a first line such as image,mask,split, got 'x/a\.jpg"),
        ("", "expected a first line"),
        ("image,mask\nx/no.jpg,y/ma.png\n", r"line 2: there is no x/no\.jpg"),
        ("image,mask\nx/a.jpg,\nx/b.jpg,y/mb.png", r"a\.jpg has no labels .*skip_unlabeled"),
        ("image,mask\n,y/ma.png\n", "line 2: names no image"),
        ("image,mask,split\nx/a.jpg,y/ma.png,extra\n", "line 2: split must be .* got 'extra'"),
        ("image,mask\nx/a.jpg,y/ma.png\nx/a.jpg,y/mb.png", "lines 2 and 3 both name"),
        ("image,mask\nx/a.jpg,x/b.jpg\n", r"b\.jpg: masks must be PNG"),
        ("image,mask,image\nx/a.jpg,y/ma.png,1\n", "image and image could both be of the image"),
        ("image,filename,mask\nx/a.jpg,a.jpg,y/ma.png\n", "image and filename could both"),
        ("image,mask\n../x/a.jpg,y/ma.png\n", r"line 2: there is no \.\./x/a\.jpg"),
        ("image,mask\n", "has no rows"),
    ],
)
def test_a_csv_that_cannot_be(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        found(with_csv(tmp_path, text), pairs_csv="pairs.csv")


# ---- what has no partner -----------------------------------------------------------------


def test_images_without_masks_are_left_out_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write(tmp_path, *(f"images/{n}.jpg" for n in "abcde"), *(f"masks/{n}.png" for n in "abc"))
    both = [(f"images/{n}.jpg", f"masks/{n}.png") for n in "abc"]
    assert pairs(tmp_path, skip_unlabeled=True) == both
    assert "2 of 5 images of the data set have no mask and are left out" in caplog.text


def test_masks_without_images_stay_an_error(tmp_path: Path) -> None:
    write(tmp_path, "images/a.jpg", "images/b.jpg", "masks/a.png", "masks/c.png")
    with pytest.raises(UserError, match=r"c\.png has no image"):
        found(tmp_path, skip_unlabeled=True)


@pytest.mark.parametrize(
    ("image", "mask", "settings", "said"),
    [
        (
            "a.png",
            "a.gif",
            {},
            r"a\.gif lies there, but labels cannot be GIF files: save as PNG",
        ),
        ("a.png", "a.jpg", {}, r"a\.jpg lies there, but labels cannot be JPG"),
        ("A.png", "a.png", {}, r"masks/a\.png lies there: upper and lower case must agree"),
        ("a.png", "a_mask.png", {}, r"a_mask\.png lies there; .* pass mask_suffix='_mask'"),
        ("a.png", "gt_a.png", {}, r"gt_a\.png lies there; .* pass mask_prefix='gt_'"),
        ("a_rgb.png", "a.png", {}, r"masks/a\.png lies there; .* pass image_suffix='_rgb'"),
        ("a_rgb.png", "a_gt.png", {}, r"image_suffix='_rgb' and mask_suffix='_gt'"),
        ("1/a.png", "2/a.png", {}, r"masks/2/a\.png lies there, in another folder"),
        ("img001.png", "mask001.png", {}, r"image_prefix='img' and mask_prefix='mask'"),
        ("a.png", "a_MASK.png", {"mask_suffix": "_mask"}, r"a_MASK\.png lies there; .*'_MASK'"),
    ],
)
def test_what_lies_there_in_place_of_a_partner(
    image: str, mask: str, settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    write(
        tmp_path,
        f"images/{image}",
        f"masks/{mask}",
        "images/z.png",
        f"masks/z{settings.get('mask_suffix', '')}.png",
    )
    with pytest.raises(UserError, match=said):
        found(tmp_path, **settings)


@pytest.mark.parametrize("same", [{"images": "x", "masks": "x/."}, {"images": ".", "masks": ""}])
def test_one_folder_for_both_needs_names_that_differ(same: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need a mask_suffix"):
        Folder(tmp_path, CLASSES, **same)


# ---- paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["~/set", "$DATA/set", "${DATA}/set", "{0}/../$NAME/set"])
def test_home_and_variables_in_paths(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "set", *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in "ab"))
    for name, value in (("HOME", tmp_path), ("DATA", tmp_path), ("NAME", tmp_path.name)):
        monkeypatch.setenv(name, str(value))
    data = Folder(
        Path(given.format(tmp_path) if "{0}" in given else given), CLASSES, cache=Path("~/c")
    )
    assert len(data.pairs("train")) == 1
    assert data.cache == tmp_path / "c"


@pytest.mark.parametrize("setting", ["root", "cache", "drawn_masks", "pairs_csv", "split_lists"])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("$NOWHERE/set", "the variable NOWHERE is not set"),
        ("/x/${NOWHERE}/set", "the variable NOWHERE is not set"),
        ("~no-such-user/set", "there is no user no-such-user"),
    ],
)
def test_a_variable_or_a_user_that_is_not_there(
    given: str, said: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    write(tmp_path, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in "ab"))
    settings: dict[str, Any] = {"root": tmp_path, setting: given}
    if setting == "drawn_masks":
        settings["polygons"] = "a.json"
    with pytest.raises(UserError, match=said):
        Folder(classes=CLASSES, **settings).pairs("train")


@pytest.mark.parametrize("given", ["https://x.org/a.zip", "s3://bucket/set", "file:///data/set"])
def test_an_address_as_root(given: str) -> None:
    with pytest.raises(UserError, match="got the address"):
        Folder(Path(given), CLASSES)


def test_a_root_in_another_unicode_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "Ku\u0308he"
    write(root, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in "ab"))
    monkeypatch.chdir(tmp_path)
    for given in (tmp_path / "K\u00fche", Path("K\u00fche")):
        assert len(Folder(given, CLASSES).pairs("train")) == 1


def test_absolute_folders_below_root_and_outside(tmp_path: Path) -> None:
    root = write(tmp_path / "set", *(f"{kind}/{n}.png" for kind in "xy" for n in "abc"))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("a\nb")
    (lists / "val.txt").write_text("c")
    both: dict[str, Any] = {"images": f"{root}/x", "masks": f"{root}/y"}
    assert len(pairs(root, **both)) == 3
    assert len(found(root, **both, split_lists=str(lists))["train"]) == 2
    with pytest.raises(ValueError, match="lies outside of root"):
        Folder(root / "x", CLASSES, **both)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    names = [f"{n}\udce9" for n in "ab"]  # as Latin-1 bytes are read
    try:
        write(tmp_path, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in names))
    except OSError:
        pytest.skip("this file system takes no such names")
    assert next(pair.name for pair in Folder(tmp_path, CLASSES).pairs("train").pairs) in names


def test_paths_of_settings_from_files_and_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "/somewhere")
    file = tmp_path / "a.yaml"
    file.write_text(
        "trainer: {callbacks: [{class_path: X, init_args: {dirpath: ~/c, names: [~/x]}}]}\n"
        "data: {class_path: Folder, init_args: "
        "{root: ~/set, cache: /x/$DATA, classes: [~, $DATA/x]}}\n"
        "model: {init_from: 'https://x.org/$DATA/a', price: $5}\n"
    )
    settings = Settings.of(
        ["--config", "~/a.yaml", "--trainer.default_root_dir=~/runs", "--data.classes", "[$DATA/x]"]
    )
    settings.load()
    assert settings.root == tmp_path / "runs"
    assert settings.get("data.root") == f"{tmp_path}/set"
    assert settings.get("data.cache") == "/x//somewhere"
    (callback,) = settings.config["trainer"]["callbacks"]
    assert callback["init_args"] == {"dirpath": f"{tmp_path}/c", "names": ["~/x"]}
    assert settings.get("data.classes") == "[$DATA/x]"
    assert settings.config["data"]["init_args"]["classes"] == [None, "$DATA/x"]
    assert settings.get("model.init_from") == "https://x.org/$DATA/a"
    assert settings.get("model.price") == "$5"
