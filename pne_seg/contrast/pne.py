"""The PNE loss, term by term as its paper defines it, and InfoNCE on the same pairs.

Wang et al., "Positive-Negative Equal Contrastive Loss for Semantic Segmentation", arXiv 2207.01417.

| symbol           | here                                                       | shape          |
| ---------------- | ---------------------------------------------------------- | -------------- |
| Z                | embeddings; `z` of the P pixels that the pairs hold        | (B, D, h, w)   |
| S, Y             | `logits`, `target`                                         | (B, C, h, w) … |
| q                | confidence, the largest probability; its logarithm `log_q` | (P,)           |
| (j, k)           | a pair: pixels of class k predicted as j; Q in the batch   |                |
| A                | `anchors`: n pixels of class k predicted as j              | (Q, n)         |
| P, N             | `positives`, `negatives`: n right pixels of k, of j        | (Q, n)         |
| s(a, p), s(a, n) | `to_positives`, `to_negatives`: cosine similarity / τ      | (Q, n, n)      |
| ℓ_a              | `anchor_losses`                                            | (Q, n)         |
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast.fast import fast_pne
from pne_seg.contrast.interface import SHORTEST, ContrastResult, Selection, SelectiveLoss, take
from pne_seg.contrast.pair_sampling import Pairs, PairSampler, Sampling, Scope


@dataclass(frozen=True)
class PairSelection(Selection):
    """The sampled pairs, and log q (P,) of their pixels; None if all weights are 1."""

    pairs: Pairs
    log_q: Tensor | None


class PNELoss(SelectiveLoss):
    """Pull wrong pixels to right ones of their class, push them off those of the other class.

    For an anchor a (a pixel of class k predicted as j) with positives p (right pixels of k, of
    confidence q_p) and negatives n (right pixels of j), as many of the one as of the other::

        l_a = log(1 + sum_n exp s(a, n) / sum_p q_p exp s(a, p)),   s = cosine similarity / τ

    The loss is the mean of l_a over the n sampled anchors of the Q pairs, times the mean number
    of wrong pixels of a pair in units of n. Only anchors receive gradient; positives, negatives
    and all norms, the anchor's included, are constants. Computed in float32, or float64 if the
    embeddings are, also under autocast. Two device synchronizations, both in the selection.

    Args:
        temperature: τ > 0, divides the cosine similarity.
        num_samples: n, pixels sampled from each set of anchors, positives and negatives.
        min_anchors: fewest anchors of a pair that counts.
        max_anchors: most anchors of a pair that counts.
        ignore_index: label to leave out, any integer.
        sampling: "raster" takes the first n pixels row by row, as the authors; "random" draws n.
        weight_positives: weigh positives by their confidence q_p, as the authors; False weighs
            all by 1.
        scope: "image" takes positives and negatives from the anchor's image, as the authors;
            "batch" from all images.
        scale: "authors" multiplies by the mean number of wrong pixels of a pair over n, "none"
            does not. The factor grows with the images: at 64×64 it is about a tenth of that at
            512×1024.
        stop_gradient: "authors" holds positives, negatives and norms constant, "none" lets the
            gradient into all of them.
        implementation: "reference" is the definition in this file; "fast" the same rearranged
            (`pne_seg.contrast.fast`), whose gradient is not differentiable again.
            `stop_gradient="none"` always takes the reference.

    Example:
        >>> loss = PNELoss(temperature=0.5)
        >>> total = cross_entropy + 1.3 * loss(embeddings, logits, target)
    """

    def __init__(
        self,
        temperature: float = 1.0,
        num_samples: int = 100,
        min_anchors: int = 0,
        max_anchors: int = 199,
        ignore_index: int = 255,
        sampling: Sampling = "raster",
        weight_positives: bool = True,
        scope: Scope = "image",
        scale: Literal["authors", "none"] = "authors",
        stop_gradient: Literal["authors", "none"] = "authors",
        implementation: Literal["fast", "reference"] = "fast",
    ) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        for name, value, known in (
            ("sampling", sampling, ("raster", "random")),
            ("scope", scope, ("image", "batch")),
            ("scale", scale, ("authors", "none")),
            ("stop_gradient", stop_gradient, ("authors", "none")),
            ("implementation", implementation, ("fast", "reference")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
        self.temperature = temperature
        self.weight_positives = weight_positives
        self.scale = scale
        self.stop_gradient = stop_gradient
        self.implementation = implementation
        self.sampler = PairSampler(
            num_samples, min_anchors, max_anchors, ignore_index, sampling, scope
        )

    def select(self, logits: Tensor, target: Tensor) -> PairSelection:
        """Sample the pairs, for logits (B, C, h, w) and int64 labels (B, h, w)."""
        prediction = logits.max(dim=1).indices  # (B, h, w), the first class on ties
        pairs = self.sampler(prediction, target, logits.shape[1])
        anchors, others = pairs.pixels.tensor_split([pairs.num_sampled_anchors])
        log_q = None
        if self.weight_positives:
            taken = take(logits, others)  # (P - M, C): anchors are no positives
            taken = taken.to(torch.promote_types(taken.dtype, torch.float32))
            log_q = F.pad(taken.amax(1) - taken.logsumexp(1), (len(anchors), 0))  # (P,)
        if self.stop_gradient == "none":
            anchors, others = pairs.pixels, others[:0]
        return PairSelection(anchors, others, pairs, log_q)

    def score(self, varying: Tensor, constant: Tensor, selection: PairSelection) -> ContrastResult:
        """Compute the loss of the selected pixels: (M, D) that vary, (P - M, D) that do not."""
        pairs, log_q = selection.pairs, selection.log_q
        dtype = torch.promote_types(varying.dtype, torch.float32)
        varying, constant = varying.to(dtype), constant.to(dtype)
        log_q = None if log_q is None else log_q.to(dtype)
        with torch.autocast(varying.device.type, enabled=False):
            if not pairs.num_pairs:
                loss = varying.sum()  # empty: zero, and connected
            elif self._is_fast:
                loss = fast_pne(varying, constant, log_q, pairs, self.temperature)
            else:
                loss = self._definition(torch.cat([varying, constant]), log_q, pairs)
            if pairs.num_pairs and self.scale == "authors":
                loss = loss * (pairs.num_anchors / (pairs.num_pairs * pairs.num_samples))
        return ContrastResult.of(loss, pairs.num_pairs, pairs.num_anchors)

    def _definition(self, z: Tensor, log_q: Tensor | None, pairs: Pairs) -> Tensor:
        anchors = pairs.grid(torch.arange(pairs.num_pairs))  # (Q, n)
        positives = pairs.grid(pairs.positives)  # (Q, n)
        negatives = pairs.grid(pairs.negatives)  # (Q, n)

        norm = z.norm(dim=1, keepdim=True)  # (P, 1)
        z_constant = z
        if self.stop_gradient == "authors":
            norm, z_constant = norm.detach(), z.detach()
        unit = torch.where(norm < SHORTEST, 0, 1 / norm.clamp(min=SHORTEST))
        a = (z * unit)[anchors]  # (Q, n, D)
        p = (z_constant * unit)[positives]  # (Q, n, D)
        n = (z_constant * unit)[negatives]  # (Q, n, D)
        to_positives = a @ p.mT / self.temperature  # (Q, n, n), s(a, p)
        to_negatives = a @ n.mT / self.temperature  # (Q, n, n), s(a, n)

        weights = z.new_zeros(positives.shape) if log_q is None else log_q[positives]  # (Q, n)
        return self.anchor_losses(to_positives, to_negatives, weights[:, None]).mean()

    def anchor_losses(self, to_positives: Tensor, to_negatives: Tensor, log_q: Tensor) -> Tensor:
        """Compute ℓ_a (Q, n) of similarities (Q, n, n) and the positives' log q (Q, 1, n)."""
        # log(1 + N / P) = softplus(log N - log P), finite at any temperature.
        return F.softplus(to_negatives.logsumexp(2) - (to_positives + log_q).logsumexp(2))

    @property
    def _is_fast(self) -> bool:
        return self.implementation == "fast" and self.stop_gradient == "authors"

    @property
    def ignore_index(self) -> int:
        """The label that is left out; a data set may decide it after the loss is built."""
        return self.sampler.ignore_index

    @ignore_index.setter
    def ignore_index(self, label: int) -> None:
        self.sampler = replace(self.sampler, ignore_index=label)


class InfoNCELoss(PNELoss):
    """The supervised InfoNCE loss on the anchors, positives and negatives of `PNELoss`.

    One positive competes with all n negatives, while in PNE all positives compete at once::

        l_a = sum_p w_p log(1 + sum_n exp s(a, n) / exp s(a, p)),   w_p = q_p / sum_p' q_p'

    so that nothing but the balance of positives and negatives differs between the two. With
    `weight_positives=False` all w_p are 1/n (van den Oord et al., arXiv 1807.03748; the mean over
    positives outside the logarithm as in Khosla et al., NeurIPS 2020). Settings are those of
    `PNELoss`; the definition is the only implementation.
    """

    _is_fast = False

    def anchor_losses(self, to_positives: Tensor, to_negatives: Tensor, log_q: Tensor) -> Tensor:
        """Compute ℓ_a (Q, n) of similarities (Q, n, n) and the positives' log q (Q, 1, n)."""
        negatives = to_negatives.logsumexp(2, keepdim=True)  # (Q, n, 1)
        return (log_q.softmax(2) * F.softplus(negatives - to_positives)).sum(2)
