"""The interface of contrastive losses, called `loss(embeddings, logits, target)`."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

_Function = TypeVar("_Function", bound=Callable[..., Any])

SHORTEST = 1e-12
"""Vectors shorter than this have no direction: similarity 0, no gradient."""


def eager(function: _Function) -> _Function:
    """Keep a function whose sizes depend on the data out of compiled graphs.

    As `torch.compiler.disable` does, which loads the compiler: here at the first call.
    """
    disabled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return cast(_Function, call)


class ContrastResult(NamedTuple):
    """A contrastive loss and the counts that it is computed from.

    Attributes:
        loss: scalar, unweighted, float32 or float64, connected to the embeddings.
        num_pairs: scalar int64 on the embeddings' device, the contrasted pairs of the batch.
        num_anchors: the same, of the anchors of these pairs before sampling.
    """

    loss: Tensor
    num_pairs: Tensor
    num_anchors: Tensor

    @classmethod
    def of(cls, loss: Tensor, num_pairs: int, num_anchors: int) -> "ContrastResult":
        """Combine a loss with counts from the host, moved to its device."""
        pairs, anchors = (
            torch.full((), count, dtype=torch.int64, device=loss.device)
            for count in (num_pairs, num_anchors)
        )
        return cls(loss, pairs, anchors)


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

    def extra_repr(self) -> str:
        """Return the settings, for `print(loss)`."""
        settings = {k: v for k, v in vars(self).items() if k[0] != "_" and k != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


@dataclass(frozen=True)
class Selection:
    """The pixels that a loss reads, chosen before the embeddings are computed.

    Attributes:
        varying: (M,) those that receive gradient, image · h · w + row · w + column.
        constant: (P - M,) the others.
    """

    varying: Tensor
    constant: Tensor


class SelectiveLoss(ContrastiveLoss):
    """A loss that selects the pixels it reads, so that only their embeddings are computed."""

    def select(self, logits: Tensor, target: Tensor) -> Selection:
        """Choose the pixels, for logits (B, C, h, w) and int64 labels (B, h, w)."""
        raise NotImplementedError

    def score(self, varying: Tensor, constant: Tensor, selection: Any) -> ContrastResult:
        """Compute the loss of the selected pixels: (M, D) that vary, (P - M, D) that do not.

        Without a pair the loss is a zero with zero gradient.
        """
        raise NotImplementedError

    @eager
    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """Compute the loss with its counts; logits receive no gradient.

        Logits (B, C, h', w') and labels (B, H, W) are brought to the grid of the embeddings (B, D,
        h, w) by nearest neighbor.
        """
        selection = self.select(*prepare(embeddings, logits, target))
        varying = take(embeddings, selection.varying)
        return self.score(varying, take(embeddings.detach(), selection.constant), selection)


def prepare(embeddings: Tensor, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Check shapes, dtypes and devices, and resize to the embeddings' grid.

    Returns:
        Logits (B, C, h, w), detached and of unchanged dtype, and labels (B, h, w) as int64.
    """
    for name, tensor, layout in (
        ("embeddings", embeddings, ("B", "D", "h", "w")),
        ("logits", logits, ("B", "C", "h'", "w'")),
        ("target", target, ("B", "H", "W")),
    ):
        shape, images = tuple(tensor.shape), len(embeddings)
        if tensor.ndim != len(layout):
            raise ValueError(f"{name} must have the shape ({', '.join(layout)}), got {shape}")
        if 0 in shape[1:]:
            raise ValueError(f"{name} of shape {shape} hold no pixel or no channel")
        if shape[0] != images:
            raise ValueError(
                f"{name} hold {shape[0]} images and embeddings {images}: pass one batch"
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
    if target.is_floating_point() or target.dtype == torch.bool:
        raise ValueError(
            f"target must hold integer class labels, got {target.dtype}; convert with .long()"
        )
    size = embeddings.shape[2:]
    return resize_nearest(logits.detach(), size), resize_nearest(target, size).long()


def resize_nearest(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (..., H, W) to (..., h, w): source row floor(i · H / h), and so the columns.

    In integer arithmetic, since `F.interpolate` computes the index in floating point and is off by
    one for some sizes.
    """
    for dim, length in zip((-2, -1), size, strict=True):
        source = maps.shape[dim]
        if source != length:
            index = torch.arange(length, device=maps.device) * source // length
            maps = maps.index_select(dim, index)
    return maps


def take(maps: Tensor, pixels: Tensor) -> Tensor:
    """Return the vectors (P, channels) at `pixels` (P,) of maps (B, channels, h, w).

    The pixels are distinct, image · h · w + row · w + column; fastest where they ascend.
    """
    return cast(Tensor, cast(Any, _Take.apply)(maps, pixels))


class _Take(torch.autograd.Function):
    """Indexing whose backward writes instead of accumulating: no pixel comes twice."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, pixels: Tensor) -> Tensor:
        area = maps.shape[2] * maps.shape[3]
        image = pixels // area
        position = pixels - image * area
        ctx.save_for_backward(image, position)
        ctx.shape, ctx.dtype = maps.shape, maps.dtype
        contiguous = maps.is_contiguous()
        ctx.memory_format = torch.contiguous_format if contiguous else torch.channels_last
        return maps.flatten(2)[image, :, position]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        image, position = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        full = torch.empty(
            ctx.shape, dtype=ctx.dtype, device=gradient.device, memory_format=ctx.memory_format
        ).zero_()
        # Eight channels at a time: with all of them, planes a power of two apart evict each other
        # from the CPU's cache before neighboring pixels fill the line (ascending pixels: 3 times
        # as fast).
        chunk = math.gcd(channels, 8)
        shape = (len(image), channels // chunk, chunk)
        chunks = gradient.to(ctx.dtype).reshape(shape).transpose(0, 1).contiguous()
        planes = full.flatten(2).view(batch, channels // chunk, chunk, height * width)
        planes[image, :, :, position] = chunks.transpose(0, 1)
        return full, None
