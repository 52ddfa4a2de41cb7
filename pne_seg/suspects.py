"""Suspect labels: connected regions in which a confident network contradicts the label.

A pixel is suspect if it has a label and the network predicts another class, to which it gives a
probability of at least `min_confidence`. A region has suspect pixels of one label and one predicted
class, connected at sides or corners. Each of them lies in a square of `min_width` pixels full of
such pixels: rims along borders, where labels are a pixel or two off, are narrower and form none.

The score of a region is the sum of log p(predicted) − log p(label) over its pixels: how much more
likely, to the network, its own classes are than the labels.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.visualization.colors import Labels, Pixels
from pne_seg.visualization.mosaics import SuspectCrop, shrink

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 8
"""Suspects in a picture."""
_BOX = (480, 360)  # width and height that a larger crop is fitted into, pixels
_CONTEXT = 32  # pixels around a region, at least


@dataclass(frozen=True)
class SuspectSearch:
    """Where a test, or `check-data --run`, suspects a wrong label.

    Args:
        min_confidence: least probability of a prediction that contradicts the label.
        min_width: narrower strips are left out, such as rims along borders; in pixels.
        max_rows: regions that are listed, those with the highest score; 0 looks for none.
    """

    min_confidence: float = 0.9
    min_width: int = 5
    max_rows: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence must be from 0 to 1, got {self.min_confidence}.")
        if self.min_width < 1:
            raise ValueError(f"min_width must be 1 or more, got {self.min_width}.")
        if self.max_rows < 0:
            raise ValueError(f"max_rows must be 0 or more, got {self.max_rows}.")

    def regions(
        self,
        labels: Labels,
        predicted: Labels,
        log_probabilities: npt.NDArray[np.floating[Any]],
        ignore_index: int,
    ) -> "list[Region]":
        """Find the regions of an image.

        Args:
            labels: (H, W) class indices or the ignore value.
            predicted: (H, W) class indices.
            log_probabilities: (2, H, W), of the predicted class and of the label.
            ignore_index: the label that carries no class.
        """
        least = math.log(self.min_confidence) if self.min_confidence else -math.inf
        suspect = (predicted != labels) & (labels != ignore_index) & (log_probabilities[0] >= least)
        if not suspect.any():
            return []
        # One number for a label and a prediction; float32, which OpenCV's filters take.
        classes = int(predicted.max()) + 1
        pairs = np.where(suspect, labels.astype(np.float32) * classes + predicted + 1, 0)
        pairs = pairs.astype(np.float32)
        wide = self._wide(pairs)
        found = []
        for pair in np.unique(pairs[wide]):
            label, prediction = divmod(int(pair) - 1, classes)
            mask = ((pairs == pair) & wide).astype(np.uint8)
            left, top, width, height = cv2.boundingRect(mask)
            box = slice(top, top + height), slice(left, left + width)
            _, ids, stats, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=8)
            inside = ids > 0
            chosen, given = log_probabilities[(slice(None), *box)][:, inside].astype(np.float64)
            confidences, chances, scores = (
                np.bincount(ids[inside], values)
                for values in (np.exp(chosen), np.exp(given), chosen - given)
            )
            for number, (x, y, across, down, area) in list(enumerate(stats.tolist()))[1:]:
                found.append(
                    Region(
                        *(left + x, top + y, across, down, area, label, prediction),
                        confidence=float(confidences[number] / area),
                        label_probability=float(chances[number] / area),
                        score=float(scores[number]),
                        mask=ids[y : y + down, x : x + across] == number,
                    )
                )
        return found

    def _wide(self, pairs: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return the pixels that lie in a full square of one number other than 0."""
        square, middle = np.ones((self.min_width, self.min_width), np.uint8), self.min_width // 2
        # A square that reaches beyond the image is not full.
        lowest = cv2.erode(pairs, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        full = (lowest > 0) & (lowest == cv2.dilate(pairs, square))
        opposite = self.min_width - 1 - middle  # a square of even width has no middle
        return cv2.dilate(full.astype(np.uint8), square, anchor=(opposite, opposite)) > 0


@dataclass
class Region:
    """A region of an image, with its bounding box, in pixels of the labels."""

    x: int
    y: int
    width: int
    height: int
    pixels: int
    label: int
    predicted: int
    confidence: float  # mean probability of the predicted class
    label_probability: float  # mean probability of the label
    score: float
    mask: npt.NDArray[np.bool_] | None = None  # (height, width)


@dataclass
class Suspect:
    """A region with its image, of which only the worst are kept."""

    split: str
    image: str
    region: Region
    crop: SuspectCrop | None = None

    @property
    def order(self) -> tuple[Any, ...]:
        """The worst first; no two are equal."""
        region = self.region
        return -region.score, self.split, self.image, region.y, region.x, region.predicted


@dataclass
class WorstSuspects:
    """The worst suspects of any number of images, in bounded memory.

    Attributes:
        search: what counts as one, and how many are kept.
        class_names: names of the classes.
        ignore_index: the label that carries no class.
        shown: how many of the worst keep their pixels.
        suspects: those kept, the worst first.
        regions: number of all that were found, in `images` of the `seen` ones.
    """

    search: SuspectSearch
    class_names: Sequence[str]
    ignore_index: int
    shown: int = SHOWN
    suspects: list[Suspect] = field(default_factory=list)
    regions: int = 0
    images: int = 0
    seen: int = 0

    def add(
        self,
        split: str,
        name: str,
        image: "Tensor",
        labels: "Tensor",
        predicted: "Tensor",
        log_probabilities: "Tensor",
    ) -> None:
        """Look at an image.

        Args:
            split: of the image.
            name: of the image.
            image: (3, h, w) uint8; it is copied only for the worst.
            labels: (H, W) class indices or the ignore value.
            predicted: (H, W) class indices.
            log_probabilities: (2, H, W), of the predicted class and of the label.
        """
        given, said = labels.cpu().numpy(), predicted.short().cpu().numpy()
        chances = log_probabilities.cpu().numpy()
        regions = self.search.regions(given, said, chances, self.ignore_index)
        self.seen += 1
        self.images += bool(regions)
        self.regions += len(regions)
        new = [Suspect(split, name, region) for region in regions]
        self._keep([*self.suspects, *new])
        for suspect in self.suspects[: self.shown]:
            if suspect.region.mask is not None:
                pixels = image.permute(1, 2, 0).cpu().numpy()
                suspect.crop = _crop(pixels, given, said, suspect.region)
        for suspect in new:
            suspect.region.mask = None

    def merge(self, others: "Iterable[WorstSuspects]") -> None:
        """Take in those of other images."""
        for other in others:
            self._keep([*self.suspects, *other.suspects])
            self.regions += other.regions
            self.images += other.images
            self.seen += other.seen

    def _keep(self, suspects: Iterable[Suspect]) -> None:
        self.suspects = sorted(suspects, key=lambda one: one.order)[: self.search.max_rows]
        for suspect in self.suspects[self.shown :]:
            suspect.crop = None

    def crops(self) -> list[tuple[str, SuspectCrop]]:
        """Return the worst with a caption such as `1. a, car → road, 98%`."""
        return [
            (
                f"{rank}. {suspect.image}, {self._names(suspect)}, confidence "
                f"{100 * suspect.region.confidence:.0f}%",
                suspect.crop,
            )
            for rank, suspect in enumerate(self.suspects[: self.shown], 1)
            if suspect.crop is not None
        ]

    def table(self) -> bytes:
        """Return the rows of `suspects.csv`, the worst first."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(
            [
                *("rank", "split", "image", "x", "y", "width", "height", "pixels"),
                *("label", "predicted", "confidence", "label_probability", "score"),
            ]
        )
        for rank, suspect in enumerate(self.suspects, 1):
            region = suspect.region
            box = region.x, region.y, region.width, region.height, region.pixels
            names = [self.class_names[index] for index in (region.label, region.predicted)]
            chances = f"{region.confidence:.4f}", f"{region.label_probability:.3g}"
            where = rank, suspect.split, suspect.image
            rows.writerow([*where, *box, *names, *chances, f"{region.score:.1f}"])
        return text.getvalue().encode()

    def __str__(self) -> str:
        """Say how many there are, for the screen."""
        if not self.regions:
            return f"Suspect labels: none in {self.seen} images."
        listed = len(self.suspects)
        most = f"; the worst {listed} are listed" if listed < self.regions else ""
        regions = f"{self.regions} region{'s' * (self.regions != 1)}"
        return f"Suspect labels: {regions} in {self.images} of {self.seen} images{most}."

    def _names(self, suspect: Suspect) -> str:
        region = suspect.region
        return f"{self.class_names[region.label]} → {self.class_names[region.predicted]}"


def _crop(image: Pixels, labels: Labels, predicted: Labels, region: Region) -> SuspectCrop:
    """Copy a region with its surroundings."""
    assert region.mask is not None
    around = max(_CONTEXT, region.width // 2, region.height // 2)
    rows = slice(max(0, region.y - around), region.y + region.height + around)
    columns = slice(max(0, region.x - around), region.x + region.width + around)
    inside = np.zeros(labels.shape, np.uint8)
    own = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
    inside[own] = region.mask
    if image.shape[:2] != labels.shape:  # it was fitted to another size for the network
        image = np.asarray(cv2.resize(image, labels.shape[::-1]), np.uint8)
    parts = [part[rows, columns].copy() for part in (image, labels, predicted, inside)]
    height, width = parts[0].shape[:2]
    if width > _BOX[0] or height > _BOX[1]:
        parts = shrink(parts[0], *parts[1:], box=_BOX)
    return SuspectCrop(*parts)
