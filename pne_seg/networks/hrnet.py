"""HRNetV2 and OCRNet: heads on the stages of a high-resolution encoder."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from segmentation_models_pytorch.base.initialization import initialize_head
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from pne_seg.networks.encoders import build_encoder, set_fusion
from pne_seg.networks.layers import SegmentationHead
from pne_seg.networks.slot import HubMixin


def concatenate_stages(features: Sequence[Tensor]) -> Tensor:
    """Resize (B, Dᵢ, hᵢ, wᵢ) features bilinearly to the first one's size and concatenate them."""
    size = features[0].shape[-2:]
    resized = [
        F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        for feature in features[1:]
    ]
    return torch.cat([features[0], *resized], dim=1)


class HRNetV2Decoder(nn.Module):
    """Concatenate the last four features at stride 4 and mix them by a 1×1 convolution."""

    def __init__(self, encoder_channels: Sequence[int], channels: int | None = None) -> None:
        super().__init__()
        width = sum(encoder_channels[-4:])
        self.out_channels = width if channels is None else channels
        self.mix = Conv2dNormActivation(width, self.out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `out_channels`, H/4, W/4) from features at strides 4 to 32."""
        mixed: Tensor = self.mix(concatenate_stages(features[-4:]))
        return mixed


class HRNetV2(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """HRNet for segmentation (arXiv:1908.07919): all stages at stride 4, 1×1 convolution.

    Works with any encoder that has features at strides 4, 8, 16 and 32. Maps
    (B, `in_channels`, H, W), both sides divisible by 32, to (B, C, H, W). Other arguments are as in
    smp; `**kwargs` go to timm's encoder.

    Args:
        encoder_fusion: how an HRNet enlarges its branches before adding them: `"bilinear"` as in
            the published baselines, or `"nearest"` as in timm.
        decoder_channels: channels of the feature that is classified; by default as many as the four
            stages have together (720 for W48), as published.
        upsampling: factor for the logits, by default 4; 1 leaves them at stride 4.
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-hrnet_w48",
        encoder_weights: str | None = "imagenet",
        encoder_fusion: Literal["bilinear", "nearest"] = "bilinear",
        decoder_channels: int | None = None,
        in_channels: int = 3,
        classes: int = 1,
        upsampling: int | None = None,
        activation: str | Callable[[], nn.Module] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder_name, encoder_weights, 32, in_channels, **kwargs)
        set_fusion(self.encoder, encoder_fusion)
        self.decoder = HRNetV2Decoder(self.encoder.out_channels, decoder_channels)
        self.segmentation_head = SegmentationHead(
            self.decoder.out_channels, classes, upsampling or 4, activation
        )
        self.classification_head = None
        self.name = f"hrnetv2-{encoder_name}"
        self.initialize()


def gather_regions(logits: Tensor, features: Tensor) -> Tensor:
    """Average (B, D, h, w) features over each of K soft object regions, to (B, K, D).

    A region's weights are the softmax over all pixels of a class's logits, (B, K, h, w) (eq. 2 of
    arXiv:1909.11065).
    """
    # In single precision: over 10⁵ pixels the weights are too small for half precision. Autocast is
    # touched only if it is on, because exports would trace it.
    device = features.device.type
    autocast = device != "meta" and torch.is_autocast_enabled(device)
    with torch.autocast(device, enabled=False) if autocast else nullcontext():
        weights = _at_least_single(logits).flatten(2).softmax(dim=2)
        regions = weights @ _at_least_single(features).flatten(2).transpose(1, 2)
    return regions.to(features.dtype)


