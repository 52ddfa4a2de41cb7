"""Files from the web: an interrupted download resumes where it stopped, and is checked."""

import hashlib
import os
import re
import ssl
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from rich.filesize import decimal

from pne_seg.data.archives import bytes_bar, exclusive, extract, require_space
from pne_seg.errors import UserError

_CHUNK = 1 << 20
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may do better later


@dataclass(frozen=True)
class RemoteFile:
    """A file on the web; its size and its hash are checked if given."""

    url: str  # http or https
    size: int | None = None  # in bytes
    hash: str = ""  # such as `sha256:69a8bb58…` or `md5:…`, whole or its beginning
    name: str = ""  # of the file on disk; the last part of the URL by default

    @property
    def file_name(self) -> str:
        """What the file is called on disk."""
        path = unquote(urlsplit(self.url).path).replace("\\", "/")
        return self.name or path.rpartition("/")[2]


class _FailedError(Exception):
    """The network or the server failed, perhaps in a way that may pass."""

    def __init__(self, reason: str, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


def fetch(
    remote: RemoteFile, folder: Path, tries: int = 5, pause: float = 2.0, timeout: float = 60.0
) -> Path:
    """Download a file into a folder, or check the one that is there.

    What has arrived is kept in `NAME.part`, from which a later run resumes.

    Args:
        remote: what to fetch.
        folder: where to; made if missing.
        tries: in a row without a single byte, before giving up.
        pause: seconds before the second try; doubled before each further one.
        timeout: seconds that a server may stay silent.
    """
    if urlsplit(remote.url).scheme not in ("http", "https"):
        raise UserError(f"{remote.url}: not an http or https address.")
    if remote.file_name in ("", ".", ".."):
        raise UserError(f"{remote.url}: the address names no file.")
    target = folder / remote.file_name
    part = folder / f"{remote.file_name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with exclusive(folder / f".{part.name}.lock", f"downloads {target}"):
                if not target.exists():  # another process may have downloaded it meanwhile
                    _download(remote, part, tries, pause, timeout)
                    part.replace(target)
                    return target
        wrong = _wrong(remote, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written or read ({error}).") from error
    if wrong:
        raise UserError(
            f"{target}: {wrong}. Move it away to download {remote.url} again, or put the right "
            "file there."
        )
    return target


def fetch_archive(remote: RemoteFile, root: Path, only: str | None = None) -> None:
    """Download a zip archive to the folder around `root`, and unpack it to `root`."""
    extract(fetch(remote, root.parent), root, only)


def _download(remote: RemoteFile, part: Path, tries: int, pause: float, timeout: float) -> None:
    """Fill `part` until it is whole and right."""
    farthest, failures = _size(part), 0
    by_hand = f"download it with a browser and put it to {part.with_suffix('')}"
    while True:
        try:
            _receive(remote, part, timeout)
            break
        except _FailedError as error:
            failures = 1 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if not error.may_pass:
                raise UserError(f"{remote.url}: {error}. You can {by_hand}.") from error
            if failures >= tries:
                raise UserError(
                    f"{remote.url}: {error}, {failures} times in a row. Run again to resume after "
                    f"{decimal(_size(part))}, or {by_hand}."
                ) from error
            time.sleep(pause * 2 ** (failures - 1))
    if wrong := _wrong(remote, part):
        part.unlink()
        raise UserError(
            f"{remote.url}: {wrong}. The download is removed: run again. If the result is the "
            f"same, the file has changed at its home, or something else answers: {by_hand}."
        )
    _version_note(part).unlink(missing_ok=True)


def _receive(remote: RemoteFile, part: Path, timeout: float) -> None:
    """Add the bytes of one request to the part, or start again if it cannot be resumed."""
    have, note = _size(part), _version_note(part)
    if have and have == remote.size:
        return
    version = note.read_text() if note.is_file() else ""
    if have > (remote.size or have) or not (version or remote.hash):
        have = 0  # nothing would tell that the rest is of another file
    headers = {"User-Agent": "pne-seg", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if have and version:
        headers["If-Range"] = version  # the server sends all of a file that has changed
    with _ask(Request(remote.url, headers=headers), timeout) as answer:
        if answer.headers.get_content_type() == "text/html" and answer.status != 416:
            raise _FailedError("answers with a web page in place of the file", may_pass=False)
        start, total = _span(answer)
        if answer.status == 416 and total == have:
            return
        if start not in (0, have):
            part.unlink(missing_ok=True)
            raise _FailedError("sends another part of the file than it was asked for")
        whole = remote.size if total is None else total
        if remote.size not in (None, whole):
            raise _FailedError(f"has {whole} bytes, not {remote.size}", may_pass=False)
        if not start:
            tag = answer.headers["ETag"] or ""  # a weak one, W/…, does not identify the bytes
            dated = not tag or tag.startswith("W/")
            note.write_text((answer.headers["Last-Modified"] or "") if dated else tag)
        with part.open("ab" if start else "wb") as file:
            require_space(part.parent, (whole or 0) - start, f"download {remote.url}")
            with bytes_bar(f"downloading {remote.file_name}", whole, start) as bar:
                try:
                    while data := answer.read(_CHUNK):
                        start += file.write(data)
                        bar.update(len(data))
                except (OSError, HTTPException) as error:
                    raise _FailedError(f"the connection broke ({error})") from error
            file.flush()
            os.fsync(file.fileno())
    if whole is not None and start < whole:
        raise _FailedError(f"stopped at {start} of {whole} bytes")


def _ask(request: Request, timeout: float) -> HTTPResponse | HTTPError:
    """Send a request; 416, which means that the range lies beyond the end, is an answer too."""
    try:
        answer: HTTPResponse = urlopen(request, timeout=timeout)
        return answer
    except HTTPError as error:
        if error.code == 416:
            return error
        said = f"answers {error.code} {error.reason}"
        raise _FailedError(said, may_pass=error.code in _BUSY) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        certified = not isinstance(reason, ssl.SSLCertVerificationError)
        raise _FailedError(f"no answer ({reason})", may_pass=certified) from error


def _span(answer: HTTPResponse | HTTPError) -> tuple[int, int | None]:
    """Return where an answer's bytes start in the file, -1 for nowhere, and the file's length."""
    if answer.status == 200:
        length = answer.headers["Content-Length"]
        return 0, int(length) if length else None
    pattern = r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)"
    found = re.fullmatch(pattern, answer.headers["Content-Range"] or "")
    start, total = found.groups() if found else (None, None)
    return -1 if start is None else int(start), None if total is None else int(total)


def _version_note(part: Path) -> Path:
    return part.with_name(f".{part.name}.version")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _wrong(remote: RemoteFile, path: Path) -> str:
    """Return what is wrong with a whole file, "" if nothing."""
    size = _size(path)
    if remote.size not in (None, size):
        return f"it has {size} bytes, not {remote.size}"
    if remote.hash:
        method, _, known = remote.hash.partition(":")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, method).hexdigest()
        if not found.startswith(known.lower()):
            return f"its {method} is {found}, not {known}"
    return ""
