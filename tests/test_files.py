"""Files are replaced whole or not at all, and are open to those whom the umask lets in."""

import os
from pathlib import Path

import pytest

from pne_seg.files import save_atomically


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
