"""The decoded cache between processes: one that is killed, two at once, one that may not write."""

import multiprocessing
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pne_seg.data.cache import CachedDataset
from pne_seg.errors import UserError
from tests.data.cached import NUM_IMAGES, assert_same, cached, entries, filled
from tests.data.miniature import write_ade20k

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_ade20k(tmp_path / "ade")
    return tmp_path / "ade"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_killed_in_the_middle_it_goes_on_from_there(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, calls, fsync = FORK.Event(), iter(range(1000)), os.fsync

    def stop(file: int) -> None:
        if next(calls) >= 3:  # the content of another file is written
            while len(entries(cache)) < 3:
                time.sleep(0.01)
            stuck.set()
            time.sleep(60)
        fsync(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", stop)
        child = FORK.Process(target=filled, args=(root, cache))
        child.start()
        assert stuck.wait(30)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    before = entries(cache)
    assert len(before) == 3
    assert list(cache.rglob("*.tmp"))

    split = filled(root, cache)
    after = entries(cache)
    assert len(after) == NUM_IMAGES
    assert before.items() <= after.items()  # not written again
    assert not list(cache.rglob("*.tmp"))
    for index in range(NUM_IMAGES):
        assert_same(split.read(index), split.source.read(index))


def test_two_processes_at_once_decode_each_image_once(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, stored, store = FORK.Barrier(2), FORK.Value("i", 0), CachedDataset.store

    def counted(split: CachedDataset, index: int) -> None:
        with stored.get_lock():
            stored.value += 1
        time.sleep(0.05)
        store(split, index)

    def fill() -> None:
        split = cached(root, cache)
        assert len(split.absent()) == NUM_IMAGES
        begin.wait(30)
        split.fill()
        assert not split.absent()

    monkeypatch.setattr(CachedDataset, "store", counted)
    children = [FORK.Process(target=fill) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert stored.value == NUM_IMAGES
    assert len(entries(cache)) == NUM_IMAGES


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for place in [folder, *folder.rglob("*")]:
        place.chmod(place.stat().st_mode | stat.S_IWUSR)
    shutil.rmtree(folder)


def as_reader(act: Callable[[], object]) -> None:
    """Do something as a user who may not write."""

    def child() -> None:
        if os.geteuid() == 0:  # who may write everywhere
            os.setuid(65534)
        act()

    process = FORK.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_cache_that_is_closed_to_writing(public: Path) -> None:
    write_ade20k(public / "ade")
    split = filled(public / "ade", public / "cache")
    for place in public.rglob("*"):
        place.chmod(place.stat().st_mode & ~0o222)

    def complete() -> None:
        assert not os.access(public / "cache", os.W_OK)
        assert_same(filled(public / "ade", public / "cache").read(1), split.source.read(1))

    def with_a_gap() -> None:
        assert split.absent() == [0]
        assert_same(split.read(0), split.source.read(0))  # decoded, and not kept
        with pytest.raises(UserError, match=r"cache .*cannot be written"):
            split.fill()

    as_reader(complete)
    os.utime(public / "ade" / "images" / "training" / "ADE_train_00000001.jpg", (0, 0))
    as_reader(with_a_gap)
