"""Pixel contrast without a memory bank: hard and easy anchors of each class against all others.

Wang et al., "Exploring Cross-Image Pixel Contrast for Semantic Segmentation", ICCV 2021,
arXiv 2101.11939.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast.interface import ContrastResult, Selection, SelectiveLoss
from pne_seg.contrast.pair_sampling import PixelSets, ranges


@dataclass(frozen=True)
class AnchorSelection(Selection):
    """The sampled anchors: their classes (T,), and of how many classes of an image they are."""

    classes: Tensor
    num_sets: int


class PixelContrastLoss(SelectiveLoss):
    """Pull pixels of a class together and push those of different classes apart.

    Of each class of an image with more than `max_views` pixels, the same number of pixels is
    drawn: half of them wrong ones (hard), half right ones (easy), more of the one if the other
    has too few. For an anchor a with the positives p (all other drawn pixels of its class, of any
    image) and the negatives n (the drawn pixels of other classes)::

        l_a = -τ/τ_base · mean_p log(exp s(a, p) / (exp s(a, p) + sum_n exp s(a, n)))

    with s = cosine similarity / τ. The loss is the mean over the anchors that have a positive.
    `num_pairs` counts the classes of images that were drawn from, `num_anchors` the drawn pixels.

    Args:
        temperature: τ > 0, divides the cosine similarity.
        base_temperature: τ_base > 0, divides the loss.
        max_samples: most anchors of a batch.
        max_views: most anchors of a class of an image; classes with no more pixels are left out.
        ignore_index: label to leave out, any integer.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        max_samples: int = 1024,
        max_views: int = 100,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        for name, value in (("temperature", temperature), ("base_temperature", base_temperature)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name, number in (("max_samples", max_samples), ("max_views", max_views)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.temperature = temperature
        self.base_temperature = base_temperature
        self.max_samples = max_samples
        self.max_views = max_views
        self.ignore_index = ignore_index

    def select(self, logits: Tensor, target: Tensor) -> AnchorSelection:
        """Draw the anchors, for logits (B, C, h, w) and int64 labels (B, h, w)."""
        wrong = logits.max(dim=1).indices != target
        sets = PixelSets.of(wrong, target, 2, logits.shape[1], self.ignore_index, shuffle_above=0)
        # Easy (0) and hard (1) pixels of each class of an image: where they begin, and how many.
        column = sets.key % 2
        found, row = (sets.key // 2).unique(return_inverse=True)
        first, size = torch.zeros(2, len(found), 2, dtype=torch.int64)
        first[row, column], size[row, column] = sets.first, sets.size
        large = size.sum(1) > self.max_views
        first, size = first[large][: self.max_samples], size[large][: self.max_samples]

        views = min(self.max_views, self.max_samples // max(1, len(size)))
        hard = torch.minimum(size[:, 1], (views - size[:, 0]).clamp(min=views // 2))
        count = torch.stack([views - hard, hard], dim=1).flatten()
        at = first.flatten().repeat_interleave(count) + ranges(count)
        pixels = sets.order[at.to(target.device, non_blocking=True)]
        return AnchorSelection(pixels, pixels[:0], target.flatten()[pixels], len(size))

    def score(
        self,
        varying: Tensor,
        constant: Tensor,  # noqa: ARG002  # empty
        selection: AnchorSelection,
    ) -> ContrastResult:
        """Compute the loss of the drawn pixels' embeddings (T, D), all of which vary."""
        z = varying.to(torch.promote_types(varying.dtype, torch.float32))
        with torch.autocast(z.device.type, enabled=False):
            z = F.normalize(z, dim=1)
            similarity = z @ z.T / self.temperature  # (T, T)
            same = selection.classes[:, None] == selection.classes
            lowest = torch.finfo(z.dtype).min
            negatives = similarity.masked_fill(same, lowest).logsumexp(1, keepdim=True)
            losses = torch.logaddexp(similarity, negatives) - similarity  # (T, T), a by p
            positive = same.to(z.dtype).fill_diagonal_(0)
            count = positive.sum(1)
            per_anchor = (positive * losses).sum(1) / count.clamp(min=1)
            total = per_anchor.sum() / count.count_nonzero().clamp(min=1)
        scale = self.temperature / self.base_temperature
        return ContrastResult.of(total * scale, selection.num_sets, len(varying))
