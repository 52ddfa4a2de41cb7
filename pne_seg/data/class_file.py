"""The classes of custom data: names, and what stands for them in the masks."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pne_seg.data.sources import DataFile, open_file
from pne_seg.description import Color
from pne_seg.errors import UserError
from pne_seg.settings_files import parse_yaml

_FORMS = """\
Give the classes in the order of their indices, in YAML, as one of
    [background, road, tree]                              masks hold 0, 1, 2
    {background: 0, road: 255}                            masks hold these values
    {background: [0, 0, 0], road: [128, 64, 128]}         masks hold these colours"""


@dataclass(frozen=True, slots=True)
class OwnClasses:
    """Classes in the order of their indices.

    Attributes:
        names: of the classes.
        values: the value of each in the masks, where values were given.
        colours: the colour of each in the masks, where colours were given.
    """

    names: tuple[str, ...]
    values: tuple[int, ...] | None = None
    colours: tuple[Color, ...] | None = None

    @property
    def palette(self) -> tuple[Color, ...]:
        """A colour for each class in pictures: the masks' own, or distinct ones."""
        return self.colours or distinct_colours(len(self.names))


def read_classes(given: Sequence[str] | Mapping[str, Any] | str | DataFile) -> OwnClasses:
    """Classes as given inline, or in a YAML file.

    Raises:
        UserError: the file is missing or not YAML, or the classes have none of the three forms.
    """
    source = "--data.classes"
    content: Any = given
    if isinstance(given, str | DataFile):
        source = str(given)
        file = open_file(Path(given)) if isinstance(given, str) else given
        try:
            text = file.read_bytes().decode()
        except UserError as error:
            raise UserError(f"{error} {_FORMS}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{given} is not UTF-8 text ({error.reason}).") from error
        content = parse_yaml(text, source)
    names = list(content) if isinstance(content, list | Mapping) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{source}: {content!r} names no classes. {_FORMS}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{source}: the class {twice!r} is named twice.")
    if not isinstance(content, Mapping):
        return OwnClasses(tuple(names))
    stands_for = list(content.values())
    if all(_is_value(value) for value in stands_for):
        return OwnClasses(tuple(names), values=tuple(stands_for))
    if all(_is_colour(colour) for colour in stands_for):
        colours = tuple((int(red), int(green), int(blue)) for red, green, blue in stands_for)
        return OwnClasses(tuple(names), colours=colours)
    wrong = (
        next(name for name, value in content.items() if not (_is_value(value) or _is_colour(value)))
        if not all(_is_value(value) or _is_colour(value) for value in stands_for)
        else names[-1]
    )
    raise UserError(f"{source}: {wrong}: {content[wrong]!r} does not fit the others. {_FORMS}")


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_value, value))


def distinct_colours(count: int) -> tuple[Color, ...]:
    """Colours that are told apart: hues by the golden ratio, in three degrees of brightness."""
    colours = []
    for number in range(count):
        hue, value = number * 0.618034 % 1, (0.95, 0.7, 0.5)[number // 12 % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.65, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)
