"""What a check of a data set found: figures and findings, as text to read and as JSON."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.data.base import Split
from pne_seg.errors import DataError, Fix, UserError, as_arguments, with_fixes

Written = Callable[[Mapping[str, Any]], str]
Level = Literal["error", "warning", "note"]
Counts = npt.NDArray[np.int64]

MOST_SHOWN = 20
"""Findings of one kind that the text lists; the JSON has all."""
_WIDTH = 110  # characters of a table; lines with file names are as long as they are
_FILES_SHOWN = 5  # of a finding about many
_OF_ONE_FILE = ("image", "labels", "sizes", "damage")  # kinds whose messages name it
_HEADINGS: dict[Level, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}


@dataclass
class Finding:
    """A problem or a remark.

    Its kind is `split`, `image`, `labels`, `sizes`, `damage`, `duplicate`, `absent`, `palette`,
    `imbalance`, or a key of the remarks on images, such as `grayscale`.
    """

    level: Level
    kind: str
    splits: list[Split]
    message: str  # with a fix that is no argument
    files: list[str] = field(default_factory=list)  # all of them
    fixes: Sequence[Fix] = ()

    @classmethod
    def of(
        cls, error: UserError, kind: str, splits: list[Split], files: Sequence[str] = ()
    ) -> "Finding":
        """Return the finding of an error."""
        if isinstance(error, DataError):
            all_files = [*(files or error.files)]
            return cls("error", kind, splits, error.message, all_files, error.fixes)
        return cls("error", kind, splits, str(error), [*files])

    def text(self, written: Written = as_arguments) -> str:
        """Return the message with its fixes, as `written` writes arguments."""
        return with_fixes(self.message, self.fixes, written)


@dataclass
class SplitFigures:
    """What one split holds; files that cannot be read do not count."""

    images: int
    labeled: bool
    heights: tuple[int, int] | None  # least and largest in pixels; None if none can be read
    widths: tuple[int, int] | None
    pixels: Counts  # (C,) of each class
    images_with: Counts  # (C,) images that have any of them
    ignored: int  # pixels without a class
    good: list[int]  # at most eight images without errors, evenly over the split
    same_as: Split | None = None  # the split that has the same files by the data set's design

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(C,) shares of the labeled pixels; zeros if there are none."""
        return self.pixels / max(1, int(self.pixels.sum()))


@dataclass
class Inspection:
    """The result of a check."""

    data: str  # name of the data set's class
    root: str | None  # where its files are, if it has any
    class_names: list[str]
    splits: dict[Split, SplitFigures | None]  # None for one that cannot be opened
    findings: list[Finding]  # errors first, then warnings, then notes

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def counted(self) -> dict[Split, SplitFigures]:
        """The splits with labels of their own, at least one of them readable."""
        return {
            split: figures
            for split, figures in self.splits.items()
            if figures is not None and figures.same_as is None and figures.pixels.any()
        }


def as_json(inspection: Inspection, written: Written = as_arguments) -> dict[str, Any]:
    """Return all figures and findings in types that `json` writes.

    Keys: `data`, `root`, `ok` (no errors), `class_names`, `splits`, `errors`, `warnings`, `notes`.
    A split that cannot be opened is null.
    """
    splits: dict[str, Any] = dict.fromkeys(inspection.splits)
    for split, figures in inspection.splits.items():
        if figures is None:
            continue
        columns = (figures.pixels.tolist(), figures.shares.tolist(), figures.images_with.tolist())
        classes = zip(inspection.class_names, *columns, strict=True)
        splits[split] = {
            "images": figures.images,
            "labeled": figures.labeled,
            "same_as": figures.same_as,
            "height": figures.heights and list(figures.heights),
            "width": figures.widths and list(figures.widths),
            "labeled_pixels": int(figures.pixels.sum()),
            "ignored_pixels": figures.ignored,
            "classes": [
                dict(zip(("name", "pixels", "share", "images"), values, strict=True))
                for values in classes
            ],
        }
    findings: dict[str, Any] = {
        f"{level}s": [
            {
                "kind": finding.kind,
                "splits": finding.splits,
                "message": finding.text(written),
                "files": finding.files,
                "fixes": [vars(fix) for fix in finding.fixes],
            }
            for finding in inspection.of(level)
        ]
        for level in _HEADINGS
    }
    return {
        "data": inspection.data,
        "root": inspection.root,
        "ok": not inspection.of("error"),
        "class_names": inspection.class_names,
        "splits": splits,
        **findings,
    }


