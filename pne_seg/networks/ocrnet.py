"""OCRNet: HRNet or a dilated ResNet with object-contextual representations."""

from collections.abc import Callable
from typing import Any, Literal

from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from segmentation_models_pytorch.base.initialization import initialize_head
from torch import nn

from pne_seg.networks.encoders import build_encoder, set_fusion
from pne_seg.networks.hub import HubMixin
from pne_seg.networks.layers import SegmentationHead
from pne_seg.networks.object_context import ObjectContextDecoder


class OCRNet(HubMixin, SegmentationModel):  # type: ignore[misc]  # smp is untyped
    """OCRNet (arXiv:1909.11065), whose first stage's logits serve as soft object regions.

    Those logits, (B, C, h, w), are the output of `decoder.region_classifier`; an auxiliary loss
    trains them (weight 0.4 as published), which is not part of the network. With
    a dilated ResNet the first stage is an FCN head on the last stage but one.

    Args:
        encoder_name: smp's name, or timm's after `tu-`.
        encoder_weights: `"imagenet"`, or None for random weights.
        encoder_output_stride: 32 concatenates four stages at stride 4 (HRNet; others work); 8 or 16
            dilates the encoder and works on its last stage (ResNet, as published at 8).
        encoder_fusion: how an HRNet enlarges its branches before adding them: `"bilinear"` as the
            published baselines, or timm's `"nearest"`. No effect on other encoders.
        decoder_channels: channels of the feature that is classified.
        key_channels: channels of queries, keys and values.
        in_channels: channels of the image.
        classes: C, the number of classes and of regions.
        upsampling: factor for the logits; None for the feature's stride (4 at output stride 32,
            else the output stride), which gives the image's size.
        activation: applied to the logits, as in smp.
        **kwargs: passed to timm's encoder.

    Raises:
        ValueError: the encoder has no such weights or setting, or cannot be dilated.

    Takes (B, `in_channels`, H, W), both sides divisible by the output stride; gives (B, C, H, W),
    or the feature's size with `upsampling=1`.
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
        if encoder_output_stride not in (8, 16, 32):
            raise ValueError(
                f"encoder_output_stride must be 8, 16 or 32, got {encoder_output_stride!r}."
            )
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights,
            output_stride=encoder_output_stride,
            in_channels=in_channels,
            depth=5,
            **kwargs,
        )
        set_fusion(self.encoder, encoder_fusion)
        self.decoder = ObjectContextDecoder(
            self.encoder.out_channels,
            encoder_output_stride,
            classes,
            channels=decoder_channels,
            key_channels=key_channels,
        )
        stride = 4 if encoder_output_stride == 32 else encoder_output_stride
        self.segmentation_head = SegmentationHead(
            decoder_channels, classes, upsampling or stride, activation
        )
        self.classification_head = None
        self.name = f"ocrnet-{encoder_name}"
        self.initialize()

    def initialize(self) -> None:
        """Initialize the heads as smp does, the first stage's classifier as a head."""
        super().initialize()
        initialize_head(self.decoder.region_classifier)
