"""Files from the web: an interrupted download goes on where it stopped, and is checked."""

import hashlib
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from rich.filesize import decimal

from pne_seg.data.transfer import Show, alone, require_space, transfer_bar
from pne_seg.errors import UserError

_CHUNK = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may do better later


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web and what is known of it.

    Args:
        url: http or https.
        size: in bytes.
        sha256: in hexadecimal, whole or its beginning; this and the next two are checked if given.
        sha1: see `sha256`.
        md5: see `sha256`.
        name: of the file on disk; the last part of the URL where not given.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    sha1: str | None = None
    md5: str | None = None
    name: str = ""

    @property
    def file_name(self) -> str:
        """What the file is called on disk."""
        path = unquote(urlsplit(self.url).path).replace("\\", "/")
        return self.name or path.rpartition("/")[2]

    @property
    def hashes(self) -> dict[str, str]:
        """The hashes that are known, by the name of their method."""
        known = {"sha256": self.sha256, "sha1": self.sha1, "md5": self.md5}
        return {method: value.lower() for method, value in known.items() if value}


class _InterruptedError(Exception):
    """The network or the server failed in a way that may pass."""


class _RefusedError(Exception):
    """The server will not give the file."""


def fetch(
    remote: RemoteFile, folder: Path, tries: int = 5, pause: float = 2.0, timeout: float = 60.0
) -> Path:
    """Download a file into a folder, or check the one that is there.

    What has come is kept in `NAME.part`, to go on from in a later run. Of a file that was there
    the hashes are computed once: `.NAME.checked` says for which size and date.

    Args:
        remote: what to fetch.
        folder: where to; made where missing.
        tries: in a row without a single byte, before giving up.
        pause: seconds before the second try; doubled before each further one.
        timeout: seconds that a server may stay silent.

    Returns:
        The file's path.

    Raises:
        UserError: the file cannot be had, is not of the size or hash that is known, or finds no
            room; or the file that is there already is another one, which is left as it is.
    """
    if urlsplit(remote.url).scheme not in ("http", "https"):
        raise UserError(f"{remote.url}: not an http or https address.")
    if remote.file_name in ("", ".", ".."):
        raise UserError(f"{remote.url}: the address names no file.")
    target = folder / remote.file_name
    part = folder / f"{remote.file_name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_right(remote, target):
            return target
        with alone(folder / f".{part.name}.lock", f"downloads {target}"):
            if not _is_right(remote, target):  # another process may have done it meanwhile
                _download(remote, part, tries, pause, timeout)
                part.replace(target)
                _remember(remote, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written or read ({error}).") from error
    return target


def _is_right(remote: RemoteFile, target: Path) -> bool:
    """Whether the file is there; an error where it is another one."""
    if not target.exists():
        return False
    note = target.with_name(f".{target.name}.checked")
    known = note.read_text() if note.is_file() else ""
    if not (remote.hashes and known == _state(remote, target)):
        if wrong := _wrong(remote, target):
            raise UserError(
                f"{target}: {wrong}. Move it away to download {remote.url} again, or put the right "
                "file there."
            )
        _remember(remote, target)
    return True


def _remember(remote: RemoteFile, target: Path) -> None:
    """Note that the file's hashes were checked."""
    if remote.hashes:
        with suppress(OSError):  # a folder that is closed to writing: it is checked each time
            target.with_name(f".{target.name}.checked").write_text(_state(remote, target))


def _state(remote: RemoteFile, target: Path) -> str:
    found = target.stat()
    return f"{found.st_size} {found.st_mtime_ns} {remote.hashes}"


def _download(remote: RemoteFile, part: Path, tries: int, pause: float, timeout: float) -> None:
    """Fill `part` until it is whole and right."""
    by_hand = f"fetch it with a browser and put it to {part.with_suffix('')}"
    farthest, failures = _size(part), 0
    with transfer_bar(f"downloading {remote.file_name}", remote.size) as show:
        while True:
            try:
                _receive(remote, part, timeout, show)
                break
            except _RefusedError as error:
                raise UserError(f"{remote.url}: {error}. You can {by_hand}.") from error
            except _InterruptedError as error:
                failures = 1 if _size(part) > farthest else failures + 1
                farthest = max(farthest, _size(part))
                if failures >= tries:
                    raise UserError(
                        f"{remote.url}: {error}, {failures} times in a row. Run again to go on "
                        f"after the {decimal(_size(part))} that are there, or {by_hand}."
                    ) from error
                time.sleep(pause * 2 ** (failures - 1))
    if wrong := _wrong(remote, part):
        part.unlink()
        raise UserError(
            f"{remote.url}: {wrong}. What came is removed: run again. Should it come out the same, "
            f"the file has changed at its home, or something else answers: {by_hand}."
        )
    _version_note(part).unlink(missing_ok=True)


def _receive(remote: RemoteFile, part: Path, timeout: float, show: Show) -> None:
    """Add what one request gives to what is there, or begin again where that cannot be."""
    have, note = _size(part), _version_note(part)
    if have and have == remote.size:
        return
    version = note.read_text() if note.is_file() else ""
    if have > (remote.size or have) or not (version or remote.hashes):
        have = 0  # nothing would tell that the rest is of another file
    headers = {"User-Agent": "pne-seg", "Accept-Encoding": "identity"}
    if have:
        # The server is to send all of the file if it is no longer the same.
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    with _ask(Request(remote.url, headers=headers), timeout) as answer:
        if answer.headers.get_content_type() == "text/html" and answer.status != 416:
            raise _RefusedError("answers with a web page in place of the file")
        start, total = _span(answer)
        if answer.status == 416 and total == have:
            return
        if start not in (0, have):
            part.unlink(missing_ok=True)
            raise _InterruptedError("sends another part of the file than it was asked for")
        whole = remote.size if total is None else total
        if remote.size is not None and whole != remote.size:
            raise _RefusedError(
                f"has {whole} bytes, not the {remote.size} of the file that is known"
            )
        with part.open("ab" if start else "wb") as file:
            if not start:
                note.write_text(_version(answer))
            require_space(part.parent, (whole or 0) - start, f"download {remote.url}")
            for data in _pieces(answer):
                start += file.write(data)
                show(start, whole)
            file.flush()
            os.fsync(file.fileno())
    if whole is not None and start < whole:
        raise _InterruptedError(f"stopped at {start} of {whole} bytes")


def _ask(request: Request, timeout: float) -> HTTPResponse | HTTPError:
    """Send a request; an answer of 416 (the part that is asked for is beyond the end) is one."""
    opener = OpenerDirector()  # the usual one would also go to ftp
    for handler in (
        ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPRedirectHandler(), HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(), UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    try:
        answer: HTTPResponse = opener.open(request, timeout=timeout)
    except HTTPError as error:
        if error.code == 416:
            return error
        kind = _InterruptedError if error.code in _BUSY else _RefusedError
        raise kind(f"answers {error.code} {error.reason}") from error
    except URLError as error:
        lasting = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise (_RefusedError if lasting else _InterruptedError)(
            f"no answer ({error.reason})"
        ) from error
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"no answer ({error})") from error
    return answer


def _span(answer: HTTPResponse | HTTPError) -> tuple[int, int | None]:
    """Where an answer's bytes begin in the file, -1 for nowhere, and how long the file is."""
    if answer.status == 200:
        length = answer.headers["Content-Length"]
        return 0, int(length) if length else None
    pattern = r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)"
    found = re.fullmatch(pattern, answer.headers["Content-Range"] or "")
    start, total = found.groups() if found else (None, None)
    return -1 if start is None else int(start), None if total is None else int(total)


