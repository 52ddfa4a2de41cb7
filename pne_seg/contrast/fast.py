"""The PNE loss rearranged: the same value and gradient as the definition, in less time and memory.

What is rearranged, and why:

- Many pairs share their positives or negatives (the right pixels of one class in one image), and
  repeat their anchors up to n. Each distinct anchor is compared once with its set of positives and
  once with its set of negatives, and weighed by its repetitions.
- The comparisons are sorted by the set, and cut into blocks of equal size. One batched product
  (blocks, block size, D) × (blocks, n, D) serves all, and reads each set once.
- Only anchors receive gradient, so it is written in closed form in the forward pass: no graph, no
  gradient for positives, negatives and norms.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast.interface import SHORTEST
from pne_seg.contrast.pair_sampling import Pairs, ranges

BLOCK_SIZE = 128
"""Comparisons of a block, or n if that is more: large enough that the product outweighs the copy of
the set, small enough that a set of few comparisons is not mostly padding."""


class Blocks(NamedTuple):
    """The 2M comparisons of anchors with sets, in equal blocks of one set each.

    A set's last block is filled up with its last comparison.

    Attributes:
        anchors: (blocks, block size), which of the M anchors.
        is_positive: (blocks, block size), 1 where the set holds the anchor's positives, else 0.
        sets: (blocks,), which row of the sets' samples.
        position: (2, M), where in the flattened `anchors` each anchor's comparison with its
            negatives (0) and its positives (1) lies.
        repeats: (M,) how often the pair's n samples hold the anchor.
    """

    anchors: Tensor
    is_positive: Tensor
    sets: Tensor
    position: Tensor
    repeats: Tensor


def fast_pne(
    anchors: Tensor, others: Tensor, log_q: Tensor | None, pairs: Pairs, temperature: float
) -> Tensor:
    """Compute the mean of ℓ_a over the sampled anchors of all pairs, at least one.

    Deterministic as far as batched products are: no step accumulates in an undefined order.
    `anchors` (M, D) are the embeddings of the first of `pairs.pixels`, float32 or float64, `others`
    (P - M, D) those of the rest; `log_q` (P,) is None to weigh all positives by 1.
    """
    return cast(Tensor, cast(Any, _Score.apply)(anchors, others, log_q, pairs, temperature))


class _Score(torch.autograd.Function):
    """The mean of l_a.

    With u = logsumexp_n s(a, n) - logsumexp_p (s(a, p) + log q_p), l_a = softplus(u), and since
    only z_a varies in s(a, x) = <z_a, x̂> / (|z_a| τ)::

        dl_a / dz_a = sigmoid(u) / (|z_a| τ) · (mean of n̂ - mean of p̂)

    with the means weighted by the softmax of u's two terms.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        others: Tensor,
        log_q: Tensor | None,
        pairs: Pairs,
        temperature: float,
    ) -> Tensor:
        sets, numbers = torch.cat([pairs.negatives, pairs.positives]).unique(return_inverse=True)
        blocks = _blocks(pairs, numbers, anchors.device)
        members = pairs.grid(sets)  # (sets, n)
        row = pairs.samples[: len(anchors)]  # (M,) where each anchor lies in memory

        vectors = anchors.new_empty(len(anchors) + len(others), anchors.shape[1])  # (P, D)
        scale = anchors.new_empty(len(vectors), 1)
        begin = 0
        for part in (anchors, others):
            rows = slice(begin, begin := begin + len(part))
            norm = torch.linalg.vector_norm(part, dim=1, keepdim=True)
            # With √τ in the scale, the product of two scaled vectors is their similarity.
            scale[rows] = norm.mul(temperature**0.5).reciprocal_().masked_fill_(norm < SHORTEST, 0)
            torch.mul(part, scale[rows], out=vectors[rows])

        # (blocks, block size, D) x (blocks, n, D)
        queries = _rows(vectors, row[blocks.anchors])
        keys = _rows(vectors, members).index_select(0, blocks.sets)
        similarity = torch.bmm(queries, keys.mT)
        if log_q is not None:
            log_weight = log_q[members].index_select(0, blocks.sets)
            is_positive = blocks.is_positive.to(similarity.dtype)
            similarity.addcmul_(log_weight[:, None], is_positive[..., None])
        peak = similarity.amax(2, keepdim=True)
        share = similarity.sub_(peak).exp_()
        total = share.sum(2, keepdim=True)
        to_negatives, to_positives = (peak + total.log()).flatten()[blocks.position]
        u = to_negatives - to_positives

        weight = blocks.repeats.to(u.dtype) / (pairs.num_pairs * pairs.num_samples)
        if ctx.needs_input_grad[0]:
            weighted = torch.bmm(share, keys, out=queries).flatten(0, 1)
            slope = weight * u.sigmoid() * scale[row, 0]
            slope = torch.stack([slope, -slope]) / total.flatten()[blocks.position]
            by_row = row.argsort()
            gradient = F.embedding_bag(  # a bag is an anchor's two comparisons
                blocks.position[:, by_row].T.contiguous(),
                weighted,
                per_sample_weights=slope[:, by_row].T.contiguous(),
                mode="sum",
            )
            ctx.save_for_backward(gradient)
        return (weight * F.softplus(u)).sum()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only under create_graph=True
            raise RuntimeError(
                "the gradient of PNELoss is not differentiable again: call backward or grad "
                "without create_graph=True, or give implementation='reference'"
            )
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None, None, None


def _rows(vectors: Tensor, index: Tensor) -> Tensor:
    """Return `vectors[index]` by row copies, faster than indexing on the CPU."""
    return vectors.index_select(0, index.flatten()).view(*index.shape, -1)


def _blocks(pairs: Pairs, sets: Tensor, device: torch.device) -> Blocks:
    """Lay the comparisons out on the host; `sets` (2Q,) are the pairs' negatives, then positives.

    One copy to the device, without waiting: memory that is not pinned is staged at once.
    """
    n = pairs.num_samples
    distinct = pairs.count[: pairs.num_pairs]
    num_anchors = int(distinct.sum())
    per_pair = distinct.repeat_interleave(distinct)
    repeats = n // per_pair + (ranges(distinct) < n % per_pair)

    lengths = distinct.tile(2)  # comparisons 0 … M - 1 are with negatives, M … 2M - 1 positives
    by_set = sets.argsort(stable=True)
    first = lengths.cumsum(0) - lengths
    sorted_lengths = lengths[by_set]
    comparisons = first[by_set].repeat_interleave(sorted_lengths) + ranges(sorted_lengths)

    count = torch.zeros(int(sets.max()) + 1, dtype=torch.int64).index_add_(0, sets, lengths)
    size = min(max(BLOCK_SIZE, n), int(count.max()))
    blocks = -(-count // size)
    set_of_block = torch.arange(len(count)).repeat_interleave(blocks)
    rank = ranges(blocks)[:, None] * size + torch.arange(size)
    rank = torch.minimum(rank, count[set_of_block, None] - 1)
    content = comparisons[(count.cumsum(0) - count)[set_of_block, None] + rank]

    position = torch.empty_like(comparisons)
    begin = (blocks.cumsum(0) - blocks) * size
    position[comparisons] = begin.repeat_interleave(count) + ranges(count)
    is_positive = content >= num_anchors
    parts = [
        content - is_positive * num_anchors,
        is_positive.long(),
        set_of_block,
        position.view(2, -1),
        repeats,
    ]
    packed = torch.cat([part.flatten() for part in parts]).to(device, non_blocking=True)
    split = packed.split([part.numel() for part in parts])
    return Blocks(*(values.view(part.shape) for values, part in zip(split, parts, strict=True)))
