"""One streamed confusion matrix, and the metrics computed from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix


class ConfusionMatrix(MulticlassConfusionMatrix):
    """Counts of (label, prediction), summed over every pixel of a split and over devices.

    `update(prediction, target)` takes integer tensors of equal shape and drops ignored labels.
    `compute()` gives (C, C) int64, rows the label, columns the prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        # Argument validation triples the cost of an update; labels are checked when they are read.
        super().__init__(num_classes, ignore_index=ignore_index, validate_args=False)


@dataclass(frozen=True)
class SegmentationMetrics:
    """Segmentation metrics as fractions of 1.

    mIoU and mAcc average over the classes that occur in the labels or the predictions; a class that
    occurs in neither is NaN ("n/a"), not 0. This equals mmsegmentation, and Cityscapes' official
    script if only its 19 classes are predicted.

    Attributes:
        miou: mean of `iou` over the classes that occur.
        macc: mean of `accuracy` over the classes that occur in the labels.
        pixel_accuracy: right pixels over all labeled pixels.
        iou: (C,) float64, intersection over union by class, NaN where absent.
        accuracy: (C,) float64, right pixels over the class's pixels, NaN where absent.
        pixel_share: (C,) float64, the class's share of the labeled pixels.
        matrix: (C, C) int64 on the CPU, rows the label, columns the prediction.
    """

    miou: float
    macc: float
    pixel_accuracy: float
    iou: Tensor
    accuracy: Tensor
    pixel_share: Tensor
    matrix: Tensor

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> "SegmentationMetrics":
        """Compute the metrics of a (C, C) count matrix; all NaN if nothing was counted."""
        matrix = matrix.detach().to("cpu", torch.int64)
        counts = matrix.double()
        right, labeled, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        iou = right / (labeled + predicted - right)  # 0 / 0 is NaN: an absent class
        accuracy = right / labeled
        return cls(
            miou=_mean(iou),
            macc=_mean(accuracy),
            pixel_accuracy=float(right.sum() / counts.sum()),
            iou=iou,
            accuracy=accuracy,
            pixel_share=labeled / counts.sum(),
            matrix=matrix,
        )

    @property
    def majority_miou(self) -> float:
        """The mIoU of always predicting the most frequent class: its pixel share, 0 for others."""
        present = int((self.pixel_share > 0).sum())
        return float(self.pixel_share.max()) / present if present else float("nan")

    def as_dict(self, stage: str, class_names: Sequence[str]) -> dict[str, float]:
        """Return the metrics by their logged names, such as `val/mIoU` and `val/IoU/road`."""
        named = {
            f"{stage}/mIoU": self.miou,
            f"{stage}/mAcc": self.macc,
            f"{stage}/pixel_accuracy": self.pixel_accuracy,
        }
        for name, value in zip(class_names, self.iou.tolist(), strict=True):
            named[f"{stage}/IoU/{name}"] = value
        return named


def _mean(values: Tensor) -> float:
    """Compute the mean of the values that are not NaN; NaN if all are."""
    found = values[~values.isnan()].numpy()
    return float(np.mean(found)) if len(found) else float("nan")


def percent(fraction: float | None) -> str:
    """Write `0.1234` as `12.34`, NaN and None as `n/a`."""
    return "n/a" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.2f}"
