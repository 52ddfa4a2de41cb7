"""DeepLabV3: a dilated encoder under atrous spatial pyramid pooling, with mmsegmentation's head."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from pne_seg.networks.encoders import build_encoder
from pne_seg.networks.layers import SegmentationHead
from pne_seg.networks.slot import HubMixin


class DeepLabV3Decoder(nn.Module):
    """Atrous spatial pyramid pooling (arXiv:1706.05587, section 3.3), fused by a 3×3 convolution.

    The branches are the image's mean, a 1×1 and several dilated 3×3 convolutions.
    """

    def __init__(self, in_channels: int, channels: int, atrous_rates: Sequence[int]) -> None:
        super().__init__()
        self.image_pooling = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), Conv2dNormActivation(in_channels, channels, 1)
        )
        self.branches = nn.ModuleList(
            [Conv2dNormActivation(in_channels, channels, 1)]
            + [
                Conv2dNormActivation(in_channels, channels, 3, dilation=rate)
                for rate in atrous_rates
            ]
        )
        self.bottleneck = Conv2dNormActivation((len(self.branches) + 1) * channels, channels, 3)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `channels`, h, w) from the encoder's features, at the last one's size."""
        last = features[-1]
        # Bilinear resizing of a single pixel repeats it.
        pooled = self.image_pooling(last).expand(-1, -1, *last.shape[-2:])
        fused: Tensor = self.bottleneck(
            torch.cat([pooled, *(branch(last) for branch in self.branches)], dim=1)
        )
        return fused


class DeepLabV3(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """DeepLabV3 (arXiv:1706.05587) with the head of mmsegmentation's published baselines.

    smp's class of the same name fuses the branches by a 1×1 convolution and appends a 3×3. The
    published dropout of 0.1 belongs to training, which adds it before the classifier.

    Maps (B, `in_channels`, H, W), both sides divisible by the output stride, to (B, C, H, W).
    Training needs B > 1, because a batch norm sees one pixel per image. Other arguments are as in
    smp; `**kwargs` go to timm's encoder.

    Args:
        encoder_name: smp's name, or timm's after `tu-`, of an encoder that can be dilated. The
            published ResNet has a stem of three 3×3 convolutions (`tu-resnet101c`).
        encoder_output_stride: 8, as published, or 16.
        decoder_channels: channels of each branch and of the feature that is classified.
        atrous_rates: dilations of the 3×3 branches, in pixels at the output stride; the default is
            for stride 8.
        upsampling: factor for the logits; by default the output stride, which gives the image's
            size. 1 leaves them at the feature's size.
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
        stride = encoder_output_stride
        if stride not in (8, 16):
            raise ValueError(f"encoder_output_stride must be 8 or 16, got {stride!r}.")
        self.encoder = build_encoder(encoder_name, encoder_weights, stride, in_channels, **kwargs)
        width = self.encoder.out_channels[-1]
        self.decoder = DeepLabV3Decoder(width, decoder_channels, atrous_rates)
        self.segmentation_head = SegmentationHead(
            decoder_channels, classes, upsampling or stride, activation
        )
        self.classification_head = None
        self.name = f"deeplabv3-{encoder_name}"
        self.initialize()
