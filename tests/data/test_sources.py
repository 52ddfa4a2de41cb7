"""Files are found and read alike in a folder and in a zip archive of it."""

import contextlib
import hashlib
import io
import multiprocessing
import os
import pickle
import random
import signal
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.sources import Tree, open_tree
from pne_seg.errors import UserError

CONTENT = {
    "images/training/b.JPG": b"b" * 3000,
    "images/training/a.jpg": random.Random(0).randbytes(5000),
    "images/training/deep/er/c.jpg": b"",
    "images/training/notes.txt": b"notes",
    "images/validation/a.jpg": b"another a",
    "images.jpg": b"beside the folder",
    "annotations/a.b.png": b"a.b",
}
HIDDEN = {
    "images/training/._a.jpg": b"",
    "images/training/.DS_Store": b"",
    "images/.cache/a.jpg": b"",
    "__MACOSX/images/training/a.jpg": b"",
}
TRAINING = ["images/training/a.jpg", "images/training/b.JPG", "images/training/deep/er/c.jpg"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (CONTENT | HIDDEN).items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "set"


def pack(archive: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as packed:
        for name, content in (CONTENT | HIDDEN).items():
            packed.writestr(name, content)
    return archive


@pytest.fixture(params=["folder", "stored", "deflated"])
def tree(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Tree:
    if request.param == "folder":
        return open_tree(folder)
    stored = request.param == "stored"
    method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    return open_tree(pack(tmp_path / "set.zip", method))


def test_files_are_found_and_read(tree: Tree) -> None:
    found = tree.files("images/training", (".jpg",))
    assert [file.relative for file in found] == TRAINING
    assert [file.name for file in found] == ["a.jpg", "b.JPG", "c.jpg"]
    assert [file.read_bytes() for file in found] == [CONTENT[name] for name in TRAINING]
    with found[0].open() as stream:
        assert stream.read(10) == CONTENT[TRAINING[0]][:10]
        stream.seek(4990)
        assert stream.read() == CONTENT[TRAINING[0]][4990:]
    for place in ("", "/"):
        every = [file.relative for file in tree.files(place, (".JPG", ".png", ".txt"))]
        assert every == sorted(CONTENT)
    assert [file.stem for file in tree.files("annotations", (".png",))] == ["a.b"]
    assert [file.name for file in tree.files("", ("_b.jpg", "tes.txt"))] == ["notes.txt"]


def test_what_is_not_there(tree: Tree) -> None:
    for absent in ("images/test", "images/training/a.jpg", "image", "images/training/dee"):
        assert tree.files(absent, (".jpg",)) == []
        assert not tree.has(absent)
        assert tree.folders(absent) == []
    assert tree.file("images/training") is None
    assert tree.file("images/training/x.jpg") is None
    assert tree.files("images", ()) == []


def test_folders_and_single_files(tree: Tree) -> None:
    assert tree.has("")
    assert tree.has("images")
    assert tree.has("images/training/")
    assert tree.folders() == ["annotations", "images"]
    assert tree.folders("images") == ["training", "validation"]
    file = tree.file("images/validation/a.jpg")
    assert file is not None
    assert file.read_bytes() == b"another a"


def test_a_tree_rooted_lower(tree: Tree) -> None:
    lower = tree.within("images").within("training")
    assert lower.has("deep/er")
    assert lower.folders() == ["deep"]
    assert [file.relative for file in lower.files("", (".jpg",))] == [
        name.removeprefix("images/training/") for name in TRAINING
    ]
    file = lower.file("a.jpg")
    assert file is not None
    assert file.read_bytes() == CONTENT["images/training/a.jpg"]
    assert str(file) == f"{tree}/images/training/a.jpg"
    assert str(lower) == f"{tree}/images/training"
    assert not tree.within("images/test").has("")


def test_files_are_small_and_travel(tree: Tree) -> None:
    files = tree.files("", (".jpg",))
    copies: list[DataFile] = pickle.loads(pickle.dumps(files))
    assert [file.read_bytes() for file in copies] == [file.read_bytes() for file in files]
    assert [file.identity() for file in copies] == [file.identity() for file in files]
    assert len({file.identity() for file in files}) == len(files)
    assert not any(hasattr(file, "__dict__") for file in files)


_files: list[DataFile] = []


def _digest(index: int) -> str:
    return hashlib.sha256(_files[index].read_bytes()).hexdigest()


@needs_fork
def test_forked_processes_and_threads_read_at_once(tmp_path: Path) -> None:
    """What a parent process opened and read before it forks serves its children."""
    contents = [random.Random(index).randbytes(20_000) for index in range(40)]
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as packed:
        for index, content in enumerate(contents):
            packed.writestr(f"{index:02d}.jpg", content, compress_type=(0, 8)[index % 2])
    _files[:] = open_tree(tmp_path / "many.zip").files("", (".jpg",))
    expected = [hashlib.sha256(content).hexdigest() for content in contents]
    assert list(map(_digest, range(40))) == expected
    with multiprocessing.get_context("fork").Pool(2) as pool:
        here = pool.map_async(_digest, list(range(40)) * 10, chunksize=1)
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(_digest, list(range(40)) * 10)) == expected * 10
        assert here.get(60) == expected * 10


def test_links_are_followed_but_not_for_ever(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "z.jpg").write_bytes(b"z")
    (folder / "images/linked").symlink_to(elsewhere)
    (folder / "images/again").symlink_to(elsewhere)
    (elsewhere / "home").symlink_to(folder)
    (folder / "images/training/up").symlink_to(folder / "images")
    names = [file.relative for file in open_tree(folder).files("images", ("z.jpg",))]
    assert names == ["images/again/z.jpg", "images/linked/z.jpg"]
    through = tmp_path / "through"
    through.symlink_to(folder)
    assert [file.relative for file in open_tree(through).files("images/training", (".txt",))] == [
        "images/training/notes.txt"
    ]


def test_identity_changes_with_the_file(folder: Path, tmp_path: Path) -> None:
    file = open_file(folder / "images.jpg")
    before = file.identity()
    assert before == file.identity()
    os.utime(folder / "images.jpg", ns=(1, 1))
    touched = file.identity()
    (folder / "images.jpg").write_bytes(b"longer than before, by far")
    os.utime(folder / "images.jpg", ns=(1, 1))
    assert len({before, touched, file.identity()}) == 3

    archive = pack(tmp_path / "set.zip")
    first = open_tree(archive).files("", (".jpg",))
    os.utime(archive, ns=(1, 1))
    second = open_tree(archive).files("", (".jpg",))
    assert not {file.identity() for file in first} & {file.identity() for file in second}


def test_an_unreadable_file_is_named(folder: Path) -> None:
    (folder / "images/broken.jpg").symlink_to(folder / "nowhere")
    broken = open_tree(folder).files("images", ("broken.jpg",))[0]
    missing = open_file(folder / "gone.png")
    for file in (broken, missing):
        calls: list[Callable[[], object]] = [file.read_bytes, file.open, file.identity]
        for call in calls:
            with pytest.raises(UserError, match=rf"{file.name}: cannot be read \(No such file"):
                call()


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = pack(tmp_path / "set.zip", method)
        files = open_tree(archive).files("images/training", (".jpg",))
        whole = archive.read_bytes()
        for damaged in (whole.replace(b"PK\3\4", b"PK\3\5"), whole[:2000], _with_a_flip(whole)):
            archive.write_bytes(damaged)
            with pytest.raises(UserError, match=r"set\.zip/images/training/a\.jpg is dama.*Fetch"):
                files[0].read_bytes()
        archive.unlink()
        with pytest.raises(UserError, match=r"set\.zip: cannot be read"):
            files[0].read_bytes()


def _with_a_flip(whole: bytes) -> bytes:
    """One bit in the middle of the member is another."""
    with zipfile.ZipFile(io.BytesIO(whole)) as packed:
        at = packed.getinfo(TRAINING[0]).header_offset + 1000
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip")
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"set\.zip: not a whole zip.*Fetch the archive again"):
        open_tree(archive)


def test_what_is_no_tree_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"images\.jpg is a plain file: give a folder"):
        open_tree(folder / "images.jpg")
    with pytest.raises(UserError, match=rf"folder above is {folder}; it holds annota.*, imag"):
        open_tree(folder / "annotation/training")


