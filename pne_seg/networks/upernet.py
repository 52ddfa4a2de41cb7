"""UPerNet: smp's network, its encoder set up as published."""

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading

from pne_seg.networks.encoders import checked_weights, encoder_settings, readable_errors


class UPerNet(smp.UPerNet):  # type: ignore[misc]  # smp is untyped
    """UPerNet (arXiv:1807.10221) on ResNet, HRNet, Swin or any other encoder of four stages.

    The network is smp's, layer by layer and key by key, and `save_pretrained` saves it as smp's:
    `smp.from_pretrained` rebuilds it without this package. What this class adds is what the encoder
    needs: HRNet gives its plain branches, Swin takes images of any size with shifted windows in
    every stage, and a setting that the encoder does not know is named.

    smp normalises each feature first. On Swin that is the published network; on ResNet and HRNet
    those norms are extra.

    Args:
        encoder_name: smp's name, or timm's behind `tu-`.
        encoder_weights: `"imagenet"`, or None for random weights.
        decoder_channels: channels of the feature that is classified.
        drop_path_rate: share of the last block's residual branches dropped in training, rising from
            0 at the first block; None for the encoder's own. timm's encoders alone know it.
        in_channels: channels of the image.
        classes: C.
        upsampling: factor for the scores; smp's, which aligns the corners. 1 leaves them at
            stride 4, for the training module to resize as published, corners not aligned.
        activation: applied to the scores, as in smp.
        **kwargs: handed to timm's encoder.

    Raises:
        ValueError: the encoder has no such weights or setting.

    Takes (B, `in_channels`, H, W), both sides divisible by 32; gives (B, C, H/4, W/4), times
    `upsampling`. It pools to one pixel, so training needs two images a step.
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-swin_tiny_patch4_window7_224",
        encoder_weights: str | None = "imagenet",
        decoder_channels: int = 512,
        drop_path_rate: float | None = None,
        in_channels: int = 3,
        classes: int = 1,
        upsampling: int = 1,
        activation: str | None = None,
        **kwargs: Any,
    ) -> None:
        if drop_path_rate is not None:
            kwargs["drop_path_rate"] = drop_path_rate
        settings = encoder_settings(encoder_name, kwargs)
        own = {
            "encoder_name": encoder_name,
            "decoder_channels": decoder_channels,
            "in_channels": in_channels,
            "classes": classes,
            "upsampling": upsampling,
            "activation": activation,
        }
        with readable_errors(encoder_name, settings):
            super().__init__(
                encoder_weights=checked_weights(encoder_name, encoder_weights), **own, **settings
            )
        # What smp's class is built with; the saved weights replace the pretrained ones.
        self._hub_mixin_config = own | settings | {"encoder_weights": None}
