"""Layers shared by the heads here."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base.modules import Activation
from torch import Tensor, nn


class ConvBNReLU(nn.Sequential):
    """Convolution without bias that keeps the size, batch norm, ReLU.

    Args:
        in_channels: channels that enter.
        out_channels: channels that leave.
        kernel_size: side of the square kernel, odd.
        dilation: spacing of the kernel's elements, in pixels of the feature.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                padding=dilation * (kernel_size // 2),
                dilation=dilation,
                bias=False,  # the norm's shift takes its place
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class SegmentationHead(nn.Sequential):
    """1×1 convolution to logits, upsampling, activation, in smp's order and under its keys.

    It differs from smp's head in one thing: bilinear upsampling without aligned corners, as the
    published baselines do it.

    Args:
        in_channels: channels of the feature that is classified.
        classes: C, the number of classes.
        upsampling: factor by which the logits are enlarged; 1 leaves them at the feature's size.
        activation: as in smp, by name or as a callable; None for logits.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        upsampling: int = 1,
        activation: str | Callable[[], nn.Module] | None = None,
    ) -> None:
        enlarge = (
            nn.Upsample(scale_factor=upsampling, mode="bilinear", align_corners=False)
            if upsampling > 1
            else nn.Identity()
        )
        super().__init__(nn.Conv2d(in_channels, classes, 1), enlarge, Activation(activation))


def concatenate_stages(features: Sequence[Tensor]) -> Tensor:
    """Resize features to the size of the first, bilinearly, and concatenate their channels.

    Args:
        features: tensors (B, Dᵢ, hᵢ, wᵢ).

    Returns:
        (B, ΣDᵢ, h₁, w₁).
    """
    size = features[0].shape[-2:]
    resized = [
        F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        for feature in features[1:]
    ]
    return torch.cat([features[0], *resized], dim=1)
