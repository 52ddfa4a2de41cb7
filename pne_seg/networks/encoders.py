"""smp's and timm's encoders, set up for segmentation, with errors that state the fix."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from timm.models import swin_transformer, swin_transformer_v2
from torch import Tensor, nn

_UNEXPECTED_KEYWORD = re.compile(r"unexpected keyword argument[^']*'(\w+)'")


def build_encoder(
    name: str,
    weights: str | None,
    output_stride: int = 32,
    in_channels: int = 3,
    **kwargs: Any,
) -> Any:
    """Build an encoder by smp's name for it; `tu-…` names are timm's, with its settings in kwargs.

    It returns six features; the i-th has `out_channels[i]` channels at stride 2ⁱ, or at
    `output_stride` (32, 16 or 8) if that is less.
    """
    settings = encoder_settings(name, kwargs)
    with readable_errors(name, settings, output_stride):
        encoder = smp.encoders.get_encoder(
            name,
            in_channels=in_channels,
            depth=5,
            weights=checked_weights(name, weights),
            output_stride=output_stride,
            **settings,
        )
    pad_before_shift(encoder)
    return encoder


def encoder_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return timm's keywords for an encoder: what segmentation needs, overridden by those given."""
    if given and not name.startswith("tu-"):
        # smp drops them silently.
        raise ValueError(
            f"The encoder {name!r} takes no further settings, got {', '.join(map(repr, given))}. "
            "Set them to null, or use an encoder of timm's, whose names begin with 'tu-'."
        )
    needed: dict[str, Any] = {}
    if name.startswith("tu-hrnet_"):
        needed = {"feature_location": ""}  # the branches, not the wider maps for classification
    elif name.startswith(("tu-swin_", "tu-swinv2_")) and not name.startswith("tu-swinv2_cr_"):
        # Images of any size, and shifted windows in every stage.
        needed = {"strict_img_size": False, "always_partition": True}
    return needed | dict(given)


@contextmanager
def readable_errors(
    name: str, settings: Mapping[str, Any], output_stride: int = 32
) -> Iterator[None]:
    """Replace what smp and timm raise by what is wrong with an encoder's settings."""
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


def checked_weights(name: str, weights: str | None) -> str | bool | None:
    """Return the weights argument of smp's `get_encoder`: True for timm's, a name for smp's."""
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


def set_fusion(encoder: nn.Module, mode: Literal["bilinear", "nearest"]) -> None:
    """Choose how an HRNet, newly built, enlarges its branches before they are added.

    timm repeats pixels, as HRNet's ImageNet training did; the published segmentation baselines
    interpolate. Encoders without `nn.Upsample` (ResNet, Swin) stay as they are.
    """
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"encoder_fusion must be 'bilinear' or 'nearest', got {mode!r}.")
    for module in encoder.modules():
        if isinstance(module, nn.Upsample):
            module.mode = mode
            module.align_corners = False if mode == "bilinear" else None


class _PadThenShift:
    """Pad in `_attn`, before timm's shift and its padding, which then adds nothing.

    timm shifts first and pads afterwards (https://github.com/huggingface/pytorch-image-models
    issue 2438), so that on a map that is no multiple of the window its windows are not the
    published network's and opposite borders attend to each other.
    """

    window_size: tuple[int, int]

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        below, right = -height % self.window_size[0], -width % self.window_size[1]
        padded = F.pad(x, (0, 0, 0, right, 0, below))
        mixed: Tensor = super()._attn(padded)[:, :height, :width]  # type: ignore[misc]
        return mixed


class SwinBlock(_PadThenShift, swin_transformer.SwinTransformerBlock):
    """timm's Swin block with the published windows."""


class SwinV2Block(_PadThenShift, swin_transformer_v2.SwinTransformerV2Block):
    """timm's Swin V2 block with the published windows."""


_PUBLISHED: dict[type[Any], type[Any]] = {
    swin_transformer.SwinTransformerBlock: SwinBlock,
    swin_transformer_v2.SwinTransformerV2Block: SwinV2Block,
}


def pad_before_shift(encoder: nn.Module) -> None:
    """Put published blocks in the place of timm's, if any, in a newly built encoder.

    They take over the layers of timm's, so that parameters and their names stay.
    """
    blocks = [(name, block) for name, block in encoder.named_modules() if type(block) in _PUBLISHED]
    for name, block in blocks:
        old: Any = block
        with torch.device("meta"):  # its own layers are replaced: no memory, no random numbers
            new = _PUBLISHED[type(block)](
                old.dim,
                old.input_resolution,
                old.attn.num_heads,
                window_size=old.window_size,
                shift_size=old.target_shift_size,
                always_partition=old.always_partition,
                dynamic_mask=old.dynamic_mask,
                mlp_ratio=old.mlp_ratio,
            )
        for layer_name, layer in old.named_children():
            setattr(new, layer_name, layer)
        new.attn_mask = old.attn_mask
        encoder.set_submodule(name, new)