def _pieces(answer: HTTPResponse | HTTPError) -> Iterator[bytes]:
    try:
        while data := answer.read(_CHUNK):
            yield data
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"the connection broke ({error})") from error


def _version(answer: HTTPResponse | HTTPError) -> str:
    """What tells the file from a later one of the same name, for a header `If-Range`."""
    tag = answer.headers["ETag"] or ""
    return (answer.headers["Last-Modified"] or "") if not tag or tag.startswith("W/") else tag


def _version_note(part: Path) -> Path:
    return part.with_name(f".{part.name}.version")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _wrong(remote: RemoteFile, path: Path) -> str:
    """What is wrong with a whole file, "" if nothing."""
    size = _size(path)
    if remote.size not in (None, size):
        return f"it has {size} bytes, not {remote.size}"
    digests = {method: hashlib.new(method, usedforsecurity=False) for method in remote.hashes}
    if digests:
        with path.open("rb") as file, transfer_bar(f"checking {path.name}", size) as show:
            while data := file.read(_CHUNK):
                for digest in digests.values():
                    digest.update(data)
                show(file.tell())
    for method, digest in digests.items():
        if not digest.hexdigest().startswith(remote.hashes[method]):
            return f"its {method} is {digest.hexdigest()}, not {remote.hashes[method]}"
    return ""
