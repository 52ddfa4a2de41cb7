"""Files are replaced whole or not at all, and are open to those whom the umask lets in."""

import os
import time
from pathlib import Path

import pytest

from pne_seg.files import remove_abandoned, save_atomically


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"older")

    def fail(file: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_atomically(path, fail)
    assert path.read_bytes() == b"older"
    save_atomically(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "picture.png"
    plain.touch()
    save_atomically(path, lambda file: file.write(b""))
    assert path.stat().st_mode == plain.stat().st_mode


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    target = tmp_path / "last.ckpt"
    dead, alive, young, users = (
        tmp_path / name
        for name in (".last.ckpt.aa.tmp", ".last.ckpt.bb.tmp", ".last.ckpt.cc.tmp", ".notes.dd.tmp")
    )
    for file in (dead, alive, young, users):
        file.write_bytes(b"half")
    for file in (dead, alive, users):
        os.utime(file, (time.time() - 60,) * 2)
    held = alive.open("rb")  # as a writer in another process does
    fcntl.flock(held, fcntl.LOCK_EX)
    remove_abandoned([target])
    assert set(tmp_path.iterdir()) == {alive, young, users}
    held.close()  # so does a kill
    remove_abandoned([target])
    assert set(tmp_path.iterdir()) == {young, users}
