"""Positive-Negative Equal contrastive loss: how anchors, positives and negatives are scored.

Source: Wang et al., "Positive-Negative Equal Contrastive Loss for Semantic Segmentation",
arXiv 2207.01417.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast.interface import ContrastiveLoss, ContrastResult, prepare
from pne_seg.contrast.pairs import PairSelection, PairSelector, Sampling

# Vectors shorter than this have no direction: similarity 0, no gradient.
_SHORTEST = 1e-12

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def _eager(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Keep a function out of compiled graphs, since its sizes depend on the data."""
    return cast(Callable[_Arguments, _Result], torch.compiler.disable(function))


class PNELoss(ContrastiveLoss):
    """Pulls wrong pixels to right ones of their class, pushes them off those of the other class.

    For an anchor a (a pixel of class k predicted as j) with positives p (right pixels of k, of
    confidence q_p) and negatives n (right pixels of j), as many of the one as of the other::

        l_a = log(1 + sum_n exp s(a, n) / sum_p q_p exp s(a, p)),   s = cosine similarity / τ

    The loss is the mean of l_a over the n sampled anchors of the Q pairs, times the mean number
    of wrong pixels of a pair in units of n. Only anchors receive gradient; positives, negatives
    and all norms, the anchor's included, are constants. :class:`~pne_seg.contrast.PairSelector`
    tells which pixels meet.

    Computed in float32, or float64 where the embeddings are, also under autocast. Two device
    synchronisations a call, both in the selection, none in the backward pass. Deterministic on
    the CPU, and on CUDA as far as batched products are (PyTorch's notes on reproducibility): no
    step accumulates in an order of its own. Memory grows with pairs · num_samples · D. The gradient
    is not differentiable again: ``create_graph=True`` raises a RuntimeError.

    Args:
        temperature: τ > 0, divides the cosine similarity.
        num_samples: n, pixels sampled from each set of anchors, positives and negatives.
        min_anchors: fewest anchors of a pair that counts.
        max_anchors: most anchors of a pair that counts.
        ignore_index: label to leave out, any integer.
        sampling: "raster" takes the first n pixels row by row, "random" draws n.
        weight_positives: weigh positives by their confidence q_p; False weighs all by 1.

    Raises:
        ValueError: a setting out of its range.

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
    ) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        self.temperature = temperature
        self.weight_positives = weight_positives
        self.select = PairSelector(num_samples, min_anchors, max_anchors, ignore_index, sampling)

    @property
    def ignore_index(self) -> int:
        """The label that is left out; a data set may decide it after the loss is built."""
        return self.select.ignore_index

    @ignore_index.setter
    def ignore_index(self, label: int) -> None:
        self.select = replace(self.select, ignore_index=label)

    def extra_repr(self) -> str:
        """The settings, for ``print(loss)``."""
        select = self.select
        return (
            f"temperature={self.temperature}, num_samples={select.num_samples}, "
            f"min_anchors={select.min_anchors}, max_anchors={select.max_anchors}, "
            f"ignore_index={select.ignore_index}, sampling={select.sampling!r}, "
            f"weight_positives={self.weight_positives}"
        )

    @_eager
    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """The loss with its statistics.

        Args:
            embeddings: (B, D, h, w), floating point; need not be normalised.
            logits: (B, C, h', w'), floating point. Brought to (h, w) by nearest neighbour; no
                gradient.
            target: (B, H, W), integer labels 0 … C - 1 or ``ignore_index``. Brought to (h, w) by
                nearest neighbour.

        Returns:
            The unweighted loss, the number of pairs and the number of anchors before sampling.
            Without a pair the loss is a zero with zero gradient, whatever the inputs hold.

        Raises:
            ValueError: shapes, dtypes or devices that do not fit together, or a label out of
                range among those that the resizing keeps.
        """
        logits, labels = prepare(embeddings, logits, target)
        # max gives the first class on ties, as argmax does, and is faster on the CPU.
        selection = self.select(logits.max(dim=1).indices, labels, logits.shape[1])
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            if selection.num_pairs == 0:
                # Summing nothing, as zero times the sum would be NaN on infinite embeddings.
                loss = embeddings[:0].sum(dtype=dtype)
            else:
                confidence = self._log_confidence(logits, selection, dtype)
                apply = cast(Any, _Score.apply)
                loss = apply(embeddings, confidence, selection, self.temperature)
        return ContrastResult(
            loss,
            torch.full((), selection.num_pairs, dtype=torch.int64, device=loss.device),
            torch.full((), selection.num_anchors, dtype=torch.int64, device=loss.device),
        )

    def _log_confidence(
        self, logits: Tensor, selection: PairSelection, dtype: torch.dtype
    ) -> Tensor | None:
        """log q of the banks' members, (G, n): the softmax is taken at these pixels only."""
        if not self.weight_positives:
            return None
        members = selection.pixels[selection.banks]
        scores = _take(logits, members.flatten())
        scores = scores.to(torch.promote_types(scores.dtype, dtype))
        return (scores.amax(1) - scores.logsumexp(1)).to(dtype).view(members.shape)


