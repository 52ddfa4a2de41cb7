"""A complete check of a data set: decode every file, name what is wrong, count the classes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pne_seg.data.base import SegmentationDataModule, Split, usable_processors
from pne_seg.data.causes import grouped
from pne_seg.data.class_counts import rare_classes
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.inspection.check_report import (
    Finding,
    Inspection,
    Level,
    SplitFigures,
    as_json,
    many,
    report_text,
)
from pne_seg.data.inspection.class_findings import absent_classes
from pne_seg.data.inspection.examiner import Examined, Examiner, Problem, examine_all
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.paired_files import PairedDataset, spread
from pne_seg.data.palettes import Palettes
from pne_seg.data.samples import SegmentationDataset
from pne_seg.description import too_few_classes
from pne_seg.errors import UserError

__all__ = ["SPLITS", "Inspection", "as_json", "inspect", "report_text"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_PICTURES = 8  # what a mosaic shows

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
    findings += _problems(parts)
    for split, part in parts.items():
        figures[split] = part.figures(data)
        findings += part.remarks()
    if same and (val := figures["val"]) is not None:
        figures["test"] = replace(val, same_as="val")
    findings += _duplicates(parts)
    findings += absent_classes(data, figures)
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
    errors: dict[str, tuple[UserError, list[Split]]] = {}  # a missing root is reported once

    def refuse(error: UserError, split: Split) -> None:
        errors.setdefault(str(error), (error, []))[1].append(split)

    for split in splits:
        try:
            source = data.split(split)
        except UserError as error:
            refuse(error, split)
            continue
        opened[split] = source
        if complaint := data.too_few(split, len(source)):
            refuse(UserError(complaint), split)
        if not source.labeled:
            message = f"The {split} split of {type(data).__name__} has no public labels"
            if split == "test":
                message += ": `predict` writes its classes, but there are no metrics of it."
                findings.append(Finding("note", "split", [split], message))
            else:
                refuse(UserError(f"{message}, for training and metrics. Add them."), split)
    findings += [Finding.of(error, "split", those) for error, those in errors.values()]
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

    def values(self) -> set[int]:
        """Return what sound masks hold, if their values are those of a table."""
        labels = getattr(self.source, "label_format", None)
        if not isinstance(labels, IndexLabels):
            return set()
        return {*np.flatnonzero(self.images[labels.entries] > 0).tolist()} & labels.valid

    def remarks(self) -> Iterator[Finding]:
        """Describe what is notable of the split's images."""
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


def _problems(parts: Mapping[Split, _Part]) -> Iterator[Finding]:
    """Describe what is wrong with files, in their order, and each cause once for all splits."""
    splits = {problem.file: split for split, part in parts.items() for _, problem in part.problems}
    total = sum(len(part.source) for part in parts.values())
    held = {value for part in parts.values() for value in part.values()}
    kinds: dict[str, list[tuple[str, UserError]]] = defaultdict(list)
    for part in parts.values():
        for _, (kind, file, error) in part.problems:
            kinds[kind].append((file, error))
    for kind, problems in kinds.items():
        noun = "masks" if kind in ("labels", "sizes") else "images"
        for error, files in grouped(problems, total, noun, held):
            those = [split for split in parts if split in {splits[file] for file in files}]
            found = Finding.of(error, kind, those, files)
            found.level = "warning" if kind == "damage" else "error"
            yield found


def _duplicates(parts: Mapping[Split, _Part]) -> Iterator[Finding]:
    """Find images of the same bytes: between splits they make the metrics too good."""
    groups: dict[int, list[tuple[Split, int]]] = defaultdict(list)
    for split, part in parts.items():
        for index, digest in enumerate(part.digests.tolist()):
            if digest:
                groups[digest].append((split, index))
    found: dict[tuple[Split, ...], list[list[str]]] = defaultdict(list)
    for places in groups.values():
        if len(places) > 1:
            files = [parts[split].file(index) for split, index in places]
            found[tuple(dict.fromkeys(split for split, _ in places))].append(files)
    for splits, groups_of_files in found.items():
        files = [file for files in groups_of_files for file in files]
        count = len(groups_of_files)
        same = "The same image" if count == 1 else f"{count:,} images are the same"
        if len(splits) > 1:
            said = f"{same} in {' and '.join(splits)}, which makes scores too good"
            yield Finding("warning", "duplicate", [*splits], f"{said}. Keep one of each.", files)
        else:
            several = f"{len(files)} times" if count == 1 else "as others"
            yield Finding(
                "note", "duplicate", [*splits], f"{same} {several} in {splits[0]}.", files
            )
