"""The interface of contrastive losses: arguments, result, selection of pixels.

A loss is called `loss(embeddings, logits, target)`; `prepare` checks the arguments and resizes
logits and labels to the embeddings' grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn

from pne_seg.contrast.gather import take

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

SHORTEST = 1e-12
"""Vectors shorter than this have no direction: similarity 0, no gradient."""

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def eager(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Keep a function out of compiled graphs, since its sizes depend on the data."""
    return cast(Callable[_Arguments, _Result], torch.compiler.disable(function))


class ContrastResult(NamedTuple):
    """A contrastive loss and the counts that it is computed from.

    Attributes:
        loss: scalar, unweighted, float32 or float64, connected to the embeddings.
        num_pairs: scalar int64 on the embeddings' device, the contrasted pairs of the batch.
        num_anchors: scalar int64 on the embeddings' device, the anchors of these pairs before
            sampling.
    """

    loss: Tensor
    num_pairs: Tensor
    num_anchors: Tensor

    @classmethod
    def of(cls, loss: Tensor, num_pairs: int, num_anchors: int) -> "ContrastResult":
        """Combine a loss with counts from the host, moved to its device."""
        counts = (num_pairs, num_anchors)
        return cls(
            loss, *(torch.full((), n, dtype=torch.int64, device=loss.device) for n in counts)
        )


class ContrastiveLoss(nn.Module):
    """A loss on embeddings that knows which pixels the network gets right and wrong.

    Subclasses implement `compute`; `loss(embeddings, logits, target)` returns only its loss.
    """

    ignore_index: int
    """The label that is left out; a data set may decide it after the loss is built."""

    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """Compute the loss with its counts, for (B, D, h, w), (B, C, h', w') and (B, H, W)."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Compute only the loss; arguments and errors as for `compute`."""
        return self.compute(embeddings, logits, target).loss


@dataclass(frozen=True)
class Selection:
    """The pixels that a loss reads, chosen before the embeddings are computed.

    Attributes:
        varying: (M,) those that receive gradient, image · h · w + row · w + column.
        constant: (P - M,) the others.
    """

    varying: Tensor
    constant: Tensor


SelectionT = TypeVar("SelectionT", bound=Selection)


class SelectiveLoss(ContrastiveLoss, Generic[SelectionT]):
    """A loss that reads the embeddings of selected pixels, so that only these are computed.

    Subclasses implement `select` and `score`.
    """

    def select(self, logits: Tensor, target: Tensor) -> SelectionT:
        """Choose the pixels, for logits (B, C, h, w) and int64 labels (B, h, w)."""
        raise NotImplementedError

    def score(self, varying: Tensor, constant: Tensor, selection: SelectionT) -> ContrastResult:
        """Compute the loss of the selected pixels: (M, D) that vary, (P - M, D) that do not.

        Without a pair the loss is a zero with zero gradient.
        """
        raise NotImplementedError

    @eager
    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """Compute the loss with its counts.

        Args:
            embeddings: (B, D, h, w), floating point; need not be normalized.
            logits: (B, C, h', w'), floating point. Brought to (h, w) by nearest neighbor; no
                gradient.
            target: (B, H, W), integer labels 0 … C - 1 or `ignore_index`. Brought to (h, w) by
                nearest neighbor.

        Returns:
            The unweighted loss, the number of pairs and the number of anchors before sampling.
            Without a pair the loss is a zero with zero gradient, whatever the inputs hold.

        Raises:
            ValueError: shapes, dtypes or devices do not agree, or a label that the resizing keeps
                is out of range.
        """
        logits, labels = prepare(embeddings, logits, target)
        selection = self.select(logits, labels)
        varying = take(embeddings, selection.varying)
        return self.score(varying, take(embeddings.detach(), selection.constant), selection)


def prepare(embeddings: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check the inputs and resize logits and labels to the embeddings' grid.

    Args:
        embeddings: (B, D, h, w), floating point.
        logits: (B, C, h', w'), floating point, of any resolution.
        target: (B, H, W), integer class labels of any resolution.

    Returns:
        Logits (B, C, h, w), detached and of unchanged dtype, and labels (B, h, w) as int64.

    Raises:
        ValueError: shapes, dtypes or devices do not agree. Checked without reading from the
            device.
    """
    for name, tensor, layout in (
        ("embeddings", embeddings, ("B", "D", "h", "w")),
        ("logits", logits, ("B", "C", "h'", "w'")),
        ("target", target, ("B", "H", "W")),
    ):
        if tensor.ndim != len(layout):
            raise ValueError(
                f"{name} must have the shape ({', '.join(layout)}), got {tuple(tensor.shape)}"
            )
        if 0 in tensor.shape[1:]:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)} hold no pixel or no channel")
        if tensor.shape[0] != embeddings.shape[0]:
            raise ValueError(
                f"{name} hold {tensor.shape[0]} images and embeddings {embeddings.shape[0]}: "
                "pass one batch"
            )
        if tensor.device != embeddings.device:
            raise ValueError(
                f"{name} are on {tensor.device} and embeddings on {embeddings.device}: "
                "move them to one device"
            )
        if name != "target" and not tensor.is_floating_point():
            raise ValueError(
                f"{name} must be floating point, got {tensor.dtype}; convert with .float()"
            )
    if target.dtype not in _INTEGERS:
        raise ValueError(
            f"target must hold integer class labels, got {target.dtype}; convert with .long()"
        )
    size = (embeddings.shape[2], embeddings.shape[3])
    return resize_nearest(logits.detach(), size), resize_nearest(target, size).long()


def resize_nearest(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (..., H, W) to (..., h, w): source row floor(i · H / h), and columns likewise.

    In integer arithmetic, since `F.interpolate` computes the index in floating point and is off by
    one for some sizes. Returns the input itself if it has the size already.
    """
    for dim, length in zip((-2, -1), size, strict=True):
        source = maps.shape[dim]
        if source != length:
            index = torch.arange(length, device=maps.device) * source // length
            maps = maps.index_select(dim, index)
    return maps