class _Score(torch.autograd.Function):
    """The loss of a selection.

    With u = logsumexp_n s(a, n) - logsumexp_p (s(a, p) + log q_p), l_a = softplus(u), and since
    only z_a varies in s(a, x) = <z_a, x̂> / (|z_a| τ)::

        dl_a / dz_a = sigmoid(u) / (|z_a| τ) · (mean of n̂ - mean of p̂)

    with the means weighted by the softmax of u's two terms.
    """

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        log_confidence: Tensor | None,
        selection: PairSelection,
        temperature: float,
    ) -> Tensor:
        anchors, blocks = selection.anchors, selection.blocks
        vectors = _take(embeddings, selection.pixels)
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        norm = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # With √τ in the scale, the product of two scaled vectors is their similarity.
        scale = norm.mul(temperature**0.5).reciprocal_().masked_fill_(norm < _SHORTEST, 0)
        vectors *= scale

        # Anchors against banks: (blocks, block size, D) x (blocks, n, D).
        queries = _rows(vectors, anchors[blocks.anchors])
        members = _rows(vectors, selection.banks).index_select(0, blocks.bank)
        similarity = torch.bmm(queries, members.mT)
        if log_confidence is not None:
            log_weight = log_confidence.index_select(0, blocks.bank)
            positive = blocks.positive.to(similarity.dtype)
            similarity.addcmul_(log_weight[:, None], positive[..., None])
        peak = similarity.amax(2, keepdim=True)
        share = similarity.sub_(peak).exp_()
        total = share.sum(2, keepdim=True)
        with_negatives, with_positives = (peak + total.log()).flatten()[blocks.place]
        score = with_negatives - with_positives

        sampled = selection.num_pairs * selection.num_samples
        weight = selection.repeats.to(score.dtype) * (selection.num_anchors / sampled**2)
        if ctx.needs_input_grad[0]:
            weighted = torch.bmm(share, members, out=queries).flatten(0, 1)
            slope = weight * score.sigmoid() * scale[anchors, 0]
            slope = torch.stack([slope, -slope]) / total.flatten()[blocks.place]
            # Pixels ascend, as _put likes it; a bag is an anchor's two meetings.
            ascending = anchors.argsort()
            gradient = F.embedding_bag(
                blocks.place[:, ascending].T.contiguous(),
                weighted,
                per_sample_weights=slope[:, ascending].T.contiguous(),
                mode="sum",
            )
            ctx.save_for_backward(gradient, selection.pixels[anchors[ascending]])
            ctx.shape, ctx.dtype = embeddings.shape, embeddings.dtype
            ctx.memory_format = (
                torch.contiguous_format if embeddings.is_contiguous() else torch.channels_last
            )
        return (weight * F.softplus(score)).sum()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only under create_graph=True
            raise RuntimeError(
                "the gradient of PNELoss is not differentiable again: "
                "call backward or grad without create_graph=True"
            )
        gradient, pixels = ctx.saved_tensors
        full = torch.empty(
            ctx.shape, dtype=ctx.dtype, device=gradient.device, memory_format=ctx.memory_format
        ).zero_()
        _put(full, pixels, (gradient * grad_loss).to(ctx.dtype))
        return full, None, None, None


def _rows(vectors: Tensor, index: Tensor) -> Tensor:
    """``vectors[index]`` for (P, D) and any index; row copies, faster than indexing on the CPU."""
    return vectors.index_select(0, index.flatten()).view(*index.shape, -1)


def _take(maps: Tensor, pixels: Tensor) -> Tensor:
    """The vectors (len(pixels), channels) at flat ``pixels`` of maps (B, channels, h, w)."""
    image, position = _split(pixels, maps)
    return maps.flatten(2)[image, :, position]


def _put(maps: Tensor, pixels: Tensor, vectors: Tensor) -> None:
    """Write vectors (len(pixels), channels) at flat ``pixels`` of maps (B, channels, h, w).

    The pixels are distinct: nothing is accumulated, so no result depends on an order.
    """
    image, position = _split(pixels, maps)
    # Eight channels at a time: with all of them, planes a power of two apart evict each other from
    # the CPU's cache before neighbouring pixels fill the line (ascending pixels: 3 times as fast).
    batch, channels, height, width = maps.shape
    chunk = math.gcd(channels, 8)
    chunks = vectors.view(len(pixels), -1, chunk).transpose(0, 1).contiguous()
    planes = maps.flatten(2).view(batch, -1, chunk, height * width)
    planes[image, :, :, position] = chunks.transpose(0, 1)


def _split(pixels: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Image and position within the image of flat pixels."""
    area = maps.shape[2] * maps.shape[3]
    image = pixels // area
    return image, pixels - image * area
