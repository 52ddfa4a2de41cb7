"""Selection: which wrong pixels (anchors) meet which right ones (positives and negatives).

Knows labels and predictions, no embedding and no score. The rules are steps 3 to 5 of the
Positive-Negative Equal contrastive loss (Wang et al., arXiv 2207.01417).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Sampling = Literal["raster", "random"]
IntArray = npt.NDArray[np.int64]

# Meetings in one block, or n if that is more: large enough that the product outweighs the copy of
# the bank, small enough that a bank with few meetings is not mostly padding.
BLOCK_SIZE = 128


class Blocks(NamedTuple):
    """Meetings of an anchor with a bank, cut into equal blocks of one bank each.

    One batched product then serves all. Every anchor has two meetings, with its negatives and
    with its positives. A bank's last block is filled up with its last meeting.

    Attributes:
        anchors: (blocks, block size), index into the selection's anchors.
        positive: (blocks, block size), 1 where the bank holds the anchor's positives, else 0.
        bank: (blocks,), index into the selection's banks.
        place: (2, M), where each anchor's meeting with its negatives (0) and its positives (1)
            lies in the flattened ``anchors``.
    """

    anchors: Tensor
    positive: Tensor
    bank: Tensor
    place: Tensor


@dataclass(frozen=True)
class PairSelection:
    """Anchors and the pixels that they meet, without repetition where a count can stand in.

    Positives and negatives are right pixels of one class in one image, the same for all pairs of
    that class: they are held once, as a bank. Anchors that a pair repeats are held once, with
    the number of repetitions.

    Attributes:
        pixels: (P,) the pixels in use, ascending: image · h · w + row · w + column.
        anchors: (M,) the sampled anchors of all pairs, each once; index into ``pixels``.
        repeats: (M,) how often the pair's n samples hold the anchor.
        banks: (G, n) sampled members of a set of pixels; index into ``pixels``.
        blocks: which anchor meets which bank: its negatives are the bank of its predicted class,
            or of its own pair where the image has no right pixel of that class; its positives
            the bank of its true class.
        num_samples: n.
        num_pairs: Q, the counted pairs of the batch.
        num_anchors: the anchors of the counted pairs before sampling.
    """

    pixels: Tensor
    anchors: Tensor
    repeats: Tensor
    banks: Tensor
    blocks: Blocks
    num_samples: int
    num_pairs: int
    num_anchors: int


@dataclass(frozen=True)
class PairSelector:
    """Pairs wrong pixels with right ones.

    Per image and ordered pair of classes (j, k) present in its labels: the anchors are the
    pixels of class k predicted as j, the positives the right pixels of k, the negatives the right
    pixels of j (the anchors themselves where there are none). A pair counts if it has a positive
    and from ``min_anchors`` to ``max_anchors`` anchors. Each set is brought to ``num_samples``
    pixels, repeated cyclically in raster order where it has fewer.

    One stable sort by (image, label, prediction) lines the sets up. Their sizes go to the host
    (two device synchronisations: the number of sets, then the sets), which lays out the index
    arrays with NumPy and sends them back in one copy without a further synchronisation.

    Args:
        num_samples: n, pixels sampled from each set.
        min_anchors: fewest anchors of a pair that counts.
        max_anchors: most anchors of a pair that counts.
        ignore_index: label to leave out, any integer.
        sampling: of a set with more than n pixels, "raster" takes the first n row by row,
            "random" draws n without replacement from the device's default generator; one draw a
            set and call, shared by the pairs that meet the set.

    Raises:
        ValueError: a setting out of its range.
    """

    num_samples: int = 100
    min_anchors: int = 0
    max_anchors: int = 199
    ignore_index: int = 255
    sampling: Sampling = "raster"

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        if not 0 <= self.min_anchors <= self.max_anchors:
            raise ValueError(
                "the gate needs 0 <= min_anchors <= max_anchors, got "
                f"min_anchors={self.min_anchors} and max_anchors={self.max_anchors}"
            )
        if self.sampling not in ("raster", "random"):
            raise ValueError(f"sampling must be 'raster' or 'random', got {self.sampling!r}")

    def __call__(self, prediction: Tensor, target: Tensor, num_classes: int) -> PairSelection:
        """Select the pairs of a batch.

        Args:
            prediction: (B, h, w) int64 predicted classes.
            target: (B, h, w) int64 labels, of which ``ignore_index`` is left out.
            num_classes: C, both maps hold classes below it.

        Returns:
            The selection, its tensors int64 on the device of ``prediction``; empty if no pair
            counts.

        Raises:
            ValueError: a label outside 0 … C - 1 that is not ``ignore_index``. Noticed in the
                transfer that selection needs anyway.
        """
        batch = target.shape[0]
        image = torch.arange(batch, device=target.device).view(batch, 1, 1)
        key = (image * num_classes + target) * num_classes + prediction
        # Ignored pixels and bad labels sort behind all sets, the latter last.
        unlabelled = batch * num_classes * num_classes
        key.masked_fill_((target < 0) | (target >= num_classes), unlabelled + 1)
        key.masked_fill_(target == self.ignore_index, unlabelled)
        key = key.flatten()

        ordered, order = key.sort(stable=True)
        sets, sizes = torch.unique_consecutive(ordered, return_counts=True)
        sets_on_host, sizes_on_host = torch.stack([sets, sizes]).cpu().numpy()
        if len(sets_on_host) and sets_on_host[-1] > unlabelled:
            self._refuse_labels(target, num_classes)
        start = sizes_on_host.cumsum() - sizes_on_host
        if self.sampling == "random":
            # A second order, shuffled within each set, for the sets that are not taken whole.
            shuffle = torch.randperm(len(key), device=key.device)
            order = torch.cat([order, shuffle[key[shuffle].argsort(stable=True)]])
            start = start + len(key) * (sizes_on_host > self.num_samples)
        labelled = sets_on_host < unlabelled
        pairs = _Pairs.of_sets(
            sets_on_host[labelled],
            sizes_on_host[labelled],
            num_classes,
            gate=(self.min_anchors, self.max_anchors),
        )
        return self._lay_out(pairs, start, sizes_on_host, order, len(key))

    def _lay_out(
        self, pairs: "_Pairs", start: IntArray, size: IntArray, order: Tensor, num_pixels: int
    ) -> PairSelection:
        """Turn pairs of sets into index tensors; ``order[start + i]`` is a set's i-th pixel."""
        n = self.num_samples
        kept = np.minimum(size, n)  # distinct samples of each set
        distinct = kept[pairs.anchors]
        rank = _ranges(distinct)
        anchor_at = np.repeat(start[pairs.anchors], distinct) + rank
        per_pair = np.repeat(distinct, distinct)
        repeats = n // per_pair + (rank < n % per_pair)

        bank_sets, bank = np.unique(
            np.concatenate([pairs.negatives, pairs.positives]), return_inverse=True
        )
        bank_at = start[bank_sets, None] + np.arange(n) % kept[bank_sets, None]
        num_pixels_used = int(kept[np.union1d(pairs.anchors, bank_sets)].sum())

        arrays = [
            np.concatenate([anchor_at, bank_at.ravel()]),
            repeats,
            *_blocks(bank, distinct, max(BLOCK_SIZE, n)),
        ]
        # One copy; from pageable memory it is staged at once, so the device is not waited for.
        packed = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
        packed = packed.to(order.device, non_blocking=True)
        parts = torch.split(packed, [array.size for array in arrays])
        at, repeated, *blocks = (
            part.view(array.shape) for part, array in zip(parts, arrays, strict=True)
        )

        # Number the pixels in use by ascending position: reading and writing the embeddings in
        # the order of memory takes half the time of reading them set by set.
        member = order[at]
        used = torch.zeros(num_pixels, dtype=torch.int64, device=order.device)
        index = used.index_fill_(0, member, 1).cumsum(0)[member] - 1
        pixels = torch.empty(num_pixels_used, dtype=torch.int64, device=order.device)
        pixels[index] = member
        anchors, banks = torch.split(index, [len(anchor_at), bank_at.size])
        return PairSelection(
            pixels=pixels,
            anchors=anchors,
            repeats=repeated,
            banks=banks.view(bank_at.shape),
            blocks=Blocks(*blocks),
            num_samples=n,
            num_pairs=len(pairs.anchors),
            num_anchors=int(size[pairs.anchors].sum()),
        )

    def _refuse_labels(self, target: Tensor, num_classes: int) -> None:
        outside = ((target < 0) | (target >= num_classes)) & (target != self.ignore_index)
        values = ", ".join(str(value) for value in sorted(set(target[outside].tolist()))[:5])
        raise ValueError(
            f"target holds labels outside 0..{num_classes - 1}, the {num_classes} channels of the "
            f"logits: {values}; map them to a class or to ignore_index={self.ignore_index}"
        )


