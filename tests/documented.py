"""What README and docs/ show: commands, Python blocks, links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Shown(NamedTuple):
    """A piece of code on a page."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text[:90]}"


def blocks(language: str) -> Iterator[Shown]:
    """Yield fenced blocks of a language, without their indent."""
    for page in PAGES:
        for indent, found, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield Shown(page.name, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))


def inline(beginning: str) -> Iterator[Shown]:
    """Yield inline code that begins so."""
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        yield from (Shown(page.name, code) for code in _INLINE.findall(text)
                    if code.startswith(beginning))  # fmt: skip


def shell_commands() -> Iterator[Shown]:
    """Yield the single commands of shell blocks and of inline code."""
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if not line.startswith("#SBATCH"):
                yield from (Shown(block.page, part.strip()) for part in line.split("&&"))
    yield from inline("python cli.py ")
    yield from inline("pne-seg ")


def words(command: str) -> list[str]:
    """Split a command as a shell does, without its comment."""
    return shlex.split(command, comments=True)


def arguments(command: str) -> list[str] | None:
    """Return what follows `cli.py` or `pne-seg`, None if the command is another program's."""
    parts = words(command)
    for place, word in enumerate(parts):
        if word == "cli.py" or word.endswith("pne-seg"):
            after = parts[place + 1 :]
            return after[: after.index(">")] if ">" in after else after
    return None


def links(text: str) -> Iterator[str]:
    """Yield the targets of links and images, of Markdown and HTML."""
    text = _INLINE.sub("", _FENCE.sub("", text))
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    for sources in re.findall(r'(?:src|srcset|href)="([^"]+)"', text):
        yield from (source.split()[0] for source in sources.split(","))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in plain}
