"""What is wrong with one mask, and with many that have it in common: one line for one cause."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pne_seg.errors import DataError, Fix, UserError

_MOST_IGNORED = 8  # values or colors that are offered to be ignored; more of them are another fault
_MOST_SHOWN = 4  # colors in a message

Color = tuple[int, int, int]


class Cause(ABC):
    """What is wrong with a mask."""

    @property
    def key(self) -> Hashable:
        """What is equal for causes that are one: a setting holds for all masks of a data set."""
        return type(self)

    @abstractmethod
    def error(self, file: str) -> DataError:
        """Return the error of one mask."""

    @abstractmethod
    def shared(self, causes: Sequence[Self], total: int) -> DataError:
        """Return the error of several masks out of a total, which have one of `causes` each."""


@dataclass(frozen=True)
class SameWords(Cause):
    """What can be said of several masks in the same words.

    Args:
        one: of one mask, with its name.
        many: of several, which it begins with, such as `are half as large`.
        fixes: arguments of the data set that fix it.
    """

    one: str
    many: str
    fixes: tuple[Fix, ...] = ()

    @property
    def key(self) -> Hashable:
        """The words."""
        return self.many

    def error(self, file: str) -> DataError:
        """Return the error of one mask."""
        return DataError(self.one, self.fixes, [file], self)

    def shared(self, causes: Sequence[Self], total: int) -> DataError:
        """Return the error of several."""
        return DataError(f"{len(causes)} of {total} masks {self.many}", self.fixes)


@dataclass(frozen=True)
class UnknownValues(Cause):
    """Label values that no class has.

    Args:
        held: pixels of each value in the mask.
        valid: values of classes and of pixels without one.
        ignored: the latter of these.
        takes: which of `ignore_values` and `reduce_zero_label` the data set has.
        hint: what else to do about it.
        elsewhere: values that masks without errors hold.
    """

    held: Mapping[int, int]
    valid: frozenset[int]
    ignored: frozenset[int]
    takes: tuple[str, ...]
    hint: str
    elsewhere: frozenset[int] = frozenset()

    @property
    def unknown(self) -> list[int]:
        """The values without a class."""
        return sorted(self.held.keys() - self.valid)

    def error(self, file: str) -> DataError:
        """Return the error of one mask."""
        value, *others = self.unknown
        too = f", but {ranges(others)} occur{'s' * (len(others) == 1)} too" if others else ""
        said = f"label {value} ({self.held[value]} pixels) is no class: valid are "
        return self._error(f"{file}: {said}{ranges(self.valid)}{too}", {*self.held}, [file])

    def shared(self, causes: Sequence[Self], total: int) -> DataError:
        """Return the error of several."""
        counts = Counter(value for cause in causes for value in cause.unknown)
        said = _counted("label", ranges(counts), counts.values(), len(causes), total)
        held = {value for cause in causes for value in cause.held}
        message = f"{said} no class: valid are {ranges(self.valid)}"
        return self._error(message, held | self.elsewhere)

    def _error(self, message: str, held: set[int], files: Sequence[str] = ()) -> DataError:
        fixes = self._fixes(held)
        hint = _add_it(self.unknown) if fixes else self.hint
        return DataError(f"{message}. {hint}", fixes, files, self)

    def _fixes(self, held: set[int]) -> list[Fix]:
        unknown = sorted(held - self.valid)
        fixes = []
        if "reduce_zero_label" in self.takes and unknown == [max(self.valid - self.ignored) + 1]:
            when = "if 0 is no class and 1 the first" if 0 in held else "if 1 is the first class"
            fixes.append(Fix(when, {"reduce_zero_label": True}))
        if "ignore_values" in self.takes and len(unknown) <= _MOST_IGNORED:
            values = sorted({*unknown, *(self.ignored & held)})  # it replaces the default
            ignoring = Fix(_to_ignore(unknown), {"ignore_values": values})
            fixes.insert(0 if 0 in held else len(fixes), ignoring)
        return fixes


@dataclass(frozen=True)
class UnknownColors(Cause):
    """Colors that no class has.

    Args:
        colors: pixels of each in the mask.
        place: row and column of the first one.
        ignored: colors that are ignored.
        hint: what to do if it is not a few colors.
    """

    colors: Mapping[Color, int]
    place: tuple[int, int]
    ignored: tuple[Color, ...]
    hint: str

    def error(self, file: str) -> DataError:
        """Return the error of one mask."""
        first, *others = self.colors
        count = sum(self.colors.values())
        more = f" and {len(others)} more are" if others else " is"
        message = (
            f"{file}: color {[*first]} at row {self.place[0]}, column {self.place[1]}{more} no "
            f"class's ({count} such pixels)"
        )
        return self._error(message, self.colors, [file])

    def shared(self, causes: Sequence[Self], total: int) -> DataError:
        """Return the error of several."""
        counts = Counter(color for cause in causes for color in cause.colors)
        shown = ", ".join(str([*color]) for color, _ in counts.most_common(_MOST_SHOWN))
        shown += ", …" if len(counts) > _MOST_SHOWN else ""
        said = _counted("color", shown, counts.values(), len(causes), total)
        return self._error(f"{said} no class's", counts)

    def _error(
        self, message: str, colors: Collection[Color], files: Sequence[str] = ()
    ) -> DataError:
        if len(colors) > _MOST_IGNORED:
            return DataError(f"{message}. {self.hint}", (), files, self)
        ignored = [[*color] for color in (*self.ignored, *sorted(colors))]
        fix = Fix(_to_ignore(colors), {"ignore_colors": ignored})
        return DataError(f"{message}. {_add_it(colors)}", [fix], files, self)


def grouped(
    problems: Iterable[tuple[str, UserError]],
    total: int,
    noun: str,
    elsewhere: Collection[int] = (),
) -> list[tuple[UserError, list[str]]]:
    """Combine the errors of files by their cause; return each with all of its files.

    Args:
        problems: files with what is wrong with each.
        total: number of all files, the sound ones too.
        noun: what the files are called, in the plural.
        elsewhere: values that masks without errors hold.
    """
    groups: dict[Hashable, list[tuple[str, UserError]]] = {}
    for file, error in problems:
        cause = getattr(error, "cause", None)
        key = cause.key if isinstance(cause, Cause) else str(error).replace(file, "")
        groups.setdefault(key, []).append((file, error))
    found: list[tuple[UserError, list[str]]] = []
    for members in groups.values():
        (file, error), *others = members
        causes: list[Any] = [getattr(error, "cause", None) for _, error in members]
        if isinstance(causes[0], UnknownValues):
            causes[0] = replace(causes[0], elsewhere=frozenset(elsewhere))
        if others and causes[0] is not None:
            error = causes[0].shared(causes, total)
        elif others:
            said = str(error).replace(f"{file}: ", "", 1).replace(file, "the file")
            error = UserError(f"{len(members)} of {total} {noun}: {said}")
        found.append((error, [file for file, _ in members]))
    return found


def ranges(values: Collection[int]) -> str:
    """Write the numbers 0 to 10 and 255 as `0 to 10 and 255`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _to_ignore(those: Collection[Any]) -> str:
    return "to ignore it" if len(those) == 1 else "to ignore them"


def _add_it(those: Collection[Any]) -> str:
    it, one = ("it", "it is one") if len(those) == 1 else ("them", "they are any")
    return f"Add {it} to classes if {one}"


def _counted(what: str, shown: str, counts: Collection[int], masks: int, total: int) -> str:
    """Write such as `label 11 in 24 of 24 masks is`."""
    if len(counts) == 1:
        return f"{what} {shown} in {masks} of {total} masks is"
    each = "" if min(counts) == masks else f" (each in {min(counts)} to {max(counts)})"
    return f"{what}s {shown} in {masks} of {total} masks{each} are"
