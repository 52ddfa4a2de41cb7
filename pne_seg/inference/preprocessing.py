"""From camera pixels to what the network takes: normalize, pad to the stride."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of ImageNet's RGB channels, in 0–255."""
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's RGB channels, in 0–255."""


class Preprocessing(nn.Module):
    """Normalize images on their device and pad them to what the network divides.

    Args:
        mean: RGB mean in 0–255.
        std: RGB standard deviation in 0–255.
        stride: sides are padded to multiples of it, in pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std need three values, std above 0; got {mean} and {std}.")
        # As in the settings; the buffers may be in a lower precision.
        self.normalization = {"mean": [*map(float, mean)], "std": [*map(float, std)]}
        # Not in the state dict: they belong to the configuration.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Normalize and pad (B, 3, H, W) in 0–255, uint8 or float, to float (B, 3, H′, W′).

        The border is added below and to the right, in the mean color.
        """
        return self.pad(self.normalize(images), 0)

    def normalize(self, images: Tensor) -> Tensor:
        """Bring (…, 3, H, W) in 0–255, uint8 or float, to mean 0 and standard deviation 1."""
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def pad(self, maps: Tensor, value: float) -> Tensor:
        """Fill (…, H, W) up to the next multiples of the stride, below and to the right."""
        height, width = maps.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        return F.pad(maps, (0, right, 0, below), value=value) if below or right else maps


def network_stride(network: nn.Module) -> int:
    """Return the number of pixels that must divide both sides of an image; 1 for any size.

    smp's networks state it; torchvision's resize by themselves.
    """
    if getattr(network, "requires_divisible_input_shape", False):
        return int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type]
    return 1
