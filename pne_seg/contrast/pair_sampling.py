"""Select anchors, positives and negatives: which wrong pixels are compared with which right ones.

Uses labels and predictions, neither embeddings nor logits: steps 3 to 5 of the Positive-Negative
Equal contrastive loss (Wang et al., arXiv 2207.01417).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Sampling = Literal["raster", "random"]
Scope = Literal["image", "batch"]


class PixelSets(NamedTuple):
    """The labeled pixels of a batch in sets of one image, label and trait, each set contiguous.

    Attributes:
        order: the pixels, image · h · w + row · w + column, on the device.
        key: (S,) of each set, (image · C + label) · num_traits + trait, ascending; on the CPU.
        first: (S,) where each set begins in `order`; on the CPU.
        size: (S,) how many pixels it has; on the CPU.
    """

    order: Tensor
    key: Tensor
    first: Tensor
    size: Tensor

    @classmethod
    def of(
        cls,
        trait: Tensor,
        target: Tensor,
        num_traits: int,
        num_classes: int,
        ignore_index: int,
        pooled: Tensor | None = None,
        shuffle_above: int | None = None,
    ) -> "PixelSets":
        """Sort pixels by (B, h, w) trait and label, each set in reading order.

        Two device synchronizations: the number of the sets, and their keys and sizes. The sets of
        `pooled` (B, h, w) pixels are those of the first image; sets of more than `shuffle_above`
        pixels are in random order.
        """
        image = torch.arange(len(target), device=target.device).view(-1, 1, 1)
        if pooled is not None:
            image = image.masked_fill(pooled, 0)
        unlabeled = len(target) * num_classes * num_traits  # above all keys; bad labels: one more
        key = (image * num_classes + target) * num_traits + trait
        key.masked_fill_((target < 0) | (target >= num_classes), unlabeled + 1)
        key = key.masked_fill_(target == ignore_index, unlabeled).flatten()

        ordered, order = key.sort(stable=True)
        keys, sizes = torch.unique_consecutive(ordered, return_counts=True)
        keys, sizes = torch.stack([keys, sizes]).cpu()
        if len(keys) and keys[-1] > unlabeled:
            found = set(target.flatten()[key > unlabeled].tolist())
            values = ", ".join(map(str, sorted(found)[:5]))
            raise ValueError(
                f"target holds labels outside 0..{num_classes - 1}, the {num_classes} channels of "
                f"the logits: {values}; map them to a class or to ignore_index={ignore_index}"
            )
        first = sizes.cumsum(0) - sizes
        if shuffle_above is not None:
            shuffle = torch.randperm(len(key), device=key.device)
            order = torch.cat([order, shuffle[key[shuffle].argsort(stable=True)]])
            first = first + len(key) * (sizes > shuffle_above)
        labeled = int((keys < unlabeled).sum())
        return cls(order, keys[:labeled], first[:labeled], sizes[:labeled])


@dataclass(frozen=True)
class Pairs:
    """The Q pairs of a batch, each with n sampled anchors, positives and negatives.

    The right pixels of a class are the positives and the negatives of many pairs. Each set is held
    once, with its distinct samples; `grid` repeats them up to n. The anchors of pair i are set i.
    No pixel is in two sets.

    Attributes:
        pixels: (P,) the sampled pixels, image · h · w + row · w + column; the M anchors first,
            then the others, both ascending.
        samples: (P,) index into `pixels`, set after set.
        first: (G,) where each set begins in `samples`; on the CPU, as all below.
        count: (G,) its distinct samples, at most n.
        positives: (Q,) the set of each pair's positives.
        negatives: (Q,) the set of each pair's negatives.
        num_samples: n.
        num_anchors: the anchors of all pairs before sampling.
    """

    pixels: Tensor
    samples: Tensor
    first: Tensor
    count: Tensor
    positives: Tensor
    negatives: Tensor
    num_samples: int
    num_anchors: int

    @property
    def num_pairs(self) -> int:
        """Q."""
        return len(self.positives)

    @property
    def num_sampled_anchors(self) -> int:
        """M, the distinct ones."""
        return int(self.count[: self.num_pairs].sum())

    def grid(self, sets: Tensor) -> Tensor:
        """Return (len(sets), n) indices into `pixels`: samples in order, repeated cyclically."""
        rank = torch.arange(self.num_samples) % self.count[sets, None]
        at = self.first[sets, None] + rank
        return self.samples[at.to(self.samples.device, non_blocking=True)]


@dataclass(frozen=True)
class PairSampler:
    """Pair wrong pixels with right ones.

    Per image and ordered pair of classes (j, k) present in its labels: the anchors are the
    pixels of class k predicted as j, the positives the right pixels of k, the negatives the right
    pixels of j (the anchors themselves if there are none). A pair counts if it has a positive
    and from `min_anchors` to `max_anchors` anchors. Each set is brought to `num_samples` pixels,
    repeated cyclically in reading order if it has fewer. The settings are those of `PNELoss`;
    "random" draws without replacement from the device's default generator, once per set and call.
    """

    num_samples: int = 100
    min_anchors: int = 0
    max_anchors: int = 199
    ignore_index: int = 255
    sampling: Sampling = "raster"
    scope: Scope = "image"

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        if not 0 <= self.min_anchors <= self.max_anchors:
            raise ValueError(
                "the gate needs 0 <= min_anchors <= max_anchors, got "
                f"min_anchors={self.min_anchors} and max_anchors={self.max_anchors}"
            )

    def __call__(self, prediction: Tensor, target: Tensor, num_classes: int) -> Pairs:
        """Select the pairs of a batch, for (B, h, w) int64 predictions and labels."""
        sets = PixelSets.of(
            prediction,
            target,
            num_traits=num_classes,
            num_classes=num_classes,
            ignore_index=self.ignore_index,
            # Right pixels of all images in one set per class.
            pooled=prediction == target if self.scope == "batch" else None,
            shuffle_above=self.num_samples if self.sampling == "random" else None,
        )
        anchors, positives, negatives = self._pair(sets, num_classes)

        # At most n pixels of each set that a pair uses.
        is_anchor = torch.zeros(len(sets.key), dtype=torch.bool)
        is_anchor[anchors] = True
        others = torch.cat([positives, negatives]).unique()
        used = torch.cat([anchors, others[~is_anchor[others]]])
        number = torch.empty(len(sets.key), dtype=torch.int64)
        number[used] = torch.arange(len(used))
        count = sets.size[used].clamp(max=self.num_samples)
        at = sets.first[used].repeat_interleave(count) + ranges(count)
        members = sets.order[at.to(sets.order.device, non_blocking=True)]

        # Pixels in memory order: reading their embeddings takes half the time of set by set.
        num_anchors = int(count[: len(anchors)].sum())
        pixels, samples = torch.empty_like(members), torch.empty_like(members)
        for part in (slice(num_anchors), slice(num_anchors, None)):
            seen = members.new_zeros(target.numel()).index_fill_(0, members[part], 1)
            rank = seen.cumsum(0)[members[part]] - 1
            samples[part] = rank + (part.start or 0)
            pixels[samples[part]] = members[part]
        return Pairs(
            pixels=pixels,
            samples=samples,
            first=count.cumsum(0) - count,
            count=count,
            positives=number[positives],
            negatives=number[negatives],
            num_samples=self.num_samples,
            num_anchors=int(sets.size[anchors].sum()),
        )

    def _pair(self, sets: PixelSets, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """Find the sets (Q,) of each pair that counts: anchors, positives and negatives."""
        keys, size = sets.key, sets.size
        label, prediction = keys // num_classes % num_classes, keys % num_classes
        home = keys // num_classes**2 if self.scope == "image" else torch.zeros_like(keys)
        positives, has_positives = _find(keys, (home * num_classes + label) * num_classes + label)
        wanted = (home * num_classes + prediction) * num_classes + prediction
        negatives, has_negatives = _find(keys, wanted)
        present = (home * num_classes + label).unique()
        _, predicted_is_present = _find(present, home * num_classes + prediction)
        counts = (label != prediction) & has_positives & predicted_is_present
        counts &= (size >= self.min_anchors) & (size <= self.max_anchors)

        (anchors,) = counts.nonzero(as_tuple=True)
        negatives = torch.where(has_negatives, negatives, torch.arange(len(keys)))
        return anchors, positives[anchors], negatives[anchors]


def ranges(lengths: Tensor) -> Tensor:
    """Concatenate 0 … length - 1 of each length."""
    first = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) - first.repeat_interleave(lengths)


def _find(ascending: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index of each wanted value, and whether it is there at all."""
    if not len(ascending):
        return wanted, torch.zeros_like(wanted, dtype=torch.bool)
    at = torch.searchsorted(ascending, wanted).clamp_(max=len(ascending) - 1)
    return at, ascending[at] == wanted
