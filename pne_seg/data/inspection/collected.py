"""The results of a split as they come in, and what they say of it."""

from array import array
from collections.abc import Iterator, Mapping

import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.inspection.examiner import Examiner, Findings, Problem
from pne_seg.data.inspection.findings import Finding, Level, SplitFigures
from pne_seg.data.paired_files import PairedDataset, spread
from pne_seg.data.samples import SegmentationDataset

_PICTURES = 8  # what a mosaic shows
_NAMED = 5  # files in a message; a finding lists them all

_REMARKS: dict[str, tuple[Level, str]] = {
    "unlabeled": ("warning", "without a single labeled pixel: nothing to learn or to score."),
    "small": ("note", "smaller than the training crop of {crop}: padded in training."),
    "rotated": ("note", "turned or mirrored by EXIF data: read as displayed."),
    "grayscale": ("note", "grayscale: read as RGB with three equal channels."),
    "cmyk": ("note", "CMYK: converted to RGB."),
    "deep": ("note", "of more than 8 bits a channel: reduced to 8."),
    "transparent": ("note", "stored with transparency, which is dropped."),
}


class Collected:
    """What is known of a split's samples, in arrays that do not grow.

    Args:
        source: the split.
    """

    def __init__(self, source: SegmentationDataset) -> None:
        self.source = source
        self.sizes = np.zeros((len(source), 2), np.int32)
        self.digests = np.zeros(len(source), np.uint64)
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.problems: list[Problem] = []
        self.noted: dict[str, array[int]] = {}

    def add(self, found: Findings) -> None:
        """Take the results of some samples in."""
        place = slice(found.task.start, found.task.stop)
        self.sizes[place], self.digests[place] = found.sizes, found.digests
        self.pixels += found.pixels
        self.images += found.images
        self.problems += found.problems
        for index, kind in found.noted:
            self.noted.setdefault(kind, array("L")).append(index)

    def figures(self, data: SegmentationDataModule) -> SplitFigures:
        """The split's numbers."""
        wrong = [problem.sample for problem in self.problems]
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

    def findings(self, split: Split, examiner: Examiner) -> Iterator[Finding]:
        """Findings on the split's files, in their order."""
        for problem in sorted(self.problems):
            level: Level = "warning" if problem.kind == "damage" else "error"
            yield Finding(level, problem.kind, [split], problem.message, [problem.file])
        crop = "×".join(map(str, examiner.crop or ()))
        if examiner.resize_base:
            crop += f" (once fitted to {examiner.resize_base[0]}×{examiner.resize_base[1]})"
        for kind, (level, said) in _REMARKS.items():
            if files := [self.file(index) for index in sorted(self.noted.get(kind, ()))]:
                alone = len(files) == 1
                count = f"{len(files):,} {'image' if alone else 'images'}"
                message = f"{count} in {split} {'is' if alone else 'are'} {said.format(crop=crop)}"
                yield Finding(level, kind, [split], message, files)

    def file(self, index: int) -> str:
        """The image's file, or the sample's name where there is none."""
        if isinstance(self.source, PairedDataset):
            return str(self.source.pairs[index].image)
        return self.source.name(index)


def duplicates(collected: Mapping[Split, Collected]) -> Iterator[Finding]:
    """Images of the same bytes: between splits they make the scores too good."""
    if not collected:
        return
    splits = list(collected)
    digests = np.concatenate([part.digests for part in collected.values()])
    firsts = np.cumsum([0, *(len(part.digests) for part in collected.values())])
    order = np.argsort(digests, kind="stable")
    order = order[digests[order] != 0]
    starts = np.flatnonzero(np.diff(digests[order], prepend=np.uint64(0)))
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    for group in sorted(groups, key=lambda group: int(group[0])):
        places = np.searchsorted(firsts, group, side="right") - 1
        files = [
            collected[splits[place]].file(index)
            for place, index in zip(places.tolist(), (group - firsts[places]).tolist(), strict=True)
        ]
        found = [splits[place] for place in np.unique(places).tolist()]
        if len(found) > 1:
            said = f"The same image in {' and '.join(found)}, which makes scores too good"
            fix = "Keep it in one of them."
            level: Level = "warning"
        else:
            said, fix, level = f"The same image {len(files)} times in {found[0]}", "", "note"
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        message = f"{said}: {', '.join(files[:_NAMED])}{more}. {fix}".strip()
        yield Finding(level, "duplicate", found, message, files)
