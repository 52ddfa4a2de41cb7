"""`download`: from the archives at their homes to samples, and nothing twice."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pne_seg.data import ADE20K, CamVid, COCOStuff, Folder, ade20k, camvid, coco_stuff
from pne_seg.data.download import RemoteFile
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.errors import UserError
from tests.data.miniature import (
    Expected,
    write_ade20k,
    write_camvid,
    write_coco_10k,
    write_coco_164k,
    zip_coco_164k,
    zip_tree,
)
from tests.data.test_loading import check


class Home:
    """A folder on a server of this machine, and the files that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.url = ""

    def remote(self, name: str) -> RemoteFile:
        return RemoteFile(f"{self.url}/{name}")


class _Handler(SimpleHTTPRequestHandler):
    home: Home

    def do_GET(self) -> None:
        self.home.asked.append(self.path.removeprefix("/"))
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "home").mkdir()
    given = Home(tmp_path / "home")
    handler = partial(type("Handler", (_Handler,), {"home": given}), directory=str(given.folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    given.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield given
    server.shutdown()
    thread.join()
    server.server_close()


def prepared(data: FileDataModule, expected: Expected, splits: tuple[str, ...]) -> None:
    data.prepare_data()
    check(data, expected, splits)


def test_ade20k(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_ade20k(tmp_path / "tree")
    zip_tree(tmp_path / "tree", home.folder / "ADEChallengeData2016.zip", "ADEChallengeData2016")
    monkeypatch.setattr(ade20k, "_ARCHIVE", home.remote("ADEChallengeData2016.zip"))
    root = tmp_path / "data" / "ADEChallengeData2016"
    for _ in range(2):
        prepared(ADE20K(root, download=True, num_workers=0), expected, ("train", "val"))
    assert home.asked == ["ADEChallengeData2016.zip"]
    assert (root / "images" / "training").is_dir()


def test_coco_10k(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_coco_10k(tmp_path / "tree")
    zip_tree(tmp_path / "tree", home.folder / "cocostuff-10k-v1.1.zip")
    monkeypatch.setattr(coco_stuff, "_ARCHIVE_10K", home.remote("cocostuff-10k-v1.1.zip"))
    root = tmp_path / "data" / "coco_stuff10k"
    for _ in range(2):
        data = COCOStuff("10k", root, download=True, num_workers=0)
        prepared(data, expected, ("train", "val"))
    assert home.asked == ["cocostuff-10k-v1.1.zip"]


def test_coco_164k_fetches_what_is_missing_and_leaves_it_packed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_coco_164k(tmp_path / "tree")
    archives = zip_coco_164k(tmp_path / "tree", home.folder)
    remotes = {archive.name: home.remote(archive.name) for archive in archives}
    monkeypatch.setattr(coco_stuff, "_ARCHIVES_164K", remotes)
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (tmp_path / "tree" / "images" / "val2017").rename(root / "images" / "val2017")
    for _ in range(2):
        data = COCOStuff("164k", root, download=True, num_workers=0)
        prepared(data, expected, ("train", "val"))
    assert sorted(home.asked) == ["stuffthingmaps_trainval2017.zip", "train2017.zip"]
    assert not (root / "annotations").exists()


def test_camvid(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_camvid(tmp_path / "tree" / "CamVid")
    (tmp_path / "tree" / "README.md").write_text("of the repository, not of the data")
    zip_tree(tmp_path / "tree", home.folder / "tutorial.zip", "tutorial")
    monkeypatch.setattr(camvid, "_ARCHIVE", home.remote("tutorial.zip"))
    root = tmp_path / "data" / "camvid"
    prepared(CamVid(root, download=True, num_workers=0), expected, ("train", "val", "test"))
    assert not (root / "README.md").exists()


def test_a_folder_of_ones_own_has_no_home(tmp_path: Path) -> None:
    data = Folder(tmp_path, classes=["a"], download=True)
    with pytest.raises(UserError, match="Folder cannot be downloaded"):
        data.prepare_data()


def test_nothing_is_fetched_unasked(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set download to true"):
        ADE20K(tmp_path / "none").setup("fit")
    assert home.asked == []
