"""Pixel-wise classification losses.

Each is called `loss(logits, target)`, as are those of `segmentation_models_pytorch.losses` (with
`mode: multiclass`) and `torch.nn.CrossEntropyLoss`, which serve as well.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pne_seg.errors import UserError


def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Compute the mean cross-entropy over the labeled pixels; 0, with a gradient, if none."""
    target = target.long()
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore_index, reduction="sum")
    return total / (target != ignore_index).sum().clamp(min=1)


_POWER = 0.5
ClassWeights = Sequence[float] | Literal["auto"] | None


def balanced_class_weights(pixels: Tensor, power: float = _POWER) -> Tensor:
    """Return weights w_c = f_c^−p / Σ_k f_k^(1−p), (C,) float32: the rarer a class, the larger.

    f_c is the class's share of the labeled pixels, so that the mean weight of a labeled pixel is 1
    and a loss keeps its size. A class without a pixel gets 1: no training pixel has that weight.

    Args:
        pixels: (C,) pixels of each class, at least one of them above 0.
        power: p; 0 gives all classes the weight 1, 1 the same share of the loss, 0.5 is between.
    """
    shares = pixels.double() / pixels.sum()
    weights = torch.where(shares > 0, shares.clamp(min=torch.finfo(torch.double).tiny) ** -power, 0)
    weights = weights / (shares * weights).sum()
    return torch.where(shares > 0, weights, 1).float()


class ClassWeightedLoss(nn.Module):
    """Base of the losses here, called with (B, C, H, W) logits and (B, H, W) integer labels.

    They return a float32 scalar; a zero with a zero gradient if no pixel counts.

    Attributes:
        name: logged as `train/loss_<name>`.
        ignore_index: the label that carries no class; the data decides it (`set_ignore_index`).
        class_weights: (C,) float32, or None. Part of the configuration, not of the state dict.
        automatic: whether `class_weights` come from the training labels.

    Args:
        class_weights: C numbers, "auto" for those of `balanced_class_weights`, or None for 1 each.
        class_weight_power: p of the automatic weights, 0 to 1.
    """

    name: str
    ignore_index: int = 255
    class_weights: Tensor | None

    def __init__(self, class_weights: ClassWeights, class_weight_power: float = _POWER) -> None:
        super().__init__()
        self.automatic = isinstance(class_weights, str)
        self.power = class_weight_power
        self.class_weights = None
        if not 0 <= class_weight_power <= 1:
            raise ValueError(
                f"class_weight_power must be 0 to 1, got {class_weight_power}: at 0 all weights "
                "are 1, at 1 all classes have the same part in the loss."
            )
        if isinstance(class_weights, str):
            if class_weights != "auto":
                raise ValueError(
                    "class_weights must be 'auto' or one number for each class, "
                    f"got {class_weights!r}."
                )
            return
        if class_weight_power != _POWER:
            raise ValueError("class_weight_power is for class_weights='auto'. Set that, too.")
        if class_weights is not None:
            try:
                class_weights = [float(each) for each in class_weights]
            except (TypeError, ValueError) as error:
                raise ValueError(
                    "class_weights must be 'auto' or one number for each class, "
                    f"got {class_weights!r}."
                ) from error
            if not any(class_weights) or not all(0 <= each < math.inf for each in class_weights):
                raise ValueError(
                    "class_weights must be finite and 0 or more, at least one of them above 0; "
                    f"got {list(class_weights)}."
                )
            self.class_weights = torch.tensor(class_weights, dtype=torch.float32)

    def weigh_classes(self, pixels: Tensor) -> None:
        """Set the weights that "auto" stands for; a training with a data module does it.

        Args:
            pixels: (C,) pixels of each class in the training labels.
        """
        self.class_weights = balanced_class_weights(pixels, self.power)

    def _weights_for(self, logits: Tensor) -> Tensor | None:
        """Return the class weights on the logits' device if their number fits."""
        if self.class_weights is None:
            if self.automatic:
                raise UserError(
                    "class_weights is 'auto', but the classes were not counted: call "
                    "weigh_classes(pixels) first, or train with a data module, which counts them."
                )
            return None
        check_class_weights(self, logits.shape[1])
        self.class_weights = self.class_weights.to(logits.device)  # moved once
        return self.class_weights


