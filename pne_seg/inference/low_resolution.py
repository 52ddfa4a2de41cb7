"""Run smp's networks up to the bilinear step that ends their head, which is then done by bands."""

from typing import NamedTuple

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.modules import Activation
from torch import Tensor, nn


class LowResolution(NamedTuple):
    """Logits, and the bilinear step that the network's own forward pass would end with.

    Attributes:
        logits: (B, C, h, w).
        scale_factor: of the step; 1 if the logits are what the network returns.
        align_corners: of the step.
    """

    logits: Tensor
    scale_factor: float = 1
    align_corners: bool = False


def low_resolution_logits(network: nn.Module, images: Tensor) -> LowResolution:
    """Run a network, without its last bilinear step if it is one of smp's kind.

    Encoder, decoder and the layers of the head are called one by one, as smp's `forward` does. A
    network with a `forward` of its own, or whose head ends otherwise, is called as it is.

    Args:
        network: (B, 3, H, W) → (B, C, h, w).
        images: (B, 3, H, W), normalized and padded.
    """
    layers = _head_of(network)
    # Identities may follow the step.
    while layers and _is_identity(layers[-1]):
        layers.pop()
    last = layers.pop() if layers else None
    if not isinstance(last, nn.Upsample) or last.mode != "bilinear":
        return LowResolution(network(images))
    factor = last.scale_factor
    if not isinstance(factor, int | float):
        return LowResolution(network(images))
    if not torch.compiler.is_compiling():
        network.check_input_shape(images)  # type: ignore[operator]
    features = network.encoder(images)  # type: ignore[operator]
    # DPT's encoder returns its prefix tokens too.
    given = features if isinstance(network, smp.DPT) else (features,)
    logits: Tensor = network.decoder(*given)  # type: ignore[operator]
    for layer in layers:
        logits = layer(logits)
    return LowResolution(logits, factor, bool(last.align_corners))


def _head_of(network: nn.Module) -> list[nn.Module]:
    """The layers of the head; none if the network's `forward` is not smp's."""
    if type(network).forward not in (SegmentationModel.forward, smp.DPT.forward):
        return []
    head = network.segmentation_head
    return list(head) if isinstance(head, nn.Sequential) else []


def _is_identity(layer: nn.Module) -> bool:
    inner = layer.activation if isinstance(layer, Activation) else layer
    return isinstance(inner, nn.Identity)
