"""Zip archives that could do harm are refused by name; the others are unpacked whole or not."""

import multiprocessing
import os
import random
import shutil
import signal
import stat
import struct
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pne_seg.data.archives import check_members, exclusive, extract, open_archive
from pne_seg.data.sources import open_tree
from pne_seg.errors import UserError

CONTENT = {
    f"set/{index % 3}/{index:02d}.png": random.Random(index).randbytes(9000) for index in range(12)
}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")

# Fields of a member's entry in the directory of an archive: offset in it and format.
FLAGS, METHOD, PACKED, SIZE = (8, "<H"), (10, "<H"), (20, "<L"), (24, "<L")


def pack(archive: Path, content: dict[str, bytes] | None = None, kind: int = 0) -> Path:
    """`kind`: what the last member is on a Unix system, as in `stat`."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        names = CONTENT if content is None else content
        for name, data in names.items():
            member = zipfile.ZipInfo(name)
            if kind and name == list(names)[-1]:
                member.external_attr = (kind | 0o777) << 16
            packed.writestr(member, data, zipfile.ZIP_DEFLATED)
    return archive


def patch(archive: Path, field: tuple[int, str], value: int) -> Path:
    """Change what the directory of the archive says of its last member."""
    data = bytearray(archive.read_bytes())
    struct.pack_into(field[1], data, data.rindex(b"PK\1\2") + field[0], value)
    archive.write_bytes(data)
    return archive


def refused(archive: Path, match: str) -> None:
    """By extraction and by reading in place, with nothing written anywhere."""
    home = archive.parent
    before = sorted(home.parent.rglob("*"))
    calls: list[Callable[[], object]] = [
        lambda: open_tree(archive),
        lambda: extract(archive, home / "out"),
    ]
    for call in calls:
        with pytest.raises(UserError, match=match) as caught:
            call()
        assert str(archive) in str(caught.value)
    after = [path for path in sorted(home.parent.rglob("*")) if path.suffix != ".lock"]
    assert after == before


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with room around it, which an archive could write into."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    return tmp_path / "a/b/c"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "set/../../evil",
        "/abs",
        "//abs",
        "C:\\x",
        "C:x",
        "set/D:/x",
        "..\\evil",
        "a\\b",
        ".. /x",
    ],
)
def test_members_that_lead_outside(home: Path, name: str) -> None:
    archive = pack(home / "set.zip", {"set/fine.png": b"fine", name: b"evil"})
    refused(archive, r"member '.*(evil|abs|x|b)' has a name that could lead outside.*Fetch")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_links_and_devices(home: Path, kind: int) -> None:
    archive = pack(home / "set.zip", {"set/a": b"a", "set/link": b"/etc"}, kind)
    refused(archive, "member 'set/link' is a link or a device")


def test_encrypted_and_unknown_compression(home: Path) -> None:
    refused(patch(pack(home / "set.zip"), FLAGS, 1), "'set/2/11.png' is encrypted")
    refused(patch(pack(home / "set.zip"), METHOD, 9), "11.png' .* by method 9.* Unpack .* by hand")


def test_a_name_that_is_there_twice(home: Path) -> None:
    with zipfile.ZipFile(home / "set.zip", "w") as packed:
        packed.writestr("a.png", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("a.png", b"two")
    refused(home / "set.zip", "'a.png' is there twice")


def test_members_that_overlap(home: Path) -> None:
    refused(patch(pack(home / "set.zip"), PACKED, 200_000), "members overlap")


def test_bombs(home: Path) -> None:
    archive = pack(home / "set.zip", CONTENT | {"zeros.png": bytes(3_000_000)})
    with open_archive(archive) as opened:
        check_members(opened)
        check_members(opened, max_ratio=100, ratio_counts_from=3_000_000)
        check_members(opened, max_bytes=3_000_000 + 12 * 9000)
        with pytest.raises(UserError, match=r"set\.zip: member 'zeros\.png' is packed \d+ times"):
            check_members(opened, max_ratio=100, ratio_counts_from=2_999_999)
        with pytest.raises(
            UserError, match=r"set\.zip: would unpack to 3\.1 MB, more than the 3\.0"
        ):
            check_members(opened, max_bytes=3_000_000)
    with pytest.raises(UserError, match="would unpack to"):
        extract(archive, home / "out", max_bytes=3_000_000)
    assert not (home / "out").exists()
    refused(patch(pack(home / "set.zip"), SIZE, 2**31), "'set/2/11.png' is packed .* times smaller")


@pytest.mark.parametrize("size", [100, 8999, 9001])
def test_a_member_that_lies_about_its_size(home: Path, size: int) -> None:
    archive = patch(pack(home / "set.zip"), SIZE, size)
    with pytest.raises(UserError, match=r"set\.zip: member 'set/2/11\.png' is damaged"):
        extract(archive, home / "out")
    assert {path.name for path in home.iterdir()} == {"set.zip", ".out.unpacking.lock"}
    with pytest.raises(UserError, match=r"set\.zip/set/2/11\.png is damaged"):
        open_tree(archive).files("set/2", (".png",))[-1].read_bytes()


def test_a_truncated_archive(home: Path) -> None:
    archive = pack(home / "set.zip")
    archive.write_bytes(archive.read_bytes()[:50_000])
    refused(archive, "not a whole zip archive .* Fetch the archive again from its home")


def test_extraction(home: Path) -> None:
    """With files from systems of either kind, and entries for folders."""
    content = CONTENT | {"other/a.txt": b"a", "set/.hidden": b"", "set/Ünder C:.png": b"odd"}
    archive = home / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for number, (name, data) in enumerate(content.items()):
            member = zipfile.ZipInfo(name)
            member.create_system = (0, 3)[number % 2]
            member.external_attr = (0x20, (stat.S_IFREG | 0o644) << 16)[number % 2]
            packed.writestr(member, data, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2])
        packed.mkdir("set/empty")
    extract(archive, home / "deep/er/out")
    assert content_of(home / "deep/er/out") == content
    within = {name.removeprefix("set/"): content[name] for name in content if name[:4] == "set/"}
    (home / "empty").mkdir()
    (home / "linked").symlink_to(home / "elsewhere")
    for only, target in (("set/", "new"), ("set", "empty"), ("/set/", "linked")):
        extract(archive, home / target, only=only)
        assert content_of(home / target) == within
    assert (home / "linked").is_symlink()
    with pytest.raises(UserError, match=r"no files in 'se/'; it holds other, set"):
        extract(archive, home / "none", only="se")


def test_what_is_there_is_left_alone(home: Path) -> None:
    archive = pack(home / "set.zip")
    (home / "out").mkdir()
    (home / "out/mine.txt").write_text("mine")
    for target in ("out", "out/mine.txt"):
        with pytest.raises(UserError, match=rf"{target}: holds something already"):
            extract(archive, home / target)
    assert content_of(home) == {"set.zip": archive.read_bytes(), "out/mine.txt": b"mine"}


def test_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(home / "set.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=50_000))
    with pytest.raises(UserError, match=r"108\.0 kB are needed and 50\.0 kB are free"):
        extract(archive, home / "out")
    assert {path.name for path in home.iterdir()} == {"set.zip", ".out.unpacking.lock"}


def _killed_at_the_eighth(archive: Path, target: Path) -> None:
    original, opened = zipfile.ZipFile.open, 0

    def counting(self: zipfile.ZipFile, *args: Any, **kwargs: Any) -> Any:
        nonlocal opened
        opened += 1
        if opened == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)

    zipfile.ZipFile.open = counting  # type: ignore[method-assign]
    extract(archive, target)


@needs_fork
def test_a_killed_extraction_leaves_no_target(home: Path) -> None:
    archive = pack(home / "set.zip")
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_killed_at_the_eighth, args=(archive, home / "out"))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (home / "out").exists()
    assert len(content_of(home)) > 7  # what it had written, beside the target
    extract(archive, home / "out")
    assert content_of(home / "out") == CONTENT
    assert {path.name for path in home.iterdir()} == {"set.zip", "out", ".out.unpacking.lock"}


@needs_fork
def test_two_processes_unpack_to_one_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(home / "set.zip")
    context = multiprocessing.get_context("fork")
    ready = context.Semaphore(0)  # counts those who have seen that nothing is there

    def announce(lock: Path, doing: str) -> AbstractContextManager[None]:
        ready.release()
        return exclusive(lock, doing)

    monkeypatch.setattr("pne_seg.data.archives.exclusive", announce)
    processes = [context.Process(target=extract, args=(archive, home / "out")) for _ in range(2)]
    with exclusive(home / ".out.unpacking.lock", "is at it"):
        for process in processes:
            process.start()
        assert all(ready.acquire(timeout=60) for _ in processes)
        assert not (home / "out").exists()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert content_of(home / "out") == CONTENT
