"""Pages read by a parser, and shown by Chromium where it is installed."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
THEMES = (("dark", 0), ("light", 1))
VOID = {"img", "input", "meta", "link", "line", "circle", "polygon", "polyline"}


class Page(HTMLParser):
    """Whether every tag is closed, what the page would load, its scripts, and its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.scripts = 0
        self.rows: list[list[str]] = []
        self.text = ""
        self.raw = text
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {*self.open}:
            self.text += data
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data


_FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>:root {{ color-scheme: light dark }}
body {{ margin: 0 }} iframe {{ border: 0; width: {width}px; height: 1600px }}</style>
<iframe srcdoc="{page}" onload="const page = this.contentDocument, view = this.contentWindow;
document.title = JSON.stringify({result})"></iframe>"""
"""A page in a frame: the browser's own window is not narrower than 500 pixels."""


def browse(
    page: Path, width: int, scheme: int = 1, result: str = "null", screenshot: Path | None = None
) -> Any:
    """Open a page in a fresh browser, without an error on its console.

    Return what a JavaScript expression of `page` and `view`, its document and window, gives; None
    with a screenshot.
    """
    frame = page.with_name("frame.html")
    texts = {"page": html.escape(page.read_text()), "result": html.escape(result)}
    frame.write_text(_FRAME.format(width=width, **texts))
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--enable-logging=stderr", f"--window-size={max(width, 500)},1600"),
            f"--user-data-dir={page.parent / 'profile'}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--dump-dom" if screenshot is None else f"--screenshot={screenshot}",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    return None if title is None else json.loads(html.unescape(title[1]))
