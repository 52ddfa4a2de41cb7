"""What a check found, as text to read and as JSON for programs."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.data.inspection.findings import Finding, Inspection, Level, SplitFigures

MOST_SHOWN = 20
"""Findings of one kind that the text lists; the JSON has all."""

_WIDTH = 110  # characters of a table; lines with file names are as long as they are
_FILES_SHOWN = 5  # of a finding about many
_OF_ONE_FILE = ("image", "labels", "sizes", "damage")  # kinds whose messages name it
_HEADINGS: dict[Level, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}


def report_text(inspection: Inspection) -> str:
    """A report to read: splits, findings, classes, and a last line with the verdict."""
    where = f" in {inspection.root}" if inspection.root else ""
    parts = [f"{inspection.data}{where}: {_many(len(inspection.class_names), 'class', 'es')}"]
    parts.append(_split_table(inspection))
    for level, heading in _HEADINGS.items():
        if found := inspection.of(level):
            parts.append("\n".join([f"{heading} ({len(found)})", *_listed(found)]))
    if inspection.counted:
        parts.append(_class_table(inspection))
    parts.append(verdict(inspection))
    return "\n\n".join(parts) + "\n"


def verdict(inspection: Inspection) -> str:
    """`OK`, or the numbers of errors and warnings."""
    errors, warnings = (len(inspection.of(level)) for level in ("error", "warning"))
    if not errors and not warnings:
        return "OK"
    counted = f"{_many(errors, 'error')}, {_many(warnings, 'warning')}"
    return counted if errors else f"OK ({counted})"


def as_json(inspection: Inspection) -> dict[str, Any]:
    """All figures and all findings, in types that `json` writes.

    Keys: `data`, `root`, `ok` (no errors), `class_names`, `splits`, `errors`, `warnings`, `notes`.
    A split is null where it cannot be opened, else it has `images`, `labeled`, `same_as`, `height`
    and `width` ([least, largest] or null), `labeled_pixels`, `ignored_pixels` and `classes`, a
    list of `name`, `pixels`, `share` (of the labeled pixels) and `images`. A finding has `kind`,
    `splits`, `message` and `files`.
    """
    return {
        "data": inspection.data,
        "root": inspection.root,
        "ok": not inspection.of("error"),
        "class_names": inspection.class_names,
        "splits": {
            split: None if figures is None else _figures_as_json(figures, inspection.class_names)
            for split, figures in inspection.splits.items()
        },
        **{
            f"{level}s": [_finding_as_json(finding) for finding in inspection.of(level)]
            for level in _HEADINGS
        },
    }


def _figures_as_json(figures: SplitFigures, class_names: Sequence[str]) -> dict[str, Any]:
    shares, pixels, images = (
        column.tolist() for column in (figures.shares, figures.pixels, figures.images_with)
    )
    return {
        "images": figures.images,
        "labeled": figures.labeled,
        "same_as": figures.same_as,
        "height": figures.heights and list(figures.heights),
        "width": figures.widths and list(figures.widths),
        "labeled_pixels": sum(pixels),
        "ignored_pixels": figures.ignored,
        "classes": [
            {"name": name, "pixels": pixels[i], "share": shares[i], "images": images[i]}
            for i, name in enumerate(class_names)
        ],
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "splits": finding.splits,
        "message": finding.message,
        "files": finding.files,
    }


def _split_table(inspection: Inspection) -> str:
    table = _table("split", "images", "height", "width", "labeled pixels", "ignored", "errors")
    remarks = []
    for split, figures in inspection.splits.items():
        errors = [found for found in inspection.of("error") if split in found.splits]
        if figures is None:
            table.add_row(split, *"–––––", f"{len(errors):,}")
            remarks.append(f"\n{split} cannot be opened.")
            continue
        if figures.same_as is not None:
            remarks.append(f"\n{split} is {figures.same_as}: the same files, checked once.")
        pixels = int(figures.pixels.sum())
        table.add_row(
            split,
            f"{figures.images:,}",
            _range(figures.heights),
            _range(figures.widths),
            f"{pixels:,}" if figures.labeled else "no labels",
            f"{100 * figures.ignored_share:.1f}%" if pixels + figures.ignored else "–",
            f"{len(errors):,}",
        )
    return _rendered(table) + "".join(remarks)


def _class_table(inspection: Inspection) -> str:
    """Shares of the labeled pixels, and numbers of images, of each class in each split."""
    parts = inspection.counted
    table = _table("class", *(text for split in parts for text in (f"{split} pixels", "images")))
    shares = {split: figures.shares for split, figures in parts.items()}
    for index, name in enumerate(inspection.class_names):
        row = [name]
        for split, figures in parts.items():
            row.append(_percent(float(shares[split][index])))
            row.append(f"{figures.images_with[index]:,}")
        table.add_row(*map(Text, row))
    return _rendered(table)


def _listed(findings: Iterable[Finding]) -> list[str]:
    """The first findings of each kind, and how many more there are."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    lines = []
    for kind, found in kinds.items():
        for finding in found[:MOST_SHOWN]:
            prefix = f"{finding.splits[0]}: " if kind in _OF_ONE_FILE else ""
            lines.append("  " + (prefix + finding.message).replace("\n", "\n    "))
            if kind not in (*_OF_ONE_FILE, "duplicate"):
                lines += [f"    {file}" for file in finding.files[:_FILES_SHOWN]]
                lines += _rest(len(finding.files) - _FILES_SHOWN, "files")
        lines += _rest(len(found) - MOST_SHOWN, f"of the kind {kind!r}", indent=2)
    return lines


def _rest(left: int, what: str, indent: int = 4) -> list[str]:
    return [f"{' ' * indent}… and {left:,} more {what}"] if left > 0 else []


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _rendered(table: Table) -> str:
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _range(sides: tuple[int, int] | None) -> str:
    if sides is None:
        return "–"
    least, largest = sides
    return str(least) if least == largest else f"{least}–{largest}"


def _percent(share: float) -> str:
    """With two digits that tell something, as classes differ by orders of magnitude."""
    if share == 0:
        return "none"
    if share >= 0.001:
        return f"{100 * share:.2f}%"
    return f"{100 * share:.1g}%" if share >= 1e-6 else "<0.0001%"


def _many(count: int, word: str, ending: str = "s") -> str:
    return f"{count:,} {word}{'' if count == 1 else ending}"
