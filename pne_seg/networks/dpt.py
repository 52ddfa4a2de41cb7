"""DPT: smp's network on timm's vision transformers, for images of any size."""

from collections.abc import Sequence
from typing import Any, Literal

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading

from pne_seg.networks.encoders import checked_weights, readable_errors
from pne_seg.networks.hub import HubMixin

_STRIDE = 32  # the last feature is reduced once more than the transformer's patches


class DPT(HubMixin, smp.DPT):  # type: ignore[misc]  # smp is untyped
    """Dense prediction transformer (arXiv:2103.13413) on a ViT.

    Decoder and parameter names are smp's. This class lets images be of any size that 32 divides
    (smp's is fixed to the transformer's pretraining size, and fails at odd multiples of 16), and
    leaves out the transformer's classifier and last norm, which no loss would reach.

    Args:
        encoder_name: timm's name of a ViT with patches of 16 pixels, after `tu-`.
        encoder_weights: `"imagenet"`, or None for random weights.
        encoder_output_indices: the four blocks whose outputs are used, from 0; None spreads them
            evenly (2, 5, 8, 11 of twelve).
        decoder_readout: how the class token is used: added or concatenated to each patch, or
            ignored.
        decoder_intermediate_channels: of the four features, finest first.
        decoder_fusion_channels: of the feature that is classified.
        drop_path_rate: share of the last block's residual branches dropped in training, rising from
            0 at the first block; None for the encoder's default.
        in_channels: channels of the image.
        classes: C.
        activation: applied to the logits, as in smp.
        **kwargs: passed to timm's encoder.

    Raises:
        ValueError: the encoder is not timm's, or has no such weights or setting.

    Takes (B, `in_channels`, H, W), both sides divisible by 32; gives (B, C, H, W).
    """

    @supports_config_loading
    def __init__(
        self,
        encoder_name: str = "tu-vit_base_patch16_224.augreg_in21k",
        encoder_weights: str | None = "imagenet",
        encoder_output_indices: list[int] | None = None,
        decoder_readout: Literal["cat", "add", "ignore"] = "cat",
        decoder_intermediate_channels: Sequence[int] = (96, 192, 384, 768),
        decoder_fusion_channels: int = 256,
        drop_path_rate: float | None = None,
        in_channels: int = 3,
        classes: int = 1,
        activation: str | None = None,
        **kwargs: Any,
    ) -> None:
        settings = {"dynamic_img_size": True, "num_classes": 0, "final_norm": False, **kwargs}
        if drop_path_rate is not None:
            settings["drop_path_rate"] = drop_path_rate
        checked_weights(encoder_name, encoder_weights)
        with readable_errors(encoder_name, settings):
            super().__init__(
                encoder_name=encoder_name,
                encoder_weights=encoder_weights,
                encoder_output_indices=encoder_output_indices,
                decoder_readout=decoder_readout,
                decoder_intermediate_channels=decoder_intermediate_channels,
                decoder_fusion_channels=decoder_fusion_channels,
                in_channels=in_channels,
                classes=classes,
                activation=activation,
                **settings,
            )
        self.encoder.output_stride = _STRIDE
