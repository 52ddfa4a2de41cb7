"""Checks a data set completely: every file decoded, what is wrong named, classes counted."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pne_seg.data.base import SegmentationDataModule, Split, usable_processors
from pne_seg.data.cache import CachedDataset
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.image_folder import Folder
from pne_seg.data.inspection.collected import Collected, duplicates
from pne_seg.data.inspection.examiner import Examiner
from pne_seg.data.inspection.findings import Finding, Inspection, Level, SplitFigures
from pne_seg.data.inspection.pool import examine_all
from pne_seg.data.label_formats import IGNORE, IndexLabels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.errors import UserError

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def inspect(
    data: SegmentationDataModule,
    splits: Sequence[Split] = SPLITS,
    processes: int | None = None,
) -> Inspection:
    """Decode every file of some splits and report on them; nothing is written.

    Args:
        data: the data set.
        splits: which to check; one that cannot be opened is an error, and the others are checked.
        processes: how many decode at a time; all usable processors where not given.

    Raises:
        UserError: a process was killed; what is wrong with the data is in the result instead.
    """
    wanted = [split for split in SPLITS if split in splits]
    findings: list[Finding] = []
    opened = _open(data, wanted, findings)
    same = _test_is_val(opened)
    collected = {
        split: Collected(source)
        for split, source in opened.items()
        if not (same and split == "test")
    }
    examiners = {split: _examiner(data, split, part.source) for split, part in collected.items()}
    _examine(collected, examiners, processes or usable_processors())

    figures: dict[Split, SplitFigures | None] = dict.fromkeys(wanted)
    for split, part in collected.items():
        figures[split] = part.figures(data)
        findings += part.findings(split, examiners[split])
    if same and (val := figures["val"]) is not None:
        figures["test"] = replace(val, same_as="val")
    findings += duplicates(collected)
    findings += _absent_classes(data, figures)
    levels: list[Level] = ["error", "warning", "note"]
    return Inspection(
        data=type(data).__name__,
        root=str(data.root) if isinstance(data, FileDataModule) else None,
        class_names=list(data.class_names),
        splits=figures,
        findings=sorted(findings, key=lambda finding: levels.index(finding.level)),
    )


def _open(
    data: SegmentationDataModule, splits: Sequence[Split], findings: list[Finding]
) -> dict[Split, SegmentationDataset]:
    """The splits' files; what `fit` would refuse without reading any of them is an error."""
    opened: dict[Split, SegmentationDataset] = {}
    for split in splits:
        try:
            source = data.split(split)
        except UserError as error:
            _add_split_error(findings, split, str(error))
            continue
        opened[split] = source.source if isinstance(source, CachedDataset) else source
        name = f"The {split} split of {type(data).__name__}"
        if complaint := data.too_few(split, len(source)):
            _add_split_error(findings, split, complaint)
        if not source.labeled:
            said = f"{name} has no public labels"
            if split == "test":
                said += ": `predict` writes its classes, but they cannot be scored here."
                findings.append(Finding("note", "split", [split], said))
            else:
                use = "train" if split == "train" else "score"
                _add_split_error(findings, split, f"{said} to {use} by. Add them.")
    return opened


def _add_split_error(findings: list[Finding], split: Split, message: str) -> None:
    # A root that is missing is missing for every split: said once.
    for finding in findings:
        if finding.message == message:
            finding.splits.append(split)
            return
    findings.append(Finding("error", "split", [split], message))


def _test_is_val(opened: dict[Split, SegmentationDataset]) -> bool:
    """Whether the data set has the same files for both, by its design; they are checked once."""
    val, test = opened.get("val"), opened.get("test")
    if not (isinstance(val, PairedDataset) and isinstance(test, PairedDataset)):
        return False
    return len(val) > 0 and list(val.pairs) == list(test.pairs)


def _examiner(data: SegmentationDataModule, split: Split, source: SegmentationDataset) -> Examiner:
    crop = None
    if split == "train" and isinstance(data, FileDataModule) and data.transforms is None:
        crop = data.crop_size
    return Examiner(source, data.num_classes, data.ignore_index, crop, data.resize_base)


def _examine(
    collected: dict[Split, Collected], examiners: dict[Split, Examiner], processes: int
) -> None:
    """Fill in what is found, behind a progress bar where there is a terminal for it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    bar = progress.add_task("Checking", total=sum(len(part.source) for part in collected.values()))
    try:
        # The bar has a thread: it starts once the processes are there.
        with closing(examine_all(examiners, processes, progress.start)) as results:
            for found in results:
                collected[found.task.split].add(found)
                progress.advance(bar, len(found.sizes))
    finally:
        progress.stop()


def _absent_classes(
    data: SegmentationDataModule, figures: dict[Split, SplitFigures | None]
) -> Iterator[Finding]:
    consequences: list[tuple[Split, str]] = [
        ("train", "so that they cannot be learnt"),
        ("val", "so that they have no score"),
    ]
    for split, consequence in consequences:
        part = figures.get(split)
        if part is None or not part.pixels.any():
            continue
        absent = [data.class_names[index] for index in np.flatnonzero(part.pixels == 0).tolist()]
        if absent:
            hint = _hint_at_white(data, part) if split == "train" else ""
            said = f"Classes that occur nowhere in {split}, {consequence}"
            counted = f"{len(absent)} of {data.num_classes}"
            message = f"{said} ({counted}): {', '.join(absent)}.{hint}"
            yield Finding("warning", "absent", [split], message)


def _hint_at_white(data: SegmentationDataModule, part: SplitFigures) -> str:
    """What to do about masks of black and white, whose white is taken for pixels without class."""
    if not (isinstance(data, Folder) and isinstance(data.label_format, IndexLabels)):
        return ""
    entries = data.label_format.table.entries
    only_white_is_ignored = np.flatnonzero(entries == IGNORE).tolist() == [255]
    if part.pixels[1:].any() or not part.ignored or entries[0] != 0 or not only_white_is_ignored:
        return ""
    first, second = [*data.class_names, "object"][:2]
    return (
        " The masks hold 0 and 255 alone: if 255 is a class, say so with "
        f"--data.classes '{{{first}: 0, {second}: 255}}'."
    )
