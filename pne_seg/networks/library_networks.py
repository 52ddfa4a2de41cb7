"""UPerNet and DPT of smp, and torchvision's networks, set up as published."""

from collections.abc import Sequence
from typing import Any, Literal

import segmentation_models_pytorch as smp
import torchvision
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pne_seg.errors import UserError
from pne_seg.networks.encoders import (
    checked_weights,
    encoder_settings,
    pad_before_shift,
    readable_errors,
)
from pne_seg.networks.slot import HubMixin


class UPerNet(HubMixin, smp.UPerNet):  # type: ignore[misc]  # smp is untyped
    """UPerNet (arXiv:1807.10221) on ResNet, HRNet, Swin or any other encoder of four stages.

    Decoder and parameter names are smp's; the encoder is set up as published. Maps
    (B, `in_channels`, H, W), both sides divisible by 32, to (B, C, H/4, W/4) times `upsampling`.
    Training needs B > 1, because a batch norm sees one pixel per image. Other arguments are smp's.

    Args:
        decoder_channels: channels of the feature that is classified.
        feature_norms: whether the decoder first normalizes each feature by a layer norm, as smp's
            class always does; by default as published: on encoders without batch norm (Swin,
            ConvNeXt), not on ResNet and HRNet.
        drop_path_rate: share of the last block's residual branches dropped in training, rising from
            0 at the first block; by default the encoder's. Only timm's encoders have it.
        upsampling: factor for the logits, by smp's upsampling, which aligns the corners. 1 leaves
            them at stride 4, for the training module to resize as published.
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
            feature_norms = not any(isinstance(m, _BatchNorm) for m in self.encoder.modules())
        if not feature_norms:
            norms = self.decoder.feature_norms
            self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in norms)
            self.register_load_state_dict_pre_hook(_refuse_norms)


def _refuse_norms(_network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    if any(key.startswith(f"{prefix}decoder.feature_norms.") for key in state):
        raise UserError(
            "These weights are of a UPerNet that normalizes each feature first, as smp's class "
            "does: set feature_norms to true (model.network.init_args.feature_norms in the config)."
        )


class DPT(HubMixin, smp.DPT):  # type: ignore[misc]  # smp is untyped
    """Dense prediction transformer (arXiv:2103.13413) on a ViT, for images of any size.

    Decoder and parameter names are smp's, without the transformer's classifier and last norm, which
    no loss would reach. Maps (B, `in_channels`, H, W), both sides divisible by 32, to (B, C, H, W).
    Other arguments are smp's.

    Args:
        encoder_name: timm's name of a ViT with patches of 16 pixels, after `tu-`.
        encoder_output_indices: the four blocks whose outputs are used, from 0; by default spread
            evenly (2, 5, 8, 11 of twelve).
        decoder_readout: how the class token is used: added or concatenated to each patch, or
            ignored.
        decoder_intermediate_channels: of the four features, finest first.
        decoder_fusion_channels: of the feature that is classified.
        drop_path_rate: share of the last block's residual branches dropped in training, rising from
            0 at the first block; by default the encoder's.
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
        # The last feature is reduced once more than the transformer's patches.
        self.encoder.output_stride = 32


class TorchvisionNetwork(HubMixin, nn.Module):
    """A network of `torchvision.models.segmentation` by name, without its auxiliary classifier.

    Maps (B, 3, H, W) of any size, in training with B > 1, to (B, C, H, W).

    Args:
        name: such as `deeplabv3_resnet50` or `fcn_resnet101`; not LR-ASPP, which adds the logits of
            two classifiers.
        weights_backbone: `"imagenet"`, or None for random weights.
        classes: C, the number of classes.
    """

    def __init__(
        self,
        name: str = "deeplabv3_resnet50",
        weights_backbone: Literal["imagenet"] | None = "imagenet",
        classes: int = 21,
    ) -> None:
        super().__init__()
        models = torchvision.models.list_models(torchvision.models.segmentation)
        known = [model for model in models if not model.startswith("lraspp")]
        if name not in known:
            raise ValueError(
                f"There is no network {name!r}; there are {', '.join(known)}. LR-ASPP is left "
                "out: it adds the logits of two classifiers."
            )
        if weights_backbone not in (None, "imagenet"):
            raise ValueError(f"weights_backbone is 'imagenet' or null, got {weights_backbone!r}.")
        self.name = name
        self.network = torchvision.models.get_model(
            name,
            weights=None,
            # torchvision's segmentation training starts from version 1.
            weights_backbone="IMAGENET1K_V1" if weights_backbone else None,
            num_classes=classes,
            aux_loss=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, C, H, W) logits from (B, 3, H, W) images."""
        logits: Tensor = self.network(images)["out"]
        return logits
