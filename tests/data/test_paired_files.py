"""Splits as pairs of files: matched by name, sizes and kinds checked, nothing left over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pne_seg.data import paired_files as module
from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.images import ImageInfo
from pne_seg.data.label_formats import IGNORE, IndexLabels
from pne_seg.data.paired_files import Pair, PairedDataset, match, spread
from pne_seg.data.sources import open_tree
from pne_seg.errors import UserError

LABELS = IndexLabels(range(4), ignored=[255])
SIZE = (6, 8)
EXPECTED = "Expected images/NAME.png with masks/NAME.png."


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five pairs `a` to `e`, each image gray in a tone of its own, each mask of one class."""
    for number, name in enumerate("abcde"):
        write(tmp_path / "images" / f"{name}.png", np.full((*SIZE, 3), 10 * number, np.uint8))
        write(tmp_path / "masks" / f"{name}.png", np.full(SIZE, number % 4, np.uint8))
    return tmp_path


def matched(root: Path) -> list[Pair]:
    tree = open_tree(root)

    def key(file: DataFile) -> str:
        return file.stem

    return match(tree.files("images", [".png"]), tree.files("masks", [".png"]), EXPECTED, key, key)


def dataset(root: Path, home: str = "https://home") -> PairedDataset:
    return PairedDataset(matched(root), LABELS, home)


# ---- matching ----------------------------------------------------------------------------


def test_pairs_are_sorted_by_name_whatever_the_order_of_the_files(root: Path) -> None:
    tree = open_tree(root)
    images, labels = tree.files("images", [".png"]), tree.files("masks", [".png"])
    found = match(images[::-1], labels[2:] + labels[:2], "")
    assert [pair.name for pair in found] == [*"abcde"]
    for pair in found:
        assert str(pair.image) == str(root / "images" / f"{pair.name}.png")
        assert str(pair.labels) == str(root / "masks" / f"{pair.name}.png")


def test_keys_may_differ_from_the_names() -> None:
    images = [open_file(Path("/x/aachen_7_leftImg8bit.png"))]
    labels = [open_file(Path("/y/aachen_7_gtFine_labelIds.png"))]
    (pair,) = match(
        images,
        labels,
        "",
        label_key=lambda file: file.stem.removesuffix("_gtFine_labelIds") + "_leftImg8bit",
    )
    assert (pair.name, pair.image, pair.labels) == ("aachen_7_leftImg8bit", *images, *labels)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("masks", "images/b.png has no labels"), ("images", "masks/b.png has no image")],
)
def test_a_missing_partner(kind: str, said: str, root: Path) -> None:
    for name in "db":
        (root / kind / f"{name}.png").unlink()
    with pytest.raises(UserError) as caught:
        matched(root)
    assert str(caught.value) == f"{root}/{said} (2 such files in all). {EXPECTED}"