class CrossEntropy(ClassWeightedLoss):
    """Mean cross-entropy, optionally weighted by class.

    Args:
        average: what the sum of w·ce over the labeled pixels is divided by: "labeled", the sum of
            their weights (as `torch` does it); "all", the number of all pixels, ignored ones
            included (as mmsegmentation does it), which weakens sparsely labeled crops.
        class_weights: w, C numbers, or "auto": from the training labels, see
            `balanced_class_weights`. 1 each by default.
        class_weight_power: p of the automatic weights, 0 to 1: the higher, the more they differ.
    """

    name = "ce"

    def __init__(
        self,
        average: Literal["labeled", "all"] = "labeled",
        class_weights: ClassWeights = None,
        class_weight_power: float = _POWER,
    ) -> None:
        super().__init__(class_weights, class_weight_power)
        if average not in ("labeled", "all"):
            raise ValueError(f"average must be 'labeled' or 'all', got {average!r}.")
        self.average = average

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch."""
        weights = self._weights_for(logits)
        if weights is None and self.average == "labeled":
            return cross_entropy(logits, target, self.ignore_index)
        target = target.long()
        total = F.cross_entropy(
            logits.float(), target, weights, ignore_index=self.ignore_index, reduction="sum"
        )
        if weights is None or self.average == "all":
            return total / target.numel()
        labeled = target != self.ignore_index
        return _ratio(total, _pixel_weights(weights, target, labeled).sum())


class OHEMCrossEntropy(ClassWeightedLoss):
    """Cross-entropy of the hard pixels: online hard example mining.

    A labeled pixel counts if the probability of its own class is below `threshold`, or if it is
    among the `min_kept` labeled pixels of the batch with the lowest (ties are broken arbitrarily).
    The loss is the mean over these, Σ w·ce / Σ w. Which pixels count is a constant: only the
    cross-entropy of those that do has a gradient. No device synchronization.

    Source: the segmentation code of HRNet and OCRNet (`OhemCrossEntropy`), which keeps at least
    131,072 pixels per device at a threshold of 0.9.

    Args:
        threshold: probability from which a pixel is easy, 0 to 1; 0 selects by
            `min_kept` only.
        min_kept: fewest pixels to count in a device's batch; all if there are fewer.
        class_weights: w, C numbers, or "auto": from the training labels, see
            `balanced_class_weights`. 1 each by default. They do not change the selection.
        class_weight_power: p of the automatic weights, 0 to 1: the higher, the more they differ.
    """

    name = "ohem"

    def __init__(
        self,
        threshold: float = 0.9,
        min_kept: int = 131072,
        class_weights: ClassWeights = None,
        class_weight_power: float = _POWER,
    ) -> None:
        super().__init__(class_weights, class_weight_power)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is a probability, 0 to 1; got {threshold}.")
        if min_kept < 1:
            raise ValueError(f"min_kept must be 1 or more, got {min_kept}.")
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a batch."""
        weights = self._weights_for(logits)
        target = target.long()
        ce = F.cross_entropy(
            logits.float(), target, ignore_index=self.ignore_index, reduction="none"
        )
        labeled = target != self.ignore_index
        kept = self._select(ce.detach(), labeled)
        share = kept.float() if weights is None else _pixel_weights(weights, target, kept)
        return _ratio((ce * share).sum(), share.sum())

    def _select(self, ce: Tensor, labeled: Tensor) -> Tensor:
        """Select the pixels that count, (B, H, W) bool: the lower p, the higher −log p."""
        easy = -math.log(self.threshold) if self.threshold > 0 else math.inf
        kept = (ce > easy).flatten()
        # The cross-entropy is 0 or more: below it, ignored pixels come last, and are taken out.
        ranked = ce.masked_fill(~labeled, -1).flatten()
        hardest = ranked.topk(min(self.min_kept, ranked.numel()), sorted=False).indices
        return kept.scatter(0, hardest, True).view_as(labeled) & labeled


def _pixel_weights(weights: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Return the (B, H, W) weight of each pixel's class, 0 where it does not count."""
    classes = target.where(counted, 0)  # the ignore value is no index
    return weights[classes] * counted


def _ratio(total: Tensor, weight: Tensor) -> Tensor:
    """Divide total by weight; return the total, then a zero, if the weight is 0."""
    return total / torch.where(weight > 0, weight, 1)


def check_class_weights(loss: nn.Module, num_classes: int) -> None:
    """Refuse class weights for another number of classes; other losses have none to check."""
    weights = loss.class_weights if isinstance(loss, ClassWeightedLoss) else None
    if weights is not None and len(weights) != num_classes:
        raise UserError(
            f"{type(loss).__name__} has {len(weights)} class weights for {num_classes} classes: "
            "give class_weights one number for each class, in the data's order."
        )
