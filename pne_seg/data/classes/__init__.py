"""Class names, colors and label values: of the public data sets, one CSV each, or in your YAML.

Sources: `cityscapes` is the official list (cityscapesScripts, `helpers/labels.py`). Names and
colors of `ade20k` and `coco_stuff` are mmsegmentation's; the names agree with the lists that come
with the data (`objectInfo150.txt`; `labels.txt` of COCO-Stuff, which counts from 1). Their colors
are for pictures only: not unique (149 for the 150 classes of ADE20K, 162 for the 171 of
COCO-Stuff), so that no label can be read from one.
"""

import colorsys
import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.sources import composed
from pne_seg.description import Color
from pne_seg.errors import UserError
from pne_seg.settings_files import decoded, parse_yaml

_FORMS = """\
Give the classes in the order of their indices, in YAML, as one of
    [background, road, tree]                              masks hold 0, 1, 2
    {background: 0, road: 255}                            masks hold these values
    {background: [0, 0, 0], road: [128, 64, 128]}         masks hold these colors"""

_DISTINCT = """
1e78b4 e12d4b 3c8700 d28700 d287ff 781e96 00c3b4 783c00 c3e14b 005a4b
e1a5a5 87c3ff a5a587 876978 4b4b00 4bffa5 ffd296 5a8787 871e3c f0d2ff
d23ca5 3c4b69 ff784b 7869c3 877800 9696b4 96f0ff a5694b 4bb469 c3e1c3
d2b40f a50f0f ff78b4 005a00 00b4d2 5a694b 87a500 1e5a69 00875a c39678"""
"""Each is the farthest by CIEDE2000 from those before it, from black (ignored pixels) and white.

Taken from 18 steps per channel, of lightness 30 to 90 and chroma 12 to 75 in CIELAB.
"""


@dataclass(frozen=True, slots=True)
class ClassList:
    """The classes of one data set, in the order of class indices."""

    names: tuple[str, ...]  # unique
    palette: tuple[Color, ...]  # for pictures; two classes may share a color
    labels: tuple[int, ...]  # values in the label files as distributed; of COCO-Stuff in 164k

    def label_format(self, **settings: Any) -> IndexLabels:
        """Map `labels` to class indices; `settings` are those of `IndexLabels`."""
        return IndexLabels(self.labels, **settings)


@cache
def class_list(name: str) -> ClassList:
    """Return the classes of `cityscapes`, `ade20k`, `coco_stuff` or `camvid`."""
    lists = {entry.name: entry for entry in files(__name__).iterdir()}
    if f"{name}.csv" not in lists:
        known = sorted(Path(file).stem for file in lists if file.endswith(".csv"))
        raise ValueError(f"No class list {name!r}: there are {', '.join(known)}.")
    rows = list(csv.DictReader(lists[f"{name}.csv"].read_text("utf-8").splitlines()))
    return ClassList(
        names=tuple(row["name"] for row in rows),
        palette=tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows),
        labels=tuple(int(row["label"]) for row in rows),
    )


@dataclass(frozen=True, slots=True)
class OwnClasses:
    """Classes of your own, with the value or the color of each in the masks if these were given."""

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colors: tuple[Color, ...] | None = None

    @property
    def palette(self) -> tuple[Color, ...]:
        """A color for each class in pictures: the masks' own, or distinct ones."""
        return self.colors or distinct_colors(len(self.names))


def read_classes(given: Sequence[str] | Mapping[str, Any] | str | DataFile) -> OwnClasses:
    """Read classes given inline, or in a YAML file."""
    source = "classes"
    content: Any = given
    if isinstance(given, str) and given.startswith(("[", "{")):  # which holds more than texts
        content = parse_yaml(given, source)
    elif isinstance(given, str | DataFile):
        source = str(given)
        file = open_file(Path(given)) if isinstance(given, str) else given
        try:
            content = parse_yaml(decoded(file.read_bytes(), source), source)
        except UserError as error:
            raise UserError(f"{error} {_FORMS}") from error
    names = list(content) if isinstance(content, list | Mapping) else []
    if odd := [name for name in names if not isinstance(name, str)]:
        raise UserError(
            f"{source}: a class is called {odd[0]!r}: YAML takes no, yes, on, off, null and 1 for "
            "truth values, nothing and a number, 2024-01-01 for a date, and a colon and a space "
            f"for a mapping. Put such names into quotes, as in 'no'. {_FORMS}"
        )
    if not names or not all(names):
        raise UserError(f"{source}: {content!r} names no classes. {_FORMS}")
    _check_names(names, source)
    if not isinstance(content, Mapping):
        return OwnClasses(tuple(names))
    stands_for = list(content.values())
    if all(map(_is_value, stands_for)):
        return OwnClasses(tuple(names), values=tuple(stands_for))
    if all(map(_is_color, stands_for)):
        return OwnClasses(tuple(names), colors=tuple((r, g, b) for r, g, b in stands_for))
    misfits = (name for name in names if not (_is_value(content[name]) or _is_color(content[name])))
    wrong = next(misfits, names[-1])
    raise UserError(f"{source}: {wrong}: {content[wrong]!r} does not fit the others. {_FORMS}")


def _check_names(names: Sequence[str], source: str) -> None:
    """Refuse names that figures and tables would show as another, or as nothing."""
    seen: dict[str, str] = {}
    for name in names:
        if name != name.strip() or any(unicodedata.category(letter) == "Cc" for letter in name):
            raise UserError(
                f"{source}: the class {name!r} begins or ends with a space, or has a line break or "
                "another control character. Write it without."
            )
        shown = " ".join(composed(name).split())
        if (other := seen.get(shown)) is not None:
            alike = "is named twice" if other == name else f"looks the same as {other!a}"
            raise UserError(f"{source}: the class {name!a} {alike}. Rename one of them.")
        seen[shown] = name


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_value, value))


def distinct_colors(count: int) -> tuple[Color, ...]:
    """Return colors that can be told apart; a further class leaves those before it as they are.

    From the 41st on they are hues by the golden ratio, in three brightnesses, some of them alike.
    """
    colors = [_rgb(int(color, 16)) for color in _DISTINCT.split()]
    for number in range(len(colors), count):
        hue, value = number * 0.618034 % 1, (0.95, 0.7, 0.5)[number // 12 % 3]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value))
        colors.append((red, green, blue))
    return tuple(colors[:count])


def _rgb(color: int) -> Color:
    return color >> 16, color >> 8 & 255, color & 255
