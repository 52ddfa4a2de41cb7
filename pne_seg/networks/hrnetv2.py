"""HRNetV2: all stages of a high-resolution encoder, resized to stride 4 and concatenated."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn

from pne_seg.networks.encoders import build_encoder, set_fusion
from pne_seg.networks.hub import HubMixin
from pne_seg.networks.layers import ConvBNReLU, SegmentationHead, concatenate_stages

_STRIDE = 4  # of the first of the four stages


class HRNetV2Decoder(nn.Module):
    """Resize the last four features to stride 4, concatenate and mix them by a 1×1 convolution.

    Args:
        encoder_channels: channels of the encoder's features, finest first.
        channels: of the output; None for the sum of the four.

    Attributes:
        out_channels: channels of the output.
    """

    def __init__(self, encoder_channels: Sequence[int], channels: int | None = None) -> None:
        super().__init__()
        width = sum(encoder_channels[-4:])
        self.out_channels = width if channels is None else channels
        self.mix = ConvBNReLU(width, self.out_channels)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute (B, `out_channels`, H/4, W/4) of features, the last four at strides 4 to 32."""
        mixed: Tensor = self.mix(concatenate_stages(features[-4:]))
        return mixed


class HRNetV2(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """HRNet for segmentation (arXiv:1908.07919): 1×1 convolution, classifier, no dropout.

    Made for HRNet; any encoder with features at strides 4, 8, 16 and 32 works.

    Args:
        encoder_name: smp's name, or timm's after `tu-`.
        encoder_weights: `"imagenet"`, or None for random weights.
        encoder_fusion: how an HRNet enlarges its branches before adding them: `"bilinear"` as the
            published baselines, or timm's `"nearest"`. No effect on other encoders.
        decoder_channels: channels of the feature that is classified; None for as many as the four
            stages have together (720 for W48, 270 for W18), as published.
        in_channels: channels of the image.
        classes: C, the number of classes.
        upsampling: factor for the logits; None for 4, which gives the image's size.
        activation: applied to the logits, as in smp.
        **kwargs: passed to timm's encoder.

    Raises:
        ValueError: the encoder has no such weights or setting.

    Takes (B, `in_channels`, H, W), both sides divisible by 32; gives (B, C, H, W), or
    (B, C, H/4, W/4) with `upsampling=1`.
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
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights,
            output_stride=32,
            in_channels=in_channels,
            depth=5,
            **kwargs,
        )
        set_fusion(self.encoder, encoder_fusion)
        self.decoder = HRNetV2Decoder(self.encoder.out_channels, decoder_channels)
        self.segmentation_head = SegmentationHead(
            self.decoder.out_channels, classes, upsampling or _STRIDE, activation
        )
        self.classification_head = None
        self.name = f"hrnetv2-{encoder_name}"
        self.initialize()
