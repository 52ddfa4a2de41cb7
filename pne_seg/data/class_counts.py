"""How often each class occurs in a split, counted over all its labels, and what follows from it."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.strategies import Strategy
from rich.console import Console
from rich.progress import track
from torch import Tensor

from pne_seg.data.images import Pixels
from pne_seg.data.samples import SegmentationDataset
from pne_seg.errors import UserError

_RARE = 0.1  # of an equal share of the pixels
_MOST_NAMED = 5
_PUBLISHED, _ALIKE = 0.01, 0.5  # temperatures: of DAFormer, and where common classes count too
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """The labels of one split, before augmentation and at their own size."""

    pixels: Tensor  # (C,) int64 pixels of each class
    present: Tensor  # (N, C) bool, whether an image has any of them
    images: str  # changes when the images' names or their order do

    def expected_draws(self, temperature: float) -> Tensor:
        """Return how often each image is drawn in an epoch of N draws, (N,) float64.

        A draw takes class c with probability P(c) ∝ exp((1 − f_c) / temperature), f_c being its
        share of the labeled pixels, and then any of the n_c images that have it: image i is drawn
        N · Σ_c P(c) / n_c times, c over its classes. Classes without an image have P(c) = 0.

        Source: rare class sampling in DAFormer (Hoyer et al., CVPR 2022).
        """
        images = self.present.double().sum(0)  # n_c
        shares = self.pixels.double() / self.pixels.sum()
        exponents = ((1 - shares) / temperature).masked_fill(images == 0, -torch.inf)
        each = exponents.softmax(0) / images.clamp(min=1)
        return len(self.present) * (self.present.double() @ each)

    def state(self) -> dict[str, Any]:
        """Return the counts in types that a checkpoint holds."""
        return dict(vars(self))


def count_labels(labels: Pixels, file: str, num_classes: int, ignore_index: int) -> Counts:
    """Return the (256,) pixels of each label; a `UserError` names a label that is no class."""
    if labels.dtype != np.uint8:
        raise UserError(f"{file}: labels must be uint8, got {labels.dtype}.")
    counts = np.bincount(labels.ravel(), minlength=256)
    for value in np.flatnonzero(counts[num_classes:]) + num_classes:
        if value != ignore_index:
            raise UserError(
                f"{file}: label {value} ({counts[value]} pixels) is no class: valid are 0 to "
                f"{num_classes - 1} and {ignore_index}. Correct the labels."
            )
    return counts


def rare_classes(
    class_names: Sequence[str], pixels: Counts, images_with: Counts, images: int
) -> str | None:
    """Describe the classes that occur but are rare, and the settings for them; None without any.

    Rare is less than a tenth of the share that each class would have if all had the same.

    Args:
        class_names: C names.
        pixels: (C,) pixels of each class.
        images_with: (C,) images that have any of them.
        images: all images.
    """
    shares = pixels / max(1, int(pixels.sum()))
    rare = np.flatnonzero((shares > 0) & (shares < _RARE / len(shares)))
    if not len(rare):
        return None
    first = rare[np.argsort(shares[rare], kind="stable")][:_MOST_NAMED]
    named = ", ".join(f"{class_names[index]} {100 * shares[index]:.2g}%" for index in first)
    # At the lower temperature, images without a class of a few percent would hardly be drawn.
    drawn = images_with[(shares > 0) & (shares < 3 * _PUBLISHED)].max(initial=0)
    temperature = _PUBLISHED if drawn >= 0.9 * images else _ALIKE
    return (
        f"Classes are imbalanced, {len(rare)} of {len(shares)} are rare: {named}"
        f"{', …' if len(rare) > _MOST_NAMED else ''}. If they matter, weigh them more "
        "(--model.loss.class_weights auto) or draw their images more often "
        f"(--data.rare_class_sampling {temperature})."
    )


def names_digest(dataset: SegmentationDataset) -> str:
    """Return a text that changes when the images' names or their order do."""
    digest = hashlib.blake2b(digest_size=16)
    for index in range(len(dataset)):
        digest.update(dataset.name(index).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def count_classes(dataset: SegmentationDataset, num_classes: int, ignore_index: int) -> ClassCounts:
    """Read all labels of a split, in threads behind a progress bar, and count their classes."""

    def count(index: int) -> Counts:
        labels = dataset.read_labels(index)
        if labels is None:
            raise UserError(f"{dataset.name(index)} has no labels to count.")
        return count_labels(labels, dataset.name(index), num_classes, ignore_index)[:num_classes]

    pixels = np.zeros(num_classes, np.int64)
    present = np.zeros((len(dataset), num_classes), np.bool_)
    # Threads suffice: decoding releases the GIL. A fork would take along an accelerator's context.
    pool = ThreadPoolExecutor()
    try:
        counted = pool.map(count, range(len(dataset)))
        console = Console(stderr=True)
        bar = track(counted, "Counting classes", len(dataset), console=console)
        for index, counts in enumerate(bar):
            pixels += counts
            present[index] = counts > 0
    finally:
        pool.shutdown(cancel_futures=True)
    if not pixels.any():
        raise UserError(
            "The labels have no pixel of any class to count: all of them are ignored. Check them "
            "with check-data, or leave out class_weights and rare_class_sampling."
        )
    return ClassCounts(torch.from_numpy(pixels), torch.from_numpy(present), names_digest(dataset))


def count_once(strategy: Strategy | None, *args: Any) -> ClassCounts:
    """Count the classes in the first process and send them to the others; all must call it.

    `args` are those of `count_classes`.
    """
    if strategy is None:
        return count_classes(*args)
    found: ClassCounts | str = ""
    if strategy.is_global_zero:
        try:
            found = count_classes(*args)
        except UserError as error:  # the others would wait for the counts
            found = str(error)
    found = strategy.broadcast(found)
    if isinstance(found, str):
        raise UserError(found)
    return found


def draw(expected: Tensor, order: Sequence[int], generator: torch.Generator) -> list[int]:
    """Draw as many images as there are, each as often as expected, rounded up or down at random.

    Systematic resampling: marks at a distance of 1, from a random first one on, on a line where
    each image is as long as expected. The mean is exact, and the variance the least there is.
    """
    places = torch.tensor(order)
    places = places[expected[places] > 0]
    ends = expected[places].cumsum(0)
    count = len(expected)
    marks = torch.arange(count) + torch.rand((), dtype=torch.float64, generator=generator)
    found = torch.searchsorted(ends * (count / ends[-1]), marks, right=True)
    drawn = places[found.clamp(max=len(places) - 1)]
    shuffled: list[int] = drawn[torch.randperm(count, generator=generator)].tolist()
    return shuffled
