"""Pixel-wise classification losses."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Mean cross-entropy over the labelled pixels; a zero with a gradient where there are none.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W) integers of any width.
        ignore_index: the label that carries no class.

    Returns:
        Scalar. `torch`'s own mean is NaN on an all-ignored batch; this is 0.
    """
    target = target.long()
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore_index, reduction="sum")
    return total / (target != ignore_index).sum().clamp(min=1)
