"""COCO-Stuff 10k's MATLAB files and the PNG files that are kept of them."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_array

from pne_seg.data.data_file import open_file
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.mat import MatLabels, read_mat
from pne_seg.errors import UserError
from tests.data.held import Held

ALL = np.arange(256, dtype=np.uint8).reshape(16, 16)
TABLE = IndexLabels(range(256 - 3), ignored=[253, 254, 255])


def mat(**fields: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, fields)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.int32])
def test_mat_files(dtype: type) -> None:
    data = mat(S=ALL[:5].astype(dtype), names=np.array(["a", "b"]))
    values = read_mat(Held(data))
    np.testing.assert_array_equal(values, ALL[:5])
    assert values.dtype == np.uint8
    labels = MatLabels(IndexLabels(range(1, 80), ignored=[0]))
    assert labels.read(Held(data))[0].tolist() == [255, *range(15)]
    assert labels.size(Held(data)) == (5, 16)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (mat(T=ALL), "has no field S, which holds the labels"),
        (mat(S=ALL)[:200], "not a readable MATLAB file"),
        (mat(S=ALL)[:-3], "not a readable MATLAB file"),
        (b"", "not a readable MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(900), "not a readable MATLAB file"),
        (mat(S=np.full((2, 2), 256)), "values from 0 to 255"),
        (mat(S=np.full((2, 2), -1)), "values from 0 to 255"),
        (mat(S=np.full((2, 2), 1.5)), "values from 0 to 255"),
        (mat(S=np.full((2, 2), np.nan)), "values from 0 to 255"),
        (mat(S=np.zeros((2, 2, 2))), "must be a matrix"),
        (mat(S=csc_array(np.eye(3))), "must be a matrix"),
        (mat(S=np.zeros((0, 0))), "must be a matrix"),
        (mat(S=np.array(["text"])), "must be a matrix"),
        (mat(S=np.array([[1, "x"]], object)), "must be a matrix"),
    ],
)
def test_mat_files_without_labels(data: bytes, said: str, tmp_path: Path) -> None:
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(UserError, match=rf"held\.bin: .*{said}.*Fetch it again") as caught:
            MatLabels(IndexLabels({0: 0}), cache).read(Held(data))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_the_cache_is_written_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = tmp_path / "a.mat", tmp_path / "deep" / "cache"
    source.write_bytes(mat(S=ALL.astype(np.float64)))
    labels = MatLabels(TABLE, cache)
    first = labels.read(open_file(source))
    (written,) = cache.iterdir()
    with Image.open(written) as image:
        np.testing.assert_array_equal(np.asarray(image), ALL)
    before = written.stat()
    monkeypatch.setattr("pne_seg.data.mat.read_mat", lambda *_, **__: pytest.fail("read again"))
    np.testing.assert_array_equal(labels.read(open_file(source)), first)
    assert labels.size(open_file(source)) == (16, 16)
    assert written.stat().st_mtime_ns == before.st_mtime_ns
    assert [*cache.iterdir()] == [written]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    source = tmp_path / "a.mat"
    labels = MatLabels(TABLE, tmp_path / "cache")
    for value in (1, 2):
        source.write_bytes(mat(S=np.full((3, 4), value)))
        os.utime(source, ns=(value * 10**9, value * 10**9))
        assert (labels.read(open_file(source)) == value).all()
    assert len([*(tmp_path / "cache").iterdir()]) == 2


def test_files_of_one_name_in_two_folders_do_not_mix(tmp_path: Path) -> None:
    labels = MatLabels(TABLE, tmp_path / "cache")
    for value in (1, 2):
        source = tmp_path / str(value) / "a.mat"
        source.parent.mkdir()
        source.write_bytes(mat(S=np.full((3, 4), value)))
        assert (labels.read(open_file(source)) == value).all()


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "a.mat"
    source.write_bytes(mat(S=ALL))
    labels = MatLabels(TABLE, tmp_path / "cache")
    first = labels.read(open_file(source))
    (written,) = (tmp_path / "cache").iterdir()
    whole = written.read_bytes()
    written.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(labels.read(open_file(source)), first)
    assert written.read_bytes() == whole


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.mat"
    source.write_bytes(mat(S=ALL))

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            MatLabels(TABLE, tmp_path / "cache").read(open_file(source))
    assert [*(tmp_path / "cache").iterdir()] == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    source, place = tmp_path / "a.mat", tmp_path / "file"
    source.write_bytes(mat(S=ALL))
    place.touch()
    with pytest.raises(UserError, match=r"file.*cannot be written .*label_cache"):
        MatLabels(TABLE, place / "cache").read(open_file(source))