class _Pairs(NamedTuple):
    """The counted pairs, as indices into the sets: (Q,) each."""

    anchors: IntArray
    positives: IntArray
    negatives: IntArray

    @classmethod
    def of_sets(
        cls, sets: IntArray, sizes: IntArray, num_classes: int, gate: tuple[int, int]
    ) -> "_Pairs":
        """Pair the sets, given by ascending (image · C + label) · C + prediction and size."""
        image_label, prediction = np.divmod(sets, num_classes)
        image, label = np.divmod(image_label, num_classes)
        image_prediction = image * num_classes + prediction

        positives, has_positives = _find(sets, image_label * num_classes + label)
        negatives, has_negatives = _find(sets, image_prediction * num_classes + prediction)
        _, predicted_is_present = _find(np.unique(image_label), image_prediction)
        counts = (label != prediction) & has_positives & predicted_is_present
        counts &= (sizes >= gate[0]) & (sizes <= gate[1])

        anchors = np.flatnonzero(counts)
        negatives = np.where(has_negatives, negatives, np.arange(len(sets)))
        return cls(anchors, positives[anchors], negatives[anchors])


def _find(ascending: IntArray, wanted: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Where each wanted value lies, and whether it is there at all."""
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return at, ascending[at] == wanted


def _ranges(lengths: IntArray) -> IntArray:
    """0 … length - 1 for each length, one after the other."""
    first = lengths.cumsum() - lengths
    return np.arange(lengths.sum()) - np.repeat(first, lengths)


def _blocks(bank: IntArray, lengths: IntArray, size: int) -> tuple[IntArray, ...]:
    """The fields of :class:`Blocks`, of at most ``size``, for pairs with ``lengths`` anchors.

    ``bank`` (2Q,) holds the pairs' banks of negatives, then their banks of positives.
    """
    num_anchors = int(lengths.sum())
    lengths = np.tile(lengths, 2)  # meetings 0 … M - 1 are with negatives, M … 2M - 1 positives
    by_bank = np.argsort(bank, kind="stable")
    first = lengths.cumsum() - lengths
    meetings = np.repeat(first[by_bank], lengths[by_bank]) + _ranges(lengths[by_bank])

    count = np.bincount(bank, weights=lengths).astype(np.int64)  # meetings of each bank
    size = min(size, int(count.max(initial=1)))
    blocks = -(-count // size)
    bank_of_block = np.repeat(np.arange(len(count)), blocks)
    rank = _ranges(blocks)[:, None] * size + np.arange(size)
    rank = np.minimum(rank, count[bank_of_block, None] - 1)
    content = meetings[(count.cumsum() - count)[bank_of_block, None] + rank]

    place = np.empty_like(meetings)
    block_begin = (blocks.cumsum() - blocks) * size
    place[meetings] = np.repeat(block_begin, count) + _ranges(count)
    positive = content >= num_anchors
    return content - positive * num_anchors, positive, bank_of_block, place.reshape(2, -1)