def test_two_files_of_one_name(root: Path) -> None:
    write(root / "images" / "sub" / "c.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(UserError, match=r"images/c\.png and .*sub/c\.png share a name\. Remove"):
        matched(root)


def test_no_files_are_no_pairs() -> None:
    assert match([], [], "") == []


# ---- reading -----------------------------------------------------------------------------


def test_reading(root: Path) -> None:
    data = dataset(root)
    assert len(data) == 5
    assert data.labeled
    for index in range(5):
        image, labels, source_size = data.read(index)
        assert data.name(index) == "abcde"[index]
        assert (image == 10 * index).all()
        assert image.shape == (*SIZE, 3)
        assert (labels == index % 4).all()
        assert source_size == data.source_size(index) == data.stored_size(index) == SIZE
        np.testing.assert_array_equal(data.read_labels(index), labels)


def test_without_labels_all_is_ignored(root: Path) -> None:
    data = PairedDataset([Pair("a", open_file(root / "images/a.png"), None)], LABELS, "")
    assert not data.labeled
    assert data.read_labels(0) is None
    data.check_header(0)
    image, labels, _ = data.read(0)
    assert labels.shape == image.shape[:2]
    assert (labels == IGNORE).all()


def test_identity_changes_with_either_file_and_with_the_classes(root: Path) -> None:
    data = dataset(root)
    identities = {data.identity(index) for index in range(5)}
    assert len(identities) == 5
    assert dataset(root).identity(0) in identities
    first = data.identity(0)
    others = IndexLabels(range(4), ignored=[254])
    assert PairedDataset(data.pairs, others, "").identity(0) != first
    for kind in ("images", "masks"):
        path = root / kind / "a.png"
        path.write_bytes(path.read_bytes() + b"more")
        assert data.identity(0) not in identities
        identities.add(data.identity(0))


# ---- mistakes, as the headers show them and as reading does ------------------------------


def smaller_mask(root: Path) -> None:
    write(root / "masks" / "c.png", np.zeros((6, 7), np.uint8))


def mask_on_its_side(root: Path) -> None:
    write(root / "masks" / "c.png", np.zeros((8, 6), np.uint8))


def image_turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write(root / "images" / "c.png", np.zeros((*SIZE, 3), np.uint8), exif=exif)


def colored_mask(root: Path) -> None:
    write(root / "masks" / "c.png", np.full((*SIZE, 3), [1, 2, 3], np.uint8))


def deep_mask(root: Path) -> None:
    write(root / "masks" / "c.png", np.full(SIZE, 300, np.uint16))


def image_gone(root: Path) -> None:
    (root / "images" / "c.png").unlink()


def mask_gone(root: Path) -> None:
    (root / "masks" / "c.png").unlink()


def image_empty(root: Path) -> None:
    (root / "images" / "c.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            smaller_mask,
            r"masks/c\.png is \(6, 7\) .*images/c\.png is \(6, 8\)\. Fetch both .*home\.",
        ),
        (mask_on_its_side, r"masks/c\.png is \(8, 6\) .*images/c\.png is \(6, 8\)\. Fetch both"),
        (
            image_turned,
            r"masks/c\.png is \(6, 8\) .*c\.png is \(8, 6\)\. The image's EXIF data turn",
        ),
        (colored_mask, r"masks/c\.png: labels must be .* 3 channels"),
        (deep_mask, r"masks/c\.png: labels must be .* 16 bits"),
        (image_gone, r"images/c\.png: cannot be read"),
        (mask_gone, r"masks/c\.png: cannot be read"),
        (image_empty, r"images/c\.png: not a readable image"),
    ],
)
def test_a_mistake_that_the_headers_show(
    damage: Callable[[Path], None], said: str, root: Path
) -> None:
    data = dataset(root)
    data.check()
    damage(root)
    for call in (data.check, lambda: data.check_header(2), lambda: data.read(2)):
        with pytest.raises(UserError, match=said):
            call()
    data.check_header(1)
    data.read(3)


def test_own_files_are_to_be_made_to_match(root: Path) -> None:
    smaller_mask(root)
    with pytest.raises(UserError, match=r"Make them match\.$"):
        dataset(root, home="").check()


def test_the_check_reads_headers_alone_and_not_all_of_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(root)
    looked_at: list[int] = []
    check_header = data.check_header

    def noting(index: int) -> ImageInfo:
        looked_at.append(index)
        return check_header(index)

    monkeypatch.setattr(data, "check_header", noting)
    monkeypatch.setattr(module, "CHECKED_HEADERS", 3)
    data.check()
    assert looked_at == [0, 2, 4]
    monkeypatch.undo()
    monkeypatch.setattr(PairedDataset, "read", lambda *_: pytest.fail("decoded"))
    data.check()


@given(st.integers(0, 500), st.integers(2, 60))
def test_spread(total: int, limit: int) -> None:
    chosen = spread(total, limit)
    assert len(chosen) == min(total, limit)
    if total > limit:
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        steps = np.diff(chosen)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1
    else:
        assert chosen == list(range(total))


@pytest.mark.parametrize(("most", "bits"), [(255, 8), (4000, 12), (65535, 16)])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_the_bits_of_deep_images_are_reported_once(
    ending: str, most: int, bits: int, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    files = []
    for name in "abc":
        image = write(root / f"deep/{name}{ending}", np.full(SIZE, most, np.uint16))
        files.append(Pair(name, open_file(image), open_file(root / f"masks/{name}.png")))
    PairedDataset(files, LABELS, "").check()
    assert caplog.text.count("have more than 8 bits per channel") == 1
    assert "3 of 3 images that were looked at have more than 8 bits" in caplog.text
    assert f"a{ending} is read as {bits} bits" in caplog.text
