"""Metrics near the borders between classes, where the hard pixels are.

A pixel lies within d pixels of a border if a pixel of another class lies in the square of side
2d + 1 around it (its Chebyshev distance is d or less). Ignored pixels are no class: the rim of an
ignored region is no border, and a strip of them between two classes does not hide one. The metric
is the mean IoU of the pixels in a band along label borders (Kohli, Ladický and Torr, "Robust higher
order potentials for enforcing label consistency", IJCV 2009; the "trimap" of DeepLab's papers).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from pne_seg.metrics import SegmentationMetrics


def border_bins(target: Tensor, widths: Sequence[int], ignore_index: int) -> Tensor:
    """Bin the pixels of (B, H, W) class indices by the distance to the nearest other class.

    Returns:
        (B, H, W) int64: the index in `widths`, which ascend, of the least distance within which
        there is another class; their number if there is none. Undefined for ignored pixels.
    """
    ignored = target == ignore_index
    labels = target.to(torch.int16)
    limits = torch.iinfo(labels.dtype)
    highest, lowest = (labels.masked_fill(ignored, value) for value in (limits.min, limits.max))
    bins = torch.full_like(target, len(widths), dtype=torch.int64)
    reached = 0
    for index, width in enumerate(widths):
        # A square of squares: each continues from the last.
        highest, lowest = _highest(highest, width - reached), -_highest(-lowest, width - reached)
        reached = width
        near = (highest != lowest) & (bins == len(widths))
        bins = bins.masked_fill(near, index)
    return bins


def _highest(maps: Tensor, distance: int) -> Tensor:
    """Compute the highest value within a distance, along rows and then along columns.

    On the CPU `max_pool2d` takes ten times as long.
    """
    for axis in (-1, -2):
        found = maps.clone()
        for step in range(1, min(distance, maps.shape[axis] - 1) + 1):
            rest = maps.shape[axis] - step
            for here, there in ((0, step), (step, 0)):
                part = found.narrow(axis, here, rest)
                torch.maximum(part, maps.narrow(axis, there, rest), out=part)
        maps = found
    return maps


@dataclass(frozen=True)
class BoundaryMetrics:
    """Metrics of the pixels within each width of a border, in pixels, and of the others."""

    within: dict[int, SegmentationMetrics]
    beyond: SegmentationMetrics

    def as_dict(self, stage: str) -> dict[str, float]:
        """Return the mean IoUs by their logged names, such as `test/boundary_mIoU/3px`."""
        return {
            f"{stage}/boundary_mIoU/{width}px": metrics.miou
            for width, metrics in self.within.items()
        }


class BoundaryConfusion(Metric):
    """Counts of (label, prediction) by the distance to the nearest border, over a split.

    `update(prediction, target)` takes two (B, H, W) integer tensors. `compute()` gives
    (K + 1, C, C) int64 for K widths, rows the label, columns the prediction: the pixels within each
    width, those within a smaller one included, and at the end those farther than the last.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, ignore_index: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        if list(self.widths) != sorted({*self.widths}) or min(self.widths, default=1) < 1:
            raise ValueError(f"boundary_widths must rise from 1 or more, got {[*widths]}.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        shape = (len(self.widths) + 1, num_classes, num_classes)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch; nothing without widths."""
        if not self.widths:
            return
        labels = target.long()
        labeled = labels != self.ignore_index
        bins = border_bins(labels, self.widths, self.ignore_index)
        cells = (bins * self.num_classes + labels) * self.num_classes + prediction
        counted = torch.bincount(cells[labeled], minlength=self.counts.numel())
        self.counts += counted.view_as(self.counts)

    def compute(self) -> Tensor:
        """Return the counts within each width, and beyond the last."""
        return torch.cat([self.counts[:-1].cumsum(0), self.counts[-1:]])

    def metrics(self) -> BoundaryMetrics:
        """Compute the metrics of the counts."""
        *near, far = map(SegmentationMetrics.from_matrix, self.compute())
        return BoundaryMetrics(dict(zip(self.widths, near, strict=True)), far)
