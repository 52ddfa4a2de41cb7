"""Swin's block as the paper has it: windows cut from the padded map one by one, by loops."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(block: Any, x: Tensor) -> Tensor:
    """(B, H, W, C) → the same: pad with zeros to whole windows, shift, attend, shift back, cut."""
    batch, height, width, channels = x.shape
    (high, wide), (up, left) = block.window_size, block.shift_size
    rows, columns = math.ceil(height / high) * high, math.ceil(width / wide) * wide
    padded = torch.zeros(batch, rows, columns, channels, dtype=x.dtype)
    padded[:, :height, :width] = x
    out = torch.zeros_like(padded)
    for top in range(0, rows, high):
        for first in range(0, columns, wide):
            # Where each token of the window stands in the padded map, ahead of the shift.
            places = [
                ((top + i + up) % rows, (first + j + left) % columns)
                for i in range(high)
                for j in range(wide)
            ]
            # Tokens attend to each other unless the shift brought them together around the border.
            parts = [
                (top + i >= rows - up, first + j >= columns - left)
                for i in range(high)
                for j in range(wide)
            ]
            y, z = ([place[axis] for place in places] for axis in (0, 1))
            apart = torch.tensor([[a != b for b in parts] for a in parts])
            out[:, y, z] = _mix(block.attn, padded[:, y, z], apart)
    return out[:, :height, :width]


def _mix(attn: Any, tokens: Tensor, apart: Tensor) -> Tensor:
    """(B, N, C) → the same: attention of each head with relative position biases."""
    channels = tokens.shape[-1]
    is_v2 = hasattr(attn, "logit_scale")
    bias = attn.qkv.bias
    if is_v2:
        bias = torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
    query, key, value = F.linear(tokens, attn.qkv.weight, bias).chunk(3, dim=-1)
    size = channels // attn.num_heads
    positions = position_biases(attn)
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[..., part], key[..., part], value[..., part]
        if is_v2:
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2)
            scores = scores * attn.logit_scale[head].clamp(max=math.log(100)).exp()
        else:
            scores = q @ k.transpose(1, 2) / math.sqrt(size)
        scores = scores + positions[head]
        heads.append(scores.masked_fill(apart, -1e4).softmax(-1) @ v)
    out: Tensor = attn.proj(torch.cat(heads, dim=-1))
    return out


def position_biases(attn: Any) -> Tensor:
    """(heads, N, N), looked up by the distance of two tokens in rows and columns."""
    high, wide = attn.window_size
    if hasattr(attn, "cpb_mlp"):
        table = 16 * attn.cpb_mlp(attn.relative_coords_table).flatten(0, -2).sigmoid()
    else:
        table = attn.relative_position_bias_table
    tokens = [(i, j) for i in range(high) for j in range(wide)]
    index = torch.tensor(
        [[(a - c + high - 1) * (2 * wide - 1) + b - d + wide - 1 for c, d in tokens]
         for a, b in tokens]
    )  # fmt: skip
    return table[index].permute(2, 0, 1)  # type: ignore[no-any-return]


def run_block(block: Any, x: Tensor) -> Tensor:
    """The whole block, residual branches dropped as the block's own layers do it."""
    if hasattr(block.attn, "logit_scale"):  # V2 normalizes what a branch gives
        x = x + block.drop_path1(block.norm1(attend(block, x)))
        out: Tensor = x + block.drop_path2(block.norm2(block.mlp(x)))
    else:
        x = x + block.drop_path1(attend(block, block.norm1(x)))
        out = x + block.drop_path2(block.mlp(block.norm2(x)))
    return out


def run_encoder(encoder: Any, images: Tensor) -> list[Tensor]:
    """(B, 3, H, W) → features (B, C, h, w) at strides 4, 8, 16, 32, of timm's feature network."""
    x = encoder.patch_embed(images)
    features = []
    for stage in range(4):
        layer = encoder[f"layers_{stage}"]
        x = layer.downsample(x)
        for block in layer.blocks:
            x = run_block(block, x)
        features.append(x.permute(0, 3, 1, 2))
    return features
