"""A complete check of a data set: decode every file, name what is wrong, count the classes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pne_seg.data.base import SegmentationDataModule, Split, usable_processors
from pne_seg.data.class_counts import rare_classes
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.image_folder import Folder
from pne_seg.data.inspection.check_report import (
    Finding,
    Inspection,
    Level,
    SplitFigures,
    as_json,
    many,
    report_text,
)
from pne_seg.data.inspection.examiner import Examined, Examiner, Problem, examine_all
from pne_seg.data.label_formats import IGNORE, IndexLabels
from pne_seg.data.paired_files import PairedDataset, spread
from pne_seg.data.palettes import Palettes
from pne_seg.data.samples import SegmentationDataset
from pne_seg.description import listed, too_few_classes
from pne_seg.errors import UserError

__all__ = ["SPLITS", "Inspection", "as_json", "inspect", "report_text"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_PICTURES = 8  # what a mosaic shows
_NAMED = 5  # files in a message; a finding lists them all

_REMARKS: dict[str, tuple[Level, str]] = {
    "unlabeled": ("warning", "without a single labeled pixel: nothing to learn or to score."),
    "small": ("note", "smaller than the training crop of {crop}: padded in training."),
    "rotated": ("note", "turned or mirrored by EXIF data: read as displayed."),
    "grayscale": ("note", "grayscale: read as RGB with three equal channels."),
    "cmyk": ("note", "CMYK: converted to RGB."),
    "deep": ("note", "of more than 8 bits per channel: reduced to 8."),
    **{
        f"deep{bits}": (
            "warning",
            f"of more than 8 bits per channel and use {bits} of them: read as {bits} bits. The "
            "same is done for images to predict on; give all images the same range.",
        )
        for bits in (8, 10, 12, 14)
    },
    "transparent": ("note", "stored with transparency, which is dropped."),
}


def inspect(
    data: SegmentationDataModule,
    splits: Sequence[Split] = SPLITS,
    processes: int | None = None,
) -> Inspection:
    """Decode every file of some splits and report on them; nothing is written.

    Args:
        data: the data set.
        splits: which to check; one that cannot be opened is an error, and the others are checked.
        processes: how many decode at a time; all usable processors by default.
    """
    wanted = [split for split in SPLITS if split in splits]
    findings: list[Finding] = []
    if problem := too_few_classes(data.num_classes):
        findings.append(Finding("error", "classes", [], problem))
    opened = _open(data, wanted, findings)
    same = _test_is_val(opened)
    parts = {
        split: _Part(data, split, source)
        for split, source in opened.items()
        if not (same and split == "test")
    }
    _examine(list(parts.values()), processes or usable_processors())

    figures: dict[Split, SplitFigures | None] = dict.fromkeys(wanted)
    for split, part in parts.items():
        figures[split] = part.figures(data)
        findings += part.findings()
    if same and (val := figures["val"]) is not None:
        figures["test"] = replace(val, same_as="val")
    findings += _duplicates(parts)
    findings += _absent_classes(data, figures)
    if train := figures.get("train"):
        counted = train.pixels, train.images_with, train.images
        if rare := rare_classes(data.class_names, *counted):
            findings.append(Finding("note", "imbalance", ["train"], rare))
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
    """Open the splits; what `fit` would refuse without reading any file is an error."""
    opened: dict[Split, SegmentationDataset] = {}
    errors: dict[str, list[Split]] = defaultdict(list)  # a missing root is reported once
    for split in splits:
        try:
            source = data.split(split)
        except UserError as error:
            errors[str(error)].append(split)
            continue
        opened[split] = source
        if complaint := data.too_few(split, len(source)):
            errors[complaint].append(split)
        if not source.labeled:
            message = f"The {split} split of {type(data).__name__} has no public labels"
            if split == "test":
                message += ": `predict` writes its classes, but there are no metrics of it."
                findings.append(Finding("note", "split", [split], message))
            else:
                errors[f"{message}, for training and metrics. Add them."].append(split)
    findings += [Finding("error", "split", those, message) for message, those in errors.items()]
    return opened


def _test_is_val(opened: dict[Split, SegmentationDataset]) -> bool:
    """Return whether the data set has the same files for both, by its design."""
    val, test = opened.get("val"), opened.get("test")
    if not (isinstance(val, PairedDataset) and isinstance(test, PairedDataset)):
        return False
    return len(val) > 0 and list(val.pairs) == list(test.pairs)


class _Part:
    """A split and the results of its samples."""

    def __init__(
        self, data: SegmentationDataModule, split: Split, source: SegmentationDataset
    ) -> None:
        crop = None
        if split == "train" and isinstance(data, FileDataModule) and data.transforms is None:
            crop = data.crop_size
        base = data.resize_base
        self.split = split
        self.source = source
        self.examiner = Examiner(source, data.num_classes, data.ignore_index, crop, base)
        self.crop = "×".join(map(str, crop or ()))
        if base:
            self.crop += f" (once fitted to {base[0]}×{base[1]})"
        self.sizes = np.zeros((len(source), 2), np.int32)
        self.digests = np.zeros(len(source), np.uint64)
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.problems: list[tuple[int, Problem]] = []
        self.noted: dict[str, list[int]] = defaultdict(list)
        self.palettes = Palettes()

    def add(self, index: int, found: Examined) -> None:
        """Take the result of a sample in."""
        self.sizes[index], self.digests[index] = found.size or (0, 0), found.digest
        if found.counts is not None:
            self.pixels += found.counts
            self.images += found.counts > 0
        self.problems += [(index, problem) for problem in found.problems]
        for kind in found.notes:
            self.noted[kind].append(index)
        if found.palette and isinstance(self.source, PairedDataset):
            labels = str(self.source.pairs[index].labels)
            self.palettes.add(labels, found.palette, found.indices)

    def figures(self, data: SegmentationDataModule) -> SplitFigures:
        """Return the split's numbers."""
        wrong = [index for index, _ in self.problems]
        good = np.setdiff1d(np.flatnonzero(self.digests), wrong)
        sizes = self.sizes[self.sizes[:, 0] > 0]
        ranges = [(int(side.min()), int(side.max())) for side in sizes.T] if len(sizes) else None
        return SplitFigures(
            images=len(self.source),
            labeled=self.source.labeled,
            heights=ranges[0] if ranges else None,
            widths=ranges[1] if ranges else None,
            pixels=self.pixels[: data.num_classes],
            images_with=self.images[: data.num_classes],
            ignored=int(self.pixels[data.ignore_index]),
            good=good[spread(len(good), _PICTURES)].tolist(),
        )

    def findings(self) -> Iterator[Finding]:
        """Describe what is wrong with the split's files, in their order, and what is notable."""
        for _, (kind, file, message) in self.problems:
            level: Level = "warning" if kind == "damage" else "error"
            yield Finding(level, kind, [self.split], message, [file])
        if self.palettes.first:
            count = many(self.palettes.conflicts, "mask")
            message = f"Palettes differ in {count} of {self.split}. {self.palettes.first}"
            yield Finding("error", "palette", [self.split], message)
        for kind, (level, remark) in _REMARKS.items():
            if files := [self.file(index) for index in self.noted[kind]]:
                count, verb = many(len(files), "image"), "is" if len(files) == 1 else "are"
                message = f"{count} in {self.split} {verb} {remark.format(crop=self.crop)}"
                yield Finding(level, kind, [self.split], message, files)

    def file(self, index: int) -> str:
        """Return the image's file, or the sample's name if it has none."""
        if isinstance(self.source, PairedDataset):
            return str(self.source.pairs[index].image)
        return self.source.name(index)