class RegionAttention(nn.Module):
    """Mix the regions for each pixel, weighted by the pixel's similarity to them.

    With query q of a pixel, key k and value v of a region, softmax(qᵀk / √`key_channels`) over the
    regions weights the values (eqs. 3 and 4 of arXiv:1909.11065).
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.scale = key_channels**-0.5
        self.query = nn.Sequential(
            Conv2dNormActivation(channels, key_channels, 1),
            Conv2dNormActivation(key_channels, key_channels, 1),
        )
        self.key = nn.Sequential(
            Conv2dNormActivation(channels, key_channels, 1),
            Conv2dNormActivation(key_channels, key_channels, 1),
        )
        self.value = Conv2dNormActivation(channels, key_channels, 1)
        self.out = Conv2dNormActivation(key_channels, channels, 1)

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

    Stage 1 computes logits (`region_classifier`) that serve as soft object regions. Stage 2
    concatenates each pixel's feature with its context. At output stride 32 both work on the last
    four features concatenated at stride 4; otherwise stage 1 on the last but one, stage 2 on the
    last.
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
            width = region_width = sum(encoder_channels[-4:])
            self.region_feature = Conv2dNormActivation(width, width, 1)
        else:
            width, region_width = encoder_channels[-1], 256
            self.region_feature = Conv2dNormActivation(encoder_channels[-2], region_width, 3)
        self.region_classifier = nn.Conv2d(region_width, classes, 1)
        self.pixel_feature = Conv2dNormActivation(width, channels, 3)
        self.attention = RegionAttention(channels, key_channels)
        self.fuse = Conv2dNormActivation(2 * channels, channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `channels`, h, w) from the encoder's features, at stride 4, 8 or 16."""
        if self.joins_stages:
            coarse = fine = concatenate_stages(features[-4:])
        else:
            coarse, fine = features[-2:]
        logits = self.region_classifier(self.region_feature(coarse))
        pixels = self.pixel_feature(fine)
        context = self.attention(pixels, gather_regions(logits, pixels))
        fused: Tensor = self.fuse(torch.cat([context, pixels], dim=1))
        return fused


class OCRNet(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """OCRNet (arXiv:1909.11065), whose first stage's logits serve as soft object regions.

    Those logits, (B, C, h, w), are the output of `decoder.region_classifier`; an auxiliary loss
    trains them. Maps (B, `in_channels`, H, W), both sides divisible by the output stride, to
    (B, C, H, W). Other arguments are as in smp; `**kwargs` go to timm's encoder.

    Args:
        encoder_output_stride: 32 concatenates four stages at stride 4 (HRNet and others); 8 or 16
            dilates the encoder and works on its last stages (ResNet, as published at 8).
        encoder_fusion: how an HRNet enlarges its branches before adding them: `"bilinear"` as in
            the published baselines, or `"nearest"` as in timm.
        decoder_channels: channels of the feature that is classified.
        key_channels: channels of queries, keys and values.
        classes: C, the number of classes and of regions.
        upsampling: factor for the logits; by default the feature's stride, which gives the image's
            size. 1 leaves them at the feature's size.
    """

    auxiliary_logits = "decoder.region_classifier"

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-hrnet_w48",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: Literal[8, 16, 32] = 32,
        encoder_fusion: Literal["bilinear", "nearest"] = "bilinear",
        decoder_channels: int = 512,
        key_channels: int = 256,
        in_channels: int = 3,
        classes: int = 1,
        upsampling: int | None = None,
        activation: str | Callable[[], nn.Module] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        stride = encoder_output_stride
        if stride not in (8, 16, 32):
            raise ValueError(f"encoder_output_stride must be 8, 16 or 32, got {stride!r}.")
        self.encoder = build_encoder(encoder_name, encoder_weights, stride, in_channels, **kwargs)
        set_fusion(self.encoder, encoder_fusion)
        self.decoder = ObjectContextDecoder(
            self.encoder.out_channels, stride, classes, decoder_channels, key_channels
        )
        self.segmentation_head = SegmentationHead(
            decoder_channels, classes, upsampling or (4 if stride == 32 else stride), activation
        )
        self.classification_head = None
        self.name = f"ocrnet-{encoder_name}"
        self.initialize()

    def initialize(self) -> None:
        """Initialize the heads as smp does, the first stage's classifier too."""
        super().initialize()
        initialize_head(self.decoder.region_classifier)


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
