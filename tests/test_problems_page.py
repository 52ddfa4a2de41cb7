"""docs/problems.md quotes messages that the package prints."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
EXAMPLES = {"rl", "lr", "model.optimizer.rl", "model.optimizer.lr"}
"""Filled in by the page."""


@cache
def _texts() -> str:
    """All string literals of the package, a `…` for each value that is put into one."""
    found: list[str] = []
    for file in (ROOT / "pne_seg").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\0".join(found)


def _quoted() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line.removeprefix("error: ").strip() for block in blocks for line in block.splitlines()]


def test_messages_are_quoted() -> None:
    assert len(_quoted()) > 20


@pytest.mark.parametrize("line", sorted(set(_quoted())))
def test_package_prints_it(line: str) -> None:
    for example in sorted(EXAMPLES, key=len, reverse=True):
        line = line.replace(f"--{example}", "…")
    pieces = [piece.strip() for piece in line.split("…")]
    assert any(len(piece) >= 8 for piece in pieces), "quote more of it"
    missing = [piece for piece in pieces if piece not in _texts()]
    assert not missing
