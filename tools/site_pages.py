"""A hook of mkdocs: pages from files outside docs/, and links to source files as plain text.

GitHub shows the same Markdown files with their links to the code; the site holds no code.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root, whose links start at the root."""
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!docs/|https?:|#)", "](../", text).replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Keep only the text of links that leave docs/, except to the pages added here."""
    for name in PAGES:
        markdown = markdown.replace(f"](../{name}", f"]({name.lower()}")
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