def report_text(
    inspection: Inspection, written: Written = as_arguments, most_files: int | None = _FILES_SHOWN
) -> str:
    """Write a report: splits, findings, classes, and a last line with the verdict.

    Args:
        inspection: what to report on.
        written: writes arguments that fix something.
        most_files: how many files of a finding are named; all if None.
    """
    where = f" in {inspection.root}" if inspection.root else ""
    classes = many(len(inspection.class_names), "class", "es")
    parts = [f"{inspection.data}{where}: {classes}", _split_table(inspection)]
    for level, heading in _HEADINGS.items():
        if found := inspection.of(level):
            parts.append(
                "\n".join([f"{heading} ({len(found)})", *_listed(found, written, most_files)])
            )
    if inspection.counted:
        parts.append(_class_table(inspection))
    errors, warnings = len(inspection.of("error")), len(inspection.of("warning"))
    counted = f"{many(errors, 'error')}, {many(warnings, 'warning')}"
    parts.append(counted if errors else f"OK ({counted})" if warnings else "OK")
    return "\n\n".join(parts) + "\n"


def _split_table(inspection: Inspection) -> str:
    table = _table("split", "images", "height", "width", "labeled pixels", "ignored", "errors")
    remarks = []
    for split, figures in inspection.splits.items():
        errors = sum(split in finding.splits for finding in inspection.of("error"))
        if figures is None:
            table.add_row(split, *"–––––", f"{errors:,}")
            remarks.append(f"\n{split} cannot be opened.")
            continue
        if figures.same_as is not None:
            remarks.append(f"\n{split} is {figures.same_as}: the same files, checked once.")
        pixels = int(figures.pixels.sum())
        total = pixels + figures.ignored
        table.add_row(
            split,
            f"{figures.images:,}",
            _range(figures.heights),
            _range(figures.widths),
            f"{pixels:,}" if figures.labeled else "no labels",
            f"{100 * figures.ignored / total:.1f}%" if total else "–",
            f"{errors:,}",
        )
    return _rendered(table) + "".join(remarks)


def _class_table(inspection: Inspection) -> str:
    parts = inspection.counted
    table = _table("class", *(text for split in parts for text in (f"{split} pixels", "images")))
    for index, name in enumerate(inspection.class_names):
        row = [name]
        for figures in parts.values():
            row += [_percent(float(figures.shares[index])), f"{figures.images_with[index]:,}"]
        table.add_row(*map(Text, row))
    return _rendered(table)


def _listed(findings: Iterable[Finding], written: Written, most_files: int | None) -> list[str]:
    """List the first findings of each kind, and how many more there are."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, found in kinds.items():
        for finding in found[:MOST_SHOWN]:
            text, files = finding.text(written), finding.files
            named = len(files) == 1 and files[0] in text
            prefix = f"{finding.splits[0]}: " if named and kind in _OF_ONE_FILE else ""
            lines.append("  " + (prefix + text).replace("\n", "\n    "))
            shown = [] if named else files[:most_files]
            lines += [f"    {file}" for file in shown]
            if not named and (left := len(files) - len(shown)) > 0:
                lines.append(f"    and {left:,} more")
        if (left := len(found) - MOST_SHOWN) > 0:
            lines.append(f"  … and {left:,} more of the kind {kind!r}")
    return lines


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _rendered(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n"))


def _range(sides: tuple[int, int] | None) -> str:
    return "–" if sides is None else "–".join(map(str, sorted({*sides})))


def _percent(share: float) -> str:
    """Write digits that tell something, as classes differ by orders of magnitude."""
    if share == 0:
        return "none"
    if share >= 0.001:
        return f"{100 * share:.2f}%"
    return f"{100 * share:.1g}%" if share >= 1e-6 else "<0.0001%"


def many(count: int, word: str, ending: str = "s") -> str:
    """Write a number of things, such as `1 image` or `2 images`."""
    return f"{count:,} {word}{'' if count == 1 else ending}"
