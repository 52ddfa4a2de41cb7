"""The decoded cache: what was decoded and nothing else, whatever happens to it or to the files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import cv2
import pytest
from rich.filesize import decimal

from pne_seg.data import ADE20K, CamVid, Cityscapes, Folder
from pne_seg.data.cache import CachedDataset
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.paired_files import PairedDataset
from pne_seg.errors import UserError
from tests.data.cached import NUM_IMAGES, assert_same, entries, filled
from tests.data.miniature import write_ade20k, write_camvid, write_cityscapes, write_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ade20k(tmp_path / "ade")
    return tmp_path / "ade"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "some" / "cache"


def forbidden(*_: object, **__: object) -> NoReturn:
    raise AssertionError("was called")


# ---- content -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "build"),
    [
        (write_ade20k, ADE20K),
        (write_cityscapes, Cityscapes),
        (write_camvid, lambda root, **kwargs: CamVid(root, scale=0.5, **kwargs)),
        (lambda root: write_folder(root, "split_first", "color"), Folder),
    ],
)
def test_what_was_decoded_is_read_without_decoding(
    write: Callable[[Path], object],
    build: Callable[..., FileDataModule],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "data")
    data = build(tmp_path / "data", cache=tmp_path / "cache", num_workers=0, batch_size=1)
    plain = build(tmp_path / "data", num_workers=0, batch_size=1)
    data.train_dataloader()
    expected = [plain.split("train").read(i) for i in range(len(plain.split("train")))]
    monkeypatch.setattr(PairedDataset, "read", forbidden)
    split = data.split("train")
    assert len(split) == len(expected) == len(entries(tmp_path / "cache"))
    for index, sample in enumerate(expected):
        assert_same(split.read(index), sample)
        assert split.name(index) == plain.split("train").name(index)
        assert split.source_size(index) == sample.source_size
    assert split.labeled
    # Evaluation, which takes each image once an epoch, stays without.
    assert not isinstance(data.split("val"), CachedDataset)


def test_writing_into_a_sample_changes_no_file(root: Path, cache: Path) -> None:
    split = filled(root, cache)
    sample = split.read(0)
    sample.image[:] = 7
    sample.labels[:] = 7
    assert_same(split.read(0), split.source.read(0))


# ---- the disk ----------------------------------------------------------------------------


def test_the_size_is_said_and_must_be_there(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(root, cache)
    needed = sum(path.stat().st_size for path in entries(cache))
    said = capsys.readouterr().err
    assert f"6 of 6 decoded images are missing; about {decimal(needed)} will be written" in said
    shutil.rmtree(cache)

    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(UserError, match=rf"\(cache\): {decimal(needed)} are needed"):
        filled(root, cache)
    assert not entries(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    filled(root, cache)
    assert len(entries(cache)) == NUM_IMAGES


@pytest.mark.parametrize("place", [".", "below"])
def test_a_folder_that_cannot_be_made(root: Path, tmp_path: Path, place: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match=r"cache .*file.*: cannot be written"):
        filled(root, file / place)


def test_a_full_disk_is_said_with_the_file(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"\.raw: cannot be written \(No space left"):
            filled(root, cache)
    assert {path.name for path in cache.rglob("*") if path.is_file()} <= {".lock"}
    filled(root, cache)
    assert len(entries(cache)) == NUM_IMAGES


def test_a_bad_image_stops_it_with_its_name(root: Path, cache: Path) -> None:
    bad = root / "images" / "training" / "ADE_train_00000003.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"ADE_train_00000003\.jpg.*cut short"):
        filled(root, cache)
    assert not list(cache.rglob("*.tmp"))
    bad.write_bytes(whole)
    filled(root, cache)
    assert len(entries(cache)) == NUM_IMAGES


# ---- a cache that is there ---------------------------------------------------------------


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_a_changed_file_gets_an_entry_of_its_own(root: Path, cache: Path, part: str) -> None:
    before = filled(root, cache)
    old = entries(cache)
    (file,) = (root / part / "training").glob("ADE_train_00000005.*")
    pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    cv2.imwrite(str(file), pixels[::-1])
    split = filled(root, cache)
    assert len(entries(cache)) == NUM_IMAGES + 1
    assert old.items() <= entries(cache).items()
    assert_same(split.read(4), split.source.read(4))
    # What was opened before sees the change, too.
    assert_same(before.read(4), split.source.read(4))


def test_other_classes_get_entries_of_their_own(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "split_first")
    forms: list[Any] = [["a", "b", "c", "d"], {"d": 3, "c": 2, "b": 1, "a": 0}]
    for classes in forms:
        data = Folder(
            tmp_path / "data", classes, cache=tmp_path / "cache", num_workers=0, batch_size=1
        )
        data.train_dataloader()
        split = data.split("train")
        assert isinstance(split, CachedDataset)
        for index in range(len(split)):
            assert_same(split.read(index), split.source.read(index))
    assert len(entries(tmp_path / "cache")) == 2 * len(split)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def of_something_else(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes(8) + content[8:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("by", ["fill", "read"])
@pytest.mark.parametrize("damage", [cut_short, emptied, of_something_else, Path.unlink])
def test_a_damaged_entry_is_not_used_and_made_anew(
    damage: Callable[[Path], Any], by: str, root: Path, cache: Path
) -> None:
    split = filled(root, cache)
    for path in entries(cache):
        os.utime(path, (0, 0))
    old = entries(cache)
    damage(split.path(2))
    if by == "fill":
        split.fill()
    else:
        assert_same(split.read(2), split.source.read(2))
    new = entries(cache)
    assert {path for path in new if new[path] != old[path]} == {split.path(2)}
    assert not split.absent()
    assert_same(split.read(2), split.source.read(2))
