"""A server on this machine that stands for the Hugging Face hub and for a model zoo."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REASONS = {
    "missing": (404, "RepoNotFound"),
    "gated": (403, "GatedRepo"),
    "revision": (404, "RevisionNotFound"),
    "entry": (404, "EntryNotFound"),
}


class Web:
    """What the server gives.

    Attributes:
        url: its address.
        files: path → content; of the hub `/OWNER/NAME/resolve/REVISION/FILE`.
        refusals: beginning of a path → key of `REASONS`; other paths have no such file.
        asked: method, path and token of each request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.refusals: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    def publish(self, repository: str, folder: Path, revision: str = "main") -> None:
        """Put a folder's files on the hub."""
        for file in folder.iterdir():
            path = f"/{repository}/resolve/{revision}/{file.name}"
            self.files[path] = file.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.web.asked.append((self.command, path, self.headers["Authorization"]))
        content = self.web.files.get(path)
        if content is None:
            found = [why for start, why in self.web.refusals.items() if path.startswith(start)]
            status, code = REASONS[(found or ["entry"])[0]]
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)
        return None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve() -> Iterator[Web]:
    """Run the server while the block lasts."""
    web = Web()
    handler = type("Handler", (_Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


def become_the_hub(web: Web, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let `huggingface_hub` ask this server, with a cache of its own; CI may be set offline."""
    constants = "huggingface_hub.constants"
    template = web.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(f"{constants}.ENDPOINT", web.url)
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
