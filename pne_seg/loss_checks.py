"""Check that a loss of any package can be trained with, on a few made-up pixels."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pne_seg.losses import ClassWeightedLoss

_SIDE = 16  # pixels


def check_loss(loss: nn.Module, num_classes: int, ignore_index: int) -> None:
    """Refuse a loss that takes other than (B, C, H, W) logits and (B, H, W) class indices.

    Raises:
        ValueError: if it is set to probabilities or to one channel per label, cannot be computed,
            or does not give one number with a gradient.
    """
    if isinstance(loss, ClassWeightedLoss):
        return
    kind = type(loss).__name__
    mode = getattr(loss, "mode", None)
    if mode in ("binary", "multilabel"):  # smp's words
        raise ValueError(
            f"{kind} has mode {mode!r}, but each pixel has one of {num_classes} classes here. Set "
            "mode='multiclass'."
        )
    if getattr(loss, "from_logits", True) is False:  # smp's word
        raise ValueError(
            f"{kind} has from_logits=False, but gets the network's logits. Leave from_logits out."
        )
    if isinstance(loss, nn.NLLLoss):
        raise ValueError(
            f"{kind} takes log-probabilities, but gets the network's logits. Use CrossEntropyLoss."
        )
    value = _computed(loss, num_classes, ignore_index)
    if not isinstance(value, Tensor):
        raise ValueError(f"{kind} gives {type(value).__name__}, expected a tensor of one number.")
    if value.numel() != 1:
        fix = " Set reduction='mean'." if hasattr(loss, "reduction") else " Let it give the mean."
        raise ValueError(f"{kind} gives {tuple(value.shape)} values, expected one number.{fix}")
    if not value.requires_grad:
        raise ValueError(
            f"{kind} gives a number without a gradient, so that nothing can be learned. Compute it "
            "from the logits by operations that have one."
        )


def _computed(loss: nn.Module, num_classes: int, ignore_index: int) -> Any:
    """Call a copy of the loss; neither it nor the random state changes."""
    target = torch.arange(2 * _SIDE * _SIDE).remainder(num_classes).view(2, _SIDE, _SIDE)
    target[:, 0] = ignore_index
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        logits = torch.randn(2, num_classes, _SIDE, _SIDE).requires_grad_()
        try:
            return copy.deepcopy(loss)(logits, target)
        except Exception as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            shapes = f"{tuple(logits.shape)} logits and {tuple(target.shape)} class indices"
            raise ValueError(
                f"{type(loss).__name__} cannot be computed of {shapes}: "
                f"{type(error).__name__}: {reason}. Correct its settings, or use another loss, "
                "such as smp's DiceLoss with mode='multiclass'."
            ) from error
