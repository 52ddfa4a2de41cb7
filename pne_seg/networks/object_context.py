"""Object-contextual representations (arXiv:1909.11065): pixels attend to soft object regions."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pne_seg.networks.layers import ConvBNReLU, concatenate_stages

_FCN_CHANNELS = 256


def gather_regions(logits: Tensor, features: Tensor) -> Tensor:
    """Average the features over each soft object region.

    Region k weighs the pixels by the softmax, over all pixels of an image, of class k's logits
    (eq. 2 of arXiv:1909.11065 with its spatial softmax).

    Args:
        logits: (B, K, h, w).
        features: (B, D, h, w).

    Returns:
        (B, K, D), in the features' precision.
    """
    # In single precision: over 10⁵ pixels the weights are too small for half precision.
    with _full_precision(features):
        weights = _at_least_single(logits).flatten(2).softmax(dim=2)
        regions = weights @ _at_least_single(features).flatten(2).transpose(1, 2)
    return regions.to(features.dtype)


class RegionAttention(nn.Module):
    """Mix the regions for each pixel, weighted by the pixel's similarity to them.

    With query q of a pixel, key k and value v of a region, softmax(qᵀk / √`key_channels`) over the
    regions weights the values (eqs. 3 and 4 of arXiv:1909.11065).

    Args:
        channels: D, of pixels and regions.
        key_channels: of queries, keys and values.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.scale = key_channels**-0.5
        self.query = nn.Sequential(
            ConvBNReLU(channels, key_channels), ConvBNReLU(key_channels, key_channels)
        )
        self.key = nn.Sequential(
            ConvBNReLU(channels, key_channels), ConvBNReLU(key_channels, key_channels)
        )
        self.value = ConvBNReLU(channels, key_channels)
        self.out = ConvBNReLU(key_channels, channels)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Compute the (B, D, h, w) context of (B, D, h, w) pixels and (B, K, D) regions."""
        columns = regions.transpose(1, 2).unsqueeze(-1)  # (B, D, K, 1), for 1×1 convolutions
        query: Tensor = self.query(features).flatten(2).transpose(1, 2)  # (B, hw, key)
        key: Tensor = self.key(columns).flatten(2)  # (B, key, K)
        value: Tensor = self.value(columns).flatten(2).transpose(1, 2)  # (B, K, key)
        # Scaled before the product, which could leave half precision's range.
        similarity = (query * self.scale) @ key
        weights = _at_least_single(similarity).softmax(dim=2).to(value.dtype)
        mixed = (weights @ value).transpose(1, 2).unflatten(2, features.shape[-2:])
        context: Tensor = self.out(mixed)
        return context


class ObjectContextDecoder(nn.Module):
    """OCRNet's two stages up to the feature that is classified.

    Stage 1 gives logits, `region_classifier`'s output, which serve as soft object regions and are
    trained by an auxiliary loss. Stage 2 concatenates each pixel's feature with its context.

    Args:
        encoder_channels: channels of the encoder's features, finest first.
        output_stride: of the encoder. At 32 both stages work on the last four features concatenated
            at stride 4; at 8 or 16 stage 1 works on the last but one and stage 2 on the last.
        classes: K, the number of regions.
        channels: of stage 2.
        key_channels: of the attention.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        output_stride: int,
        classes: int,
        channels: int = 512,
        key_channels: int = 256,
    ) -> None:
        super().__init__()
        self.joins_stages = output_stride == 32
        if self.joins_stages:
            width = sum(encoder_channels[-4:])
            region_width = width
            self.region_feature = ConvBNReLU(width, width)
        else:
            width = encoder_channels[-1]
            region_width = _FCN_CHANNELS
            self.region_feature = ConvBNReLU(encoder_channels[-2], region_width, 3)
        self.region_classifier = nn.Conv2d(region_width, classes, 1)
        self.pixel_feature = ConvBNReLU(width, channels, 3)
        self.attention = RegionAttention(channels, key_channels)
        self.fuse = ConvBNReLU(2 * channels, channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `channels`, h, w) of the encoder's features, at stride 4, 8 or 16."""
        if self.joins_stages:
            coarse = fine = concatenate_stages(features[-4:])
        else:
            coarse, fine = features[-2:]
        logits = self.region_classifier(self.region_feature(coarse))
        pixels = self.pixel_feature(fine)
        context = self.attention(pixels, gather_regions(logits, pixels))
        fused: Tensor = self.fuse(torch.cat([context, pixels], dim=1))
        return fused


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Suspend autocast if it is on; exports then contain no trace of it."""
    device = tensor.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
