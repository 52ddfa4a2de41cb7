"""Letters that the usual font lacks: in another font of this machine, or written otherwise."""

import logging
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache

FONT = "DejaVu Sans"
_MOST_NAMED = 3
_INVISIBLE = ("Cc", "Cf", "Mn", "Me")  # controls, joiners, accents and variants without a glyph

_log = logging.getLogger(__name__)


def drawable(names: Iterable[str]) -> list[str]:
    """Return the names of all classes as pictures show them.

    A name of which no font of this machine has all letters becomes `class 3`, which is reported
    once; so does an empty one.
    """
    return [*_drawable(tuple(map(str, names)))]


def families(text: str) -> list[str]:
    """Return the fonts to draw a text with: the usual one, and those that have what it lacks."""
    needed = (_font_of(letter) for letter in {*text} if not text.isascii())
    return [FONT, *sorted({font for font in needed if font} - {FONT})]


def legible(text: str) -> str:
    """Return a text without what no font has, and on one line for each line break of its own."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(letter) for letter in text)


def _shown(letter: str) -> str:
    if letter == "\n" or (letter.isascii() and letter.isprintable()):
        return letter
    if unicodedata.category(letter) == "Cc":
        return " "
    if _font_of(letter):
        return letter
    return "" if unicodedata.category(letter) in _INVISIBLE else "?"


@lru_cache(maxsize=16)
def _drawable(names: tuple[str, ...]) -> list[str]:
    shown, lost = [], []
    for index, name in enumerate(names):
        plain = " ".join(name.split())
        written = legible(plain)
        if written.count("?") > plain.count("?") or not written.strip():
            lost.append(name)
            written = f"class {index}"
        shown.append(written)
    if lost := [name for name in lost if name.strip()]:
        first = ", ".join(lost[:_MOST_NAMED])
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        _log.warning(
            "No font of this machine has the letters of %s%s: pictures show the number of the "
            "class. Install a font that has them, such as Noto Sans of that script.",
            first,
            more,
        )
    return shown


@cache
def _font_of(letter: str) -> str | None:
    """Return the family that has a letter, the usual one first; None if no font has it."""
    return next((family for family, file in _fonts() if ord(letter) in _letters(file)), None)


@cache
def _fonts() -> list[tuple[str, str]]:
    """Families and files of this machine's upright fonts."""
    from matplotlib.font_manager import findfont, fontManager

    others = {
        font.name: font.fname
        for font in fontManager.ttflist
        if font.style == "normal" and not font.name.startswith("Last Resort")  # boxes
    }
    sans_first = sorted(others.items(), key=lambda font: ("Sans" not in font[0], font[0]))
    return [(FONT, findfont(FONT)), *sans_first]


@cache
def _letters(file: str) -> frozenset[int]:
    """Return the letters of a font; none of one that consists of pictures, such as of emoji."""
    from matplotlib.ft2font import FT2Font

    with suppress(OSError, RuntimeError):
        font = FT2Font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    return frozenset()
