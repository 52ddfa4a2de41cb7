"""What a check of a data set comes to: figures of its splits, and findings."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pne_seg.data.base import Split

Level = Literal["error", "warning", "note"]
Counts = npt.NDArray[np.int64]


@dataclass
class Finding:
    """Something to say of the data.

    Attributes:
        level: `error`, `warning` or `note`.
        kind: groups what is alike: `split`, `image`, `labels`, `sizes`, `damage`, `duplicate`,
            `absent`, or a key of the remarks on images, such as `grayscale`.
        splits: which it is about.
        message: a sentence or two, with the fix where there is one.
        files: all files that it is about.
    """

    level: Level
    kind: str
    splits: list[Split]
    message: str
    files: list[str] = field(default_factory=list)


@dataclass
class SplitFigures:
    """What one split holds; files that cannot be read do not count.

    Attributes:
        images: number of images.
        labeled: whether there are labels.
        heights: least and largest height of an image in pixels; None where none can be read.
        widths: likewise.
        pixels: (C,) pixels of each class.
        images_with: (C,) images that have any of them.
        ignored: pixels without a class.
        good: at most eight images without errors, evenly over the split.
        same_as: the split that has the very same files by the data set's design.
    """

    images: int
    labeled: bool
    heights: tuple[int, int] | None
    widths: tuple[int, int] | None
    pixels: Counts
    images_with: Counts
    ignored: int
    good: list[int]
    same_as: Split | None = None

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """(C,) shares of the labeled pixels; zeros where there are none."""
        return self.pixels / max(1, int(self.pixels.sum()))

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that have no class."""
        return self.ignored / max(1, int(self.pixels.sum()) + self.ignored)


@dataclass
class Inspection:
    """What a check found.

    Attributes:
        data: name of the data set's class.
        root: where its files are, None where it has none.
        class_names: C names.
        splits: by name; None where one cannot be opened.
        findings: errors first, then warnings, then notes.
    """

    data: str
    root: str | None
    class_names: list[str]
    splits: dict[Split, SplitFigures | None]
    findings: list[Finding]

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def counted(self) -> dict[Split, SplitFigures]:
        """The splits that have labels of their own, at least one of them readable."""
        return {
            split: figures
            for split, figures in self.splits.items()
            if figures is not None and figures.same_as is None and figures.pixels.any()
        }
