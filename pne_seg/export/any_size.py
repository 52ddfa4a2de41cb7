"""Layers rewritten so that a graph of them is valid for any image size.

Each returns what the layer that it replaces returns, up to rounding. A traced graph keeps sizes as
expressions, and these layers do without what cannot be kept: bins that depend on the size
(adaptive pooling), fractions of sizes (timm's padding to the same size), comparisons of sizes
(windows).
"""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.models import swin_transformer, swin_transformer_v2
from torch import Tensor, nn

from pne_seg.networks.encoders import SwinBlock, SwinV2Block

_SWIN_BLOCKS = (
    *(swin_transformer.SwinTransformerBlock, SwinBlock),
    *(swin_transformer_v2.SwinTransformerV2Block, SwinV2Block),
)
_PATCH_MERGINGS = (swin_transformer.PatchMerging, swin_transformer_v2.PatchMerging)


def for_any_size(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which the layers that fix a graph's size are replaced."""
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        replacement = _replacement(layer)
        if replacement is not None:
            network.set_submodule(name, replacement)
    return network.eval()


def _replacement(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        size = layer.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        if height is None or width is None or height == width == 1:
            return None  # as wide as the image, or its mean: no bins
        return MatrixPooling(height, width)
    if type(layer) in _SWIN_BLOCKS and layer.always_partition and layer.dynamic_mask:
        return AnySizeSwinBlock(layer)
    if type(layer) in _PATCH_MERGINGS:
        return EvenPatchMerging(layer)
    if type(layer) in (Conv2dSame, AvgPool2dSame, MaxPool2dSame):
        return SamePadded(layer)
    return None


class MatrixPooling(nn.Module):
    """`AdaptiveAvgPool2d` as products with two matrices, computed for the size at hand."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, H, W) → (B, D, `height`, `width`)."""
        rows = _bins(images, images.shape[-2], self.height)
        columns = _bins(images, images.shape[-1], self.width)
        return rows @ images @ columns.T


def _bins(like: Tensor, size: int, count: int) -> Tensor:
    """(`count`, `size`): row i is the mean over pixels ⌊i·size/count⌋ to ⌈(i+1)·size/count⌉ − 1."""
    index = torch.arange(count, device=like.device).unsqueeze(1)
    pixel = torch.arange(size, device=like.device)
    first = (index * size) // count
    end = ((index + 1) * size + count - 1) // count
    inside = (pixel >= first) & (pixel < end)
    return inside.to(like.dtype) / (end - first)


class SamePadded(nn.Module):
    """A `Same` layer of timm's, whose weights are shared, padded in whole numbers."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.value = -math.inf if isinstance(layer, MaxPool2dSame) else 0.0
        # The class of torch that timm's is derived from, which does not pad.
        self.unpadded: Any = type(layer).__base__

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) → (B, D′, ⌈H / stride⌉, ⌈W / stride⌉)."""
        above, below = self._border(x.shape[-2], 0)
        left, right = self._border(x.shape[-1], 1)
        padded = F.pad(x, (left, right, above, below), value=self.value)
        result: Tensor = self.unpadded.forward(self.layer, padded)
        return result

    def _border(self, size: int, axis: int) -> tuple[int, int]:
        stride = self.layer.stride[axis]
        dilation = getattr(self.layer, "dilation", (1, 1))[axis]
        reach = (self.layer.kernel_size[axis] - 1) * dilation + 1
        missing = (size + stride - 1) // stride * stride - size + (reach - stride)
        if reach < stride:  # else it is never below 0, and the expression stays simpler
            missing = torch.sym_max(missing, 0)
        return missing // 2, missing - missing // 2


class EvenPatchMerging(nn.Module):
    """timm's `PatchMerging` for even sides, which those of a multiple of 32 pixels are."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        layers = [layer.norm, layer.reduction]
        if isinstance(layer, swin_transformer_v2.PatchMerging):  # normalizes last
            layers.reverse()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H/2, W/2, D)."""
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        merged: Tensor = self.layers(x.permute(0, 1, 3, 4, 2, 5).flatten(3))
        return merged


class AnySizeSwinBlock(nn.Module):
    """A Swin block, V2 too, in eval mode, that gathers its windows by indices.

    Padding, shifting and cutting are one gathering of rows and one of columns each way. There are
    two windows or more along each side (a second may hold only padding), because the size of a
    single one would be compared with 1 throughout.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn = block.norm1, block.attn
        self.norm2, self.mlp = block.norm2, block.mlp
        self.window_size: tuple[int, int] = block.window_size
        self.shift_size: tuple[int, int] = block.shift_size
        self.pads_first = isinstance(block, SwinBlock | SwinV2Block)
        self.norms_last = isinstance(block, swin_transformer_v2.SwinTransformerV2Block)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → the same."""
        if self.norms_last:
            x = x + self.norm1(self._attend(x))
            mixed: Tensor = x + self.norm2(self.mlp(x))
        else:
            x = x + self._attend(self.norm1(x))
            mixed = x + self.mlp(self.norm2(x))
        return mixed

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        high, wide = self.window_size
        rows = _Side(height, high, self.shift_size[0], self.pads_first, x.device)
        columns = _Side(width, wide, self.shift_size[1], self.pads_first, x.device)
        down, across = rows.windows, columns.windows

        x = x.index_select(1, rows.source).index_select(2, columns.source)
        inside = rows.inside.unsqueeze(1) & columns.inside.unsqueeze(0)
        x = x * inside.unsqueeze(-1).to(x.dtype)
        x = x.reshape(batch, down, high, across, wide, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch * down * across, high * wide, channels)
        x = self.attn(x, mask=self._mask(rows, columns, x.dtype))
        x = x.reshape(batch, down, across, high, wide, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, down * high, across * wide, channels)
        return x.index_select(1, rows.back).index_select(2, columns.back)

    def _mask(self, rows: "_Side", columns: "_Side", dtype: torch.dtype) -> Tensor | None:
        """(windows, positions, positions): −100 between parts that the shift joined."""
        if not any(self.shift_size):
            return None
        down, across = rows.windows, columns.windows
        high, wide = self.window_size
        region = 3 * rows.region.reshape(down, 1, high, 1)
        region = region + columns.region.reshape(1, across, 1, wide)
        region = region.reshape(down * across, high * wide)
        return -100.0 * (region.unsqueeze(1) != region.unsqueeze(2)).to(dtype)


class _Side:
    """How one side of an image, in tokens, is padded, rolled by `shift` and cut into windows.

    Attributes:
        windows: their number.
        source: index of the token at each of `windows` × `window` positions.
        inside: whether there is one; the others are padding.
        region: 0, 1 or 2, the parts that the roll joined.
        back: position of each token.
    """

    def __init__(
        self, size: int, window: int, shift: int, pads_first: bool, device: torch.device
    ) -> None:
        needed = (size + window - 1) // window
        self.windows = torch.sym_max(needed, 2)
        position = torch.arange(self.windows * window, device=device)
        token = torch.arange(size, device=device)
        end = needed * window
        rolled = end if pads_first else size
        source = _modulo(position + shift, rolled)
        self.inside = (position < rolled) & (source < size)
        self.source = torch.where(self.inside, source, 0)
        self.back = _modulo(token - shift, rolled)
        self.region = torch.zeros_like(position)
        if shift:
            self.region = (position >= end - window).long() + (position >= end - shift).long()


def _modulo(index: Tensor, size: int) -> Tensor:
    # By a tensor: ONNX has no remainder by a size that is not known.
    return torch.remainder(index, torch.ones_like(index) * size)
