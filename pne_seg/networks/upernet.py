"""UPerNet: smp's decoder on an encoder that is set up as published."""

from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pne_seg.errors import UserError
from pne_seg.networks.encoders import checked_weights, encoder_settings, readable_errors
from pne_seg.networks.hub import HubMixin
from pne_seg.networks.swin import pad_before_shift

_NORMS = "decoder.feature_norms."


class UPerNet(HubMixin, smp.UPerNet):  # type: ignore[misc]  # smp is untyped
    """UPerNet (arXiv:1807.10221) on ResNet, HRNet, Swin or any other encoder of four stages.

    Decoder and parameter names are smp's. This class sets the encoder up: HRNet gives its plain
    branches, Swin takes images of any size with the published windows, and errors name settings
    that the encoder does not know.

    Args:
        encoder_name: smp's name, or timm's after `tu-`.
        encoder_weights: `"imagenet"`, or None for random weights.
        decoder_channels: channels of the feature that is classified.
        feature_norms: whether the decoder first normalizes each feature by a layer norm, as smp's
            class always does; None for the published network: on encoders without batch norm (Swin,
            ConvNeXt), not on ResNet and HRNet.
        drop_path_rate: share of the last block's residual branches dropped in training, rising from
            0 at the first block; None for the encoder's default. Only timm's encoders have it.
        in_channels: channels of the image.
        classes: C.
        upsampling: factor for the logits; smp's, which aligns the corners. 1 leaves them at
            stride 4, for the training module to resize as published, corners not aligned.
        activation: applied to the logits, as in smp.
        **kwargs: passed to timm's encoder.

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
        feature_norms: bool | None = None,
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
        with readable_errors(encoder_name, settings):
            super().__init__(
                encoder_name=encoder_name,
                encoder_weights=checked_weights(encoder_name, encoder_weights),
                decoder_channels=decoder_channels,
                in_channels=in_channels,
                classes=classes,
                upsampling=upsampling,
                activation=activation,
                **settings,
            )
        pad_before_shift(self.encoder)
        if feature_norms is None:
            feature_norms = not any(
                isinstance(layer, _BatchNorm) for layer in self.encoder.modules()
            )
        if not feature_norms:
            norms = self.decoder.feature_norms
            self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in norms)
            self.register_load_state_dict_pre_hook(_refuse_norms)


def _refuse_norms(_network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse weights of smp's form; the message names the setting for them."""
    if any(key.startswith(prefix + _NORMS) for key in state):
        raise UserError(
            "These weights are of a UPerNet that normalizes each feature first, as smp's class "
            "does: set feature_norms to true (model.network.init_args.feature_norms in the config)."
        )
