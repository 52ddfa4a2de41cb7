"""Downloads against a server on this machine that breaks off, lies and changes its files."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from pne_seg.data.download import RemoteFile, fetch
from pne_seg.errors import UserError

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
once = partial(fetch, tries=1, pause=0, timeout=30)
patient = partial(fetch, tries=3, pause=0, timeout=30)


class Home:
    """What a server gives, and what it was asked for.

    Attributes:
        content: of the one file; `/moved` leads to it.
        breaks: after how many bytes of the body each of the next answers breaks off.
        statuses: of the next answers, in place of the file.
        ranges: whether parts may be asked for.
        tag: the header `ETag`.
        kind: the header `Content-Type`.
        stall: where set, an answer waits for it in place of breaking off.
        asked: the header `Range` of each request.
        sent: bytes of content in all.
    """

    def __init__(self) -> None:
        self.content = CONTENT
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.ranges = True
        self.tag = ""
        self.kind = "application/zip"
        self.stall: threading.Event | None = None
        self.asked: list[str | None] = []
        self.sent = 0
        self.url = ""

    def remote(self, size: int | None = None, sha256: str | None = None) -> RemoteFile:
        known = f"sha256:{sha256}" if sha256 else ""
        return RemoteFile(f"{self.url}/set.zip", size, known)


class _Handler(BaseHTTPRequestHandler):
    home: Home

    def do_GET(self) -> None:
        home, wanted = self.home, self.headers["Range"]
        home.asked.append(wanted)
        if home.statuses:
            return self._head(home.statuses.pop(0), 0)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/set.zip")
            return self.end_headers()
        same = self.headers["If-Range"] in (None, home.tag)
        start, total = 0, len(home.content)
        if home.ranges and wanted and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                return self._head(416, 0, f"bytes */{total}")
            self._head(206, total - start, f"bytes {start}-{total - 1}/{total}")
        else:
            self._head(200, total)
        body = home.content[start:]
        if home.breaks:
            body = body[: home.breaks.pop(0)]
        home.sent += len(body)  # before the client can be done
        self.wfile.write(body)
        self.wfile.flush()
        if home.stall is not None and len(body) < total - start:
            home.stall.wait(60)
        return None

    def _head(self, status: int, length: int, span: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", self.home.kind)
        for name, value in (("Content-Range", span), ("ETag", self.home.tag)):
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("no_proxy", "*")
    given = Home()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"home": given}))
    given.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield given
    if given.stall is not None:
        given.stall.set()
    server.shutdown()
    thread.join()
    server.server_close()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_a_download_goes_on_after_each_break(home: Home, tmp_path: Path) -> None:
    home.breaks = [1_000_000, 500_000, 0, 1_200_000]
    path = patient(home.remote(len(CONTENT), SHA256), tmp_path / "data")
    assert path == tmp_path / "data/set.zip"
    assert path.read_bytes() == CONTENT
    parts = ["bytes=1000000-", "bytes=1500000-", "bytes=1500000-", "bytes=2700000-"]
    assert home.asked == [None, *parts]
    assert home.sent == len(CONTENT)
    assert left(path.parent) == {"set.zip"}
    assert patient(home.remote(len(CONTENT), SHA256), path.parent) == path
    assert len(home.asked) == 5


@pytest.mark.parametrize("known", ["size and hash", "hash", "tag"])
def test_a_later_run_goes_on(home: Home, tmp_path: Path, known: str) -> None:
    home.breaks = [1_000_000]
    remote = {
        "size and hash": home.remote(len(CONTENT), SHA256),
        "hash": home.remote(sha256=SHA256),
        "tag": home.remote(),
    }[known]
    home.tag = '"first"' if known == "tag" else ""
    with pytest.raises(UserError, match=rf"{remote.url}: stopped at 1000000 of 3000000 bytes.*Run"):
        once(remote, tmp_path)
    assert not (tmp_path / "set.zip").exists()
    assert once(remote, tmp_path).read_bytes() == CONTENT
    assert home.asked == [None, "bytes=1000000-"]


def test_a_server_without_ranges(home: Home, tmp_path: Path) -> None:
    home.breaks, home.ranges = [1_000_000, 2_000_000], False
    remote = home.remote(len(CONTENT), SHA256)
    assert patient(remote, tmp_path).read_bytes() == CONTENT
    assert home.sent == 1_000_000 + 2_000_000 + len(CONTENT)


@pytest.mark.parametrize("length", [3_000_000, 2_000_000, 900_000])
@pytest.mark.parametrize("tag", ['"second"', ""])
def test_a_file_that_changes_between_runs(
    home: Home, tmp_path: Path, length: int, tag: str
) -> None:
    """The halves of two files are never put together, whether the server tags its files or not."""
    home.tag = '"first"' if tag else ""
    home.breaks = [1_000_000]
    with pytest.raises(UserError, match="stopped at"):
        once(home.remote(), tmp_path)
    home.content, home.tag = random.Random(1).randbytes(length), tag
    assert once(home.remote(), tmp_path).read_bytes() == home.content


def test_a_part_that_is_whole_or_too_long(home: Home, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    assert once(home.remote(sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert home.sent == 0
    for size, tries in ((None, 2), (len(CONTENT), 1)):  # the server tells, or it is known
        (tmp_path / "set.zip").unlink()
        (tmp_path / "set.zip.part").write_bytes(CONTENT + b"more")
        path = fetch(home.remote(size, SHA256), tmp_path, tries, pause=0, timeout=30)
        assert path.read_bytes() == CONTENT
    assert home.sent == 2 * len(CONTENT)


def test_a_wrong_size(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{home.url}/set.zip: has 3000000 bytes, not 2999999"):
        patient(home.remote(2_999_999), tmp_path)
    assert left(tmp_path) == set()
    assert home.sent <= len(CONTENT)


@pytest.mark.parametrize("method", ["sha256", "md5"])
def test_a_wrong_hash(home: Home, tmp_path: Path, method: str) -> None:
    right = hashlib.new(method, CONTENT).hexdigest()
    wrong = ("1" if right[0] == "0" else "0") + right[1:]
    url = f"{home.url}/set.zip"
    with pytest.raises(UserError, match=f"{url}: its {method} is {right}, not {wrong}.*run again"):
        patient(RemoteFile(url, len(CONTENT), f"{method}:{wrong}"), tmp_path)
    assert not {"set.zip", "set.zip.part"} & left(tmp_path)
    remote = RemoteFile(url, len(CONTENT), f"{method}:{right.upper()}")
    assert patient(remote, tmp_path).read_bytes() == CONTENT


def test_answers_that_last_and_answers_that_pass(home: Home, tmp_path: Path) -> None:
    home.statuses = [404]
    with pytest.raises(UserError, match=rf"{home.url}/set.zip: answers 404 .* browser and put it"):
        patient(home.remote(), tmp_path)
    assert len(home.asked) == 1
    home.statuses = [503, 429]
    assert patient(home.remote(), tmp_path / "busy").read_bytes() == CONTENT
    home.statuses = [503, 503, 503]
    with pytest.raises(UserError, match=r"answers 503 .*, 3 times in a row"):
        patient(home.remote(), tmp_path / "busier")
    home.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="answers with a web page"):
        patient(home.remote(), tmp_path)
    assert left(tmp_path) == {"busy", "busier"}


def test_names_and_redirections(home: Home, tmp_path: Path) -> None:
    moved = RemoteFile(f"{home.url}/moved", name="other.zip")
    assert patient(moved, tmp_path) == tmp_path / "other.zip"
    assert (tmp_path / "other.zip").read_bytes() == CONTENT
    for url in ("file:///etc/hostname", "ftp://127.0.0.1/set.zip", "set.zip"):
        with pytest.raises(UserError, match=f"{url}: not an http or https address"):
            patient(RemoteFile(url), tmp_path)


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/set.zip"
    with pytest.raises(UserError, match=rf"{url}: no answer .*refused.*, 3 times in a row"):
        patient(RemoteFile(url), tmp_path)


def test_a_file_that_is_there(home: Home, tmp_path: Path) -> None:
    path, remote = tmp_path / "set.zip", home.remote(len(CONTENT), SHA256)
    for other, match in ((b"mine", "has 4 bytes"), (CONTENT[:-1] + b"?", "its sha256 is")):
        path.write_bytes(other)
        with pytest.raises(UserError, match=rf"{path}: it {match}|{path}: {match}"):
            patient(remote, tmp_path)
        assert path.read_bytes() == other
    path.write_bytes(CONTENT)
    assert patient(remote, tmp_path) == path
    assert home.asked == []


def test_a_full_disk(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_999_999))
    with pytest.raises(UserError, match=r"3\.0 MB are needed and 3\.0 MB are free"):
        patient(home.remote(), tmp_path)
    assert not (tmp_path / "set.zip").exists()
    assert not (tmp_path / "set.zip.part").stat().st_size


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")
def test_a_killed_process(home: Home, tmp_path: Path) -> None:
    home.breaks, home.stall = [2_000_000], threading.Event()
    remote, part = home.remote(len(CONTENT), SHA256), tmp_path / "set.zip.part"
    process = multiprocessing.get_context("fork").Process(target=patient, args=(remote, tmp_path))
    process.start()
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    had = part.stat().st_size
    assert 0 < had <= 2_000_000
    assert not (tmp_path / "set.zip").exists()
    home.stall.set()
    assert patient(remote, tmp_path).read_bytes() == CONTENT
    assert home.asked == [None, f"bytes={had}-"]