def test_an_archive_without_its_extension_is_one(tmp_path: Path) -> None:
    archive = pack(tmp_path / "download")
    assert open_tree(archive).folders() == ["annotations", "images"]


# ---- content -----------------------------------------------------------------------------------


def test_a_digest_follows_the_content_at_the_same_size_and_time(tmp_path: Path) -> None:
    place = tmp_path / "set" / "a.png"
    place.parent.mkdir()
    place.write_bytes(b"1234")
    os.utime(place, (10**9, 10**9))
    before = open_file(place).digest()
    assert before == hashlib.blake2b(b"1234", digest_size=16).hexdigest()
    place.write_bytes(b"1235")
    os.utime(place, (10**9, 10**9))
    assert open_file(place).digest() != before
    place.write_bytes(b"1234")  # at another time
    assert open_file(place).digest() == before
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(place, "a.png")
    member = open_tree(tmp_path / "set.zip").file("a.png")
    assert member is not None
    assert member.digest() == before
    with pytest.raises(UserError, match=r"none\.png: cannot be read"):
        open_file(tmp_path / "none.png").digest()


# ---- what is no file ---------------------------------------------------------------------------


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """End what would wait for ever."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def make_special(kind: str, place: Path) -> None:
    if kind == "a named pipe":
        os.mkfifo(place)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as opened, contextlib.chdir(place.parent):
            opened.bind(place.name)  # a path must be short
    elif kind == "a directory":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")


KINDS = ["a named pipe", "a socket", "a directory", "a device"]


@pytest.mark.skipif(sys.platform == "win32", reason="files of Unix")
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    make_special(kind, tmp_path / "odd.png")
    file = open_file(tmp_path / "odd.png")
    reads: list[Callable[[], object]] = [file.read_bytes, file.open, file.digest]
    if kind != "a directory":
        reads.append(lambda: open_tree(tmp_path / "odd.png"))
        found = open_tree(tmp_path).files("", [".png"])[0]
        reads.append(found.read_bytes)
    for read in reads:
        with (
            within(10),
            pytest.raises(UserError, match=rf"odd\.png: is {kind}, not a regular") as e,
        ):
            read()
        assert "\n" not in str(e.value)


def test_links_that_lead_nowhere_hide_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("none")
    tree = open_tree(tmp_path)
    assert tree.folders() == []
    for file, why in zip(
        tree.files("", [".png"])[1:], ["Too many levels", "No such file"], strict=True
    ):
        with pytest.raises(UserError, match=rf"{file.name}: cannot be read \({why}"):
            file.read_bytes()


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(3 * 10**12)  # takes no room on the disk
    with pytest.raises(UserError, match=r"huge\.png: has 3\.0 TB, files of images and labels"):
        open_file(tmp_path / "huge.png").read_bytes()
