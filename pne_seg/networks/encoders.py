"""smp's and timm's encoders, set up for segmentation, with errors that state the fix."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import segmentation_models_pytorch as smp
from torch import nn

from pne_seg.networks.swin import pad_before_shift

_UNEXPECTED_KEYWORD = re.compile(r"unexpected keyword argument[^']*'(\w+)'")


def build_encoder(
    name: str,
    weights: str | None,
    output_stride: int = 32,
    in_channels: int = 3,
    depth: int = 5,
    **kwargs: Any,
) -> Any:
    """Build an encoder by smp's name for it; `tu-…` names are timm's.

    Args:
        name: such as `resnet50` or `tu-hrnet_w48`.
        weights: `"imagenet"` for pretrained weights, or None for random ones. smp's encoders know
            further names; for timm's, a tag in the name selects (`tu-resnet50.a1_in1k`).
        output_stride: 32, or 16 or 8 for a last stage (last two stages) dilated instead of reduced.
        in_channels: channels of the image.
        depth: number of halvings, up to 5.
        **kwargs: passed to timm's model; they override `encoder_settings`.

    Returns:
        A module from (B, `in_channels`, H, W) to `depth` + 1 features, counted from 0: the i-th has
        `out_channels[i]` channels at stride 2ⁱ, or at `output_stride` if that is less.

    Raises:
        ValueError: the encoder knows no such weights or keyword, or cannot be dilated.
    """
    settings = encoder_settings(name, kwargs)
    with readable_errors(name, settings, output_stride):
        encoder = smp.encoders.get_encoder(
            name,
            in_channels=in_channels,
            depth=depth,
            weights=checked_weights(name, weights),
            output_stride=output_stride,
            **settings,
        )
    pad_before_shift(encoder)
    return encoder


def encoder_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords for an encoder: those that segmentation needs, overridden by those given.

    timm's HRNet gives its four branches (`feature_location=""`), not the wider maps of its
    classification head. timm's Swin (V2 too) takes images of any size and shifts its windows in
    every stage (`strict_img_size=False, always_partition=True`).

    Args:
        name: smp's name for the encoder.
        given: keywords for timm's model.

    Raises:
        ValueError: keywords for an encoder that takes none.
    """
    if given and not name.startswith("tu-"):
        # smp drops them silently.
        raise ValueError(
            f"The encoder {name!r} takes no further settings, got {', '.join(map(repr, given))}. "
            "Set them to null, or use an encoder of timm's, whose names begin with 'tu-'."
        )
    if name.startswith("tu-hrnet_"):
        return {"feature_location": ""} | dict(given)
    if name.startswith(("tu-swin_", "tu-swinv2_")) and not name.startswith("tu-swinv2_cr_"):
        return {"strict_img_size": False, "always_partition": True} | dict(given)
    return dict(given)


@contextmanager
def readable_errors(
    name: str, settings: Mapping[str, Any], output_stride: int = 32
) -> Iterator[None]:
    """Replace what smp and timm raise by what is wrong with an encoder's settings.

    Args:
        name: smp's name for the encoder.
        settings: the keywords that it is built with.
        output_stride: the stride that it is built for.

    Raises:
        ValueError: the encoder knows no such keyword, or cannot be dilated.
    """
    try:
        yield
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        found = _UNEXPECTED_KEYWORD.search(str(error))
        if found and found[1] in settings:
            raise ValueError(
                f"The encoder {name!r} has no setting {found[1]!r}: correct it, or set it to null."
            ) from error
        if output_stride != 32:
            reason = f" ({error})" if str(error) else ""
            raise ValueError(
                f"The encoder {name!r} cannot be built at output stride {output_stride}{reason}. "
                "A ResNet can, such as 'tu-resnet101c'; or set the output stride to 32 if the "
                "network allows it."
            ) from error
        raise


def set_fusion(encoder: nn.Module, mode: Literal["bilinear", "nearest"]) -> None:
    """Choose how the branches of an HRNet are enlarged before they are added.

    timm repeats pixels (`"nearest"`), as HRNet's ImageNet training did. The published segmentation
    baselines interpolate (`"bilinear"`, corners not aligned). Parameters and state dict are the
    same. Encoders without `nn.Upsample` (ResNet, Swin) stay as they are.

    Args:
        encoder: changed in place.
        mode: of the interpolation.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"encoder_fusion must be 'bilinear' or 'nearest', got {mode!r}.")
    for module in encoder.modules():
        if isinstance(module, nn.Upsample):
            module.mode = mode
            module.align_corners = False if mode == "bilinear" else None


def checked_weights(name: str, weights: str | None) -> str | bool | None:
    """Return the weights argument of smp's `get_encoder`: True for timm's, a name for smp's.

    Args:
        name: smp's name for the encoder.
        weights: `"imagenet"`, another of smp's names, or None for random weights.

    Raises:
        ValueError: the encoder has no such weights.
    """
    if weights is None:
        return None
    if name.startswith("tu-"):
        if weights != "imagenet":
            raise ValueError(
                f"The weights of {name!r} must be 'imagenet' or null, got {weights!r}. "
                f"A tag in the name chooses among timm's: '{name.partition('.')[0]}.<tag>'."
            )
        return True
    known = smp.encoders.encoders.get(name, {}).get("pretrained_settings", {weights: None})
    if weights not in known:
        raise ValueError(
            f"The encoder {name!r} has no weights {weights!r}; it has "
            f"{', '.join(map(repr, known))}, or null for random ones."
        )
    return weights