def _examine(parts: Sequence[_Part], processes: int) -> None:
    """Fill in the results, behind a progress bar if there is a terminal for it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )
    bar = progress.add_task("Checking", total=sum(len(part.source) for part in parts))
    try:
        # The bar has a thread: it starts once the processes are there.
        results = examine_all([part.examiner for part in parts], processes, progress.start)
        with closing(results):
            for number, index, found in results:
                parts[number].add(index, found)
                progress.advance(bar)
    finally:
        progress.stop()


def _duplicates(parts: Mapping[Split, _Part]) -> Iterator[Finding]:
    """Find images of the same bytes: between splits they make the metrics too good."""
    groups: dict[int, list[tuple[Split, int]]] = defaultdict(list)
    for split, part in parts.items():
        for index, digest in enumerate(part.digests.tolist()):
            if digest:
                groups[digest].append((split, index))
    for places in groups.values():
        if len(places) == 1:
            continue
        files = [parts[split].file(index) for split, index in places]
        splits = list(dict.fromkeys(split for split, _ in places))
        if len(splits) > 1:
            said = f"The same image in {' and '.join(splits)}, which makes scores too good"
            fix = " Keep it in one of them."
        else:
            said, fix = f"The same image {len(files)} times in {splits[0]}", ""
        level: Level = "warning" if fix else "note"
        message = f"{said}: {listed(files, _NAMED)}.{fix}"
        yield Finding(level, "duplicate", splits, message, files)


def _absent_classes(
    data: SegmentationDataModule, figures: dict[Split, SplitFigures | None]
) -> Iterator[Finding]:
    consequences: list[tuple[Split, str]] = [
        ("train", "so that they cannot be learned"),
        ("val", "so that they have no IoU"),
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
    """Advise on masks of black and white, whose white is taken for pixels without class."""
    if not (isinstance(data, Folder) and isinstance(data.label_format, IndexLabels)):
        return ""
    entries = data.label_format.entries
    only_white_is_ignored = np.flatnonzero(entries == IGNORE).tolist() == [255]
    if part.pixels[1:].any() or not part.ignored or entries[0] != 0 or not only_white_is_ignored:
        return ""
    first, second = [*data.class_names, "object"][:2]
    return (
        " The masks hold only 0 and 255: if 255 is a class, pass "
        f"classes={{{first!r}: 0, {second!r}: 255}}."
    )
