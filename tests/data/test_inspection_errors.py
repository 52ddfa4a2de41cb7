"""Seeded corruptions: a complete check names each file with what is wrong, and a mend."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pne_seg.data import CamVid, Folder
from pne_seg.data.inspection import Inspection, as_json, inspect, report_text
from tests.data.camvid_tree import write, write_tree

PLAIN = (48, 64)
MENDS = ("Fetch", "Save", "Correct", "Convert", "Cut", "Make", "Expected")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_image(path: Path) -> None:
    path.write_bytes(b"<html>404 Not Found</html>")


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere.png"))


def forbidden(path: Path) -> None:
    path.chmod(0)


def bomb(path: Path) -> None:
    """A header of 60,000 × 60,000 pixels before a few bytes of data."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        content += struct.pack(">I", len(body)) + kind + body
        content += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(content)


def jpeg_bomb(path: Path) -> None:
    """The same in a JPEG, whose frame header is made to lie."""
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(content)


def out_of_range(path: Path) -> None:
    labels = np.array(Image.open(path))
    labels[5:7, 10] = 77
    write(path, labels)


def other_size(path: Path) -> None:
    write(path, np.zeros((48, 60), np.uint8))


def in_color(path: Path) -> None:
    write(path, np.full((*PLAIN, 3), [1, 2, 3], np.uint8))


def of_16_bits(path: Path) -> None:
    Image.fromarray(np.full(PLAIN, 300, np.uint16)).save(path)


as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or not os.geteuid(), reason="root may all")


def checked(root: Path) -> Inspection:
    return inspect(CamVid(root, batch_size=2, crop_size=PLAIN), processes=1)


def assert_named(inspection: Inspection, kind: str, file: Path, said: str) -> None:
    """The one error is of this kind, in the report as in the JSON, with file and mend."""
    (error,) = inspection.of("error")
    assert error.kind == kind
    assert str(file) in error.message
    assert said in error.message
    mend = error.message.partition(said)[2]
    assert any(word in mend for word in MENDS), error.message
    assert error.message in report_text(inspection).replace("\n    ", "\n")
    assert report_text(inspection).splitlines()[-1].startswith("1 error, ")
    read = json.loads(json.dumps(as_json(inspection)))
    assert not read["ok"]
    assert [entry["message"] for entry in read["errors"]] == [error.message]


@pytest.mark.parametrize(
    ("extension", "corrupt", "said"),
    [
        (".png", truncate, "cut short"),
        (".jpg", truncate, "cut short"),
        (".png", no_image, "not a readable image"),
        (".jpg", no_image, "not a readable image"),
        (".png", dangling, "No such file"),
        pytest.param(".png", forbidden, "Permission denied", marks=as_root),
        (".png", bomb, "pixels"),
        (".jpg", jpeg_bomb, "pixels"),
    ],
)
def test_a_bad_image(
    extension: str, corrupt: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    root = write_tree(tmp_path, extension=extension)
    file = root / "val" / f"val_1{extension}"
    corrupt(file)
    inspection = checked(root)
    assert_named(inspection, "image", file, said)
    (error,) = inspection.of("error")
    assert (error.splits, error.files) == (["val"], [str(file)])


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [
        (truncate, "cut short"),
        (no_image, "not a readable image"),
        (dangling, "No such file"),
        (bomb, "pixels"),
        (out_of_range, "label 77 (2 pixels)"),
        (in_color, "3 channels"),
        (of_16_bits, "16 bits"),
    ],
)
def test_bad_labels(corrupt: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    file = root / "trainannot" / "train_2.png"
    corrupt(file)
    inspection = checked(root)
    assert_named(inspection, "labels", file, said)
    (error,) = inspection.of("error")
    assert (error.splits, error.files) == (["train"], [str(file)])


def test_sizes_that_differ(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    file = root / "testannot" / "test_0.png"
    other_size(file)
    inspection = checked(root)
    assert_named(inspection, "sizes", file, "(48, 60)")
    assert str(root / "test" / "test_0.png") in inspection.of("error")[0].message


def test_both_faults_of_a_pair_are_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    truncate(root / "train" / "train_1.png")
    out_of_range(root / "trainannot" / "train_1.png")
    assert [error.kind for error in checked(root).of("error")] == ["image", "labels"]


@pytest.mark.parametrize(
    ("removed", "left", "said"),
    [
        ("val/val_1.png", "valannot/val_1.png", "has no image"),
        ("valannot/val_1.png", "val/val_1.png", "has no labels"),
    ],
)
def test_a_missing_partner(removed: str, left: str, said: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    (root / removed).unlink()
    inspection = checked(root)
    assert_named(inspection, "split", root / left, said)
    assert inspection.splits["val"] is None
    assert as_json(inspection)["splits"]["val"] is None
    assert "val cannot be opened" in report_text(inspection)
    for split in ("train", "test"):  # these are checked all the same
        figures = inspection.splits[split]
        assert figures is not None
        assert figures.pixels.sum() > 0


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split(split: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    for folder in (root / split, root / f"{split}annot"):
        for path in folder.iterdir():
            path.unlink()
    (error,) = checked(root).of("error")
    assert error.splits == [split]
    assert "has no images" in error.message or "holds no" in error.message


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    root = write_tree(tmp_path)
    inspection = inspect(CamVid(root, batch_size=5), processes=1)
    (error,) = inspection.of("error")
    assert "4 images, fewer than a batch of 5. Lower batch_size." in error.message
    assert inspection.splits["train"] is not None
    assert inspection.splits["train"].pixels.sum() > 0


def test_one_class(tmp_path: Path) -> None:
    write_tree(tmp_path)
    data = Folder(tmp_path, classes=["object"], crop_size=(32, 32), batch_size=1)
    inspection = inspect(data)
    assert "must be 2 or more, got 1" in report_text(inspection)
    assert any("Name the background" in one.message for one in inspection.of("error"))
    with pytest.raises(ValueError, match="2 or more, got 1"):
        data.setup("fit")


def test_what_concerns_all_splits_is_said_once(tmp_path: Path) -> None:
    inspection = inspect(Folder(tmp_path, ["a", "b"]), processes=1)
    (error,) = inspection.of("error")
    assert error.splits == ["train", "val", "test"]
    assert inspection.splits == {"train": None, "val": None, "test": None}
    assert "1 error" in report_text(inspection)


def test_damage_that_decodes_is_a_warning(tmp_path: Path) -> None:
    """Zeros in the middle of a JPEG: every decoder goes on, and guesses."""
    root = write_tree(tmp_path, extension=".jpg")
    file = root / "train" / "train_1.jpg"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = bytes(300)
    file.write_bytes(content)
    inspection = checked(root)
    assert not inspection.of("error")
    (warning,) = inspection.of("warning")
    assert (warning.kind, warning.files) == ("damage", [str(file)])
    assert "Corrupt JPEG data" in warning.message


def test_one_cause_is_one_finding_whose_files_the_text_shortens(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"train": 25, "val": 2, "test": 1}, shape=(8, 8))
    files = sorted((root / "train").iterdir())
    for file in files:
        no_image(file)
    inspection = inspect(CamVid(root, batch_size=2), processes=1)
    text = report_text(inspection)
    (error,) = as_json(inspection)["errors"]
    assert error["message"].startswith("25 of 28 images: not a readable image (no JPEG,")
    assert error["files"] == [*map(str, files)]
    assert error["message"] in text
    assert sum(str(file) in text for file in files) == 5
    assert "and 20 more" in text
    assert all(str(file) in report_text(inspection, most_files=None) for file in files)
    assert text.splitlines()[-1].startswith("1 error, ")
