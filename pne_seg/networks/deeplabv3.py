"""DeepLabV3: a dilated encoder under atrous spatial pyramid pooling, with mmsegmentation's head."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn

from pne_seg.networks.encoders import build_encoder
from pne_seg.networks.hub import HubMixin
from pne_seg.networks.layers import ConvBNReLU, SegmentationHead


class DeepLabV3Decoder(nn.Module):
    """Atrous spatial pyramid pooling (arXiv:1706.05587, section 3.3).

    The image's mean, a 1×1 and several dilated 3×3 convolutions process the last feature in
    parallel; a 3×3 convolution fuses them.

    Args:
        in_channels: channels of the last feature.
        channels: of each branch and of the output.
        atrous_rates: dilations of the 3×3 branches, in pixels of the feature.
    """

    def __init__(self, in_channels: int, channels: int, atrous_rates: Sequence[int]) -> None:
        super().__init__()
        self.image_pooling = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), ConvBNReLU(in_channels, channels)
        )
        self.branches = nn.ModuleList(
            [ConvBNReLU(in_channels, channels)]
            + [ConvBNReLU(in_channels, channels, 3, dilation=rate) for rate in atrous_rates]
        )
        self.bottleneck = ConvBNReLU((len(self.branches) + 1) * channels, channels, 3)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `channels`, h, w) of the encoder's features, at the last one's size."""
        last = features[-1]
        # Bilinear resizing of a single pixel repeats it.
        pooled = self.image_pooling(last).expand(-1, -1, *last.shape[-2:])
        fused: Tensor = self.bottleneck(
            torch.cat([pooled, *(branch(last) for branch in self.branches)], dim=1)
        )
        return fused


class DeepLabV3(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """DeepLabV3 (arXiv:1706.05587) with the head of mmsegmentation's published baselines.

    smp's class of the same name fuses the branches by a 1×1 convolution and appends a 3×3; this one
    fuses by a 3×3. It holds no dropout: the published 0.1 belongs to training, which adds it before
    the classifier by a forward pre-hook.

    Args:
        encoder_name: smp's name, or timm's after `tu-`; one that can be dilated. The published
            ResNet has a stem of three 3×3 convolutions (`tu-resnet101c`, `tu-resnet50c`).
        encoder_weights: `"imagenet"`, or None for random weights.
        encoder_output_stride: 8, as published, or 16.
        decoder_channels: channels of each branch and of the feature that is classified.
        atrous_rates: dilations of the 3×3 branches, in pixels at the output stride. The published
            ones are for stride 8; half of them reach as far at stride 16.
        in_channels: channels of the image.
        classes: C, the number of classes.
        upsampling: factor for the logits; None for the output stride, which gives the image's size.
        activation: applied to the logits, as in smp.
        **kwargs: passed to timm's encoder.

    Raises:
        ValueError: the encoder has no such weights or setting, or cannot be dilated.

    Takes (B, `in_channels`, H, W), both sides divisible by the output stride and, in training,
    B > 1 (one pixel an image enters the pooling's batch norm); gives (B, C, H, W), or the feature's
    size with `upsampling=1`.
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-resnet101c",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: Literal[8, 16] = 8,
        decoder_channels: int = 512,
        atrous_rates: Sequence[int] = (12, 24, 36),
        in_channels: int = 3,
        classes: int = 1,
        upsampling: int | None = None,
        activation: str | Callable[[], nn.Module] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if encoder_output_stride not in (8, 16):
            raise ValueError(
                f"encoder_output_stride must be 8 or 16, got {encoder_output_stride!r}."
            )
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights,
            output_stride=encoder_output_stride,
            in_channels=in_channels,
            depth=5,
            **kwargs,
        )
        self.decoder = DeepLabV3Decoder(
            self.encoder.out_channels[-1], decoder_channels, atrous_rates
        )
        self.segmentation_head = SegmentationHead(
            decoder_channels, classes, upsampling or encoder_output_stride, activation
        )
        self.classification_head = None
        self.name = f"deeplabv3-{encoder_name}"
        self.initialize()
