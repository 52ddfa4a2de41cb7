"""Swin's blocks as published: a map is padded to whole windows before they are shifted."""

from typing import Any

import torch.nn.functional as F
from timm.models import swin_transformer, swin_transformer_v2
from torch import Tensor, nn


class _PadThenShift:
    """Pad in `_attn`, before timm's shift and its padding, which then adds nothing.

    timm shifts first and pads afterwards (https://github.com/huggingface/pytorch-image-models
    issue 2438), so that on a map that is no multiple of the window its windows are not the
    published network's and opposite borders attend to each other.
    """

    window_size: tuple[int, int]

    def _attn(self, x: Tensor) -> Tensor:
        """Compute attention within windows, (B, H, W, C) to the same shape."""
        height, width = x.shape[1:3]
        below, right = -height % self.window_size[0], -width % self.window_size[1]
        padded = F.pad(x, (0, 0, 0, right, 0, below))
        mixed: Tensor = super()._attn(padded)[:, :height, :width]  # type: ignore[misc]
        return mixed


class SwinBlock(_PadThenShift, swin_transformer.SwinTransformerBlock):
    """timm's Swin block with the published windows on maps of any size."""


class SwinV2Block(_PadThenShift, swin_transformer_v2.SwinTransformerV2Block):
    """timm's Swin V2 block with the published windows on maps of any size."""


_PUBLISHED: dict[type[Any], type[nn.Module]] = {
    swin_transformer.SwinTransformerBlock: SwinBlock,
    swin_transformer_v2.SwinTransformerV2Block: SwinV2Block,
}


def pad_before_shift(encoder: nn.Module) -> None:
    """Replace timm's blocks by the published ones; parameters and their names stay.

    Args:
        encoder: newly built, of any kind; changed in place. timm's classes stay as they are.
    """
    for block in encoder.modules():
        if type(block) in _PUBLISHED:
            # The instance was built here and is not in use yet: only its `_attn` changes.
            block.__class__ = _PUBLISHED[type(block)]
