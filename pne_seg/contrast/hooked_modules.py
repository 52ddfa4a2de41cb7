"""Check the modules that a contrast takes feature and logits from, by a dummy image."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pne_seg.dummy_graph import comes_from, has_parameters, last_activation
from pne_seg.feature_hooks import FeatureHook, capture_dummy


def capture_classifier(
    network: nn.Module, hooks: Sequence[FeatureHook], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the (1, channels, h, w) feature and the (1, C, h, w) logits of a dummy image.

    `hooks` are those of the feature and of the logits.

    Raises:
        ValueError: if a module is not run once, the logits are none, or the feature is none of the
            network's own: the image itself, the logits, or pooled to one pixel.
    """
    feature, logits = hooks
    entering = FeatureHook(logits.module_name, "input")
    found, given, entered = capture_dummy(network, [feature, logits, entering])
    name = logits.module_name
    if not isinstance(given, Tensor) or given.ndim != 4:
        raise ValueError(
            f"logits_module {name!r} gives {_form(given)}, expected (B, classes, h, w). Name the "
            "classifier's last convolution."
        )
    check_class_count(name, given.shape[1], num_classes)
    if activation := last_activation(given):
        raise ValueError(
            f"logits_module {name!r} ends in {activation}; expected logits. Name the module before "
            "that activation."
        )
    if reason := _unfit(found, given, network):
        near = _last_convolution(network, num_classes)
        near = near if _unfit(entered, given, network) else name
        use = f"Name {near!r}: what enters it is the feature." if near else "Name a later module."
        if not any(parameter.requires_grad for parameter in network.parameters()):
            use = "Unfreeze the network."
        raise ValueError(
            f"feature_module {feature.module_name!r}: what enters it is {reason}. The feature is "
            f"what enters the module, not what leaves it. {use}"
        )
    return found, given


def check_class_count(logits_module: str, channels: int, num_classes: int) -> None:
    """Refuse logits of another number of classes."""
    if channels != num_classes:
        raise ValueError(
            f"{logits_module!r} gives {channels} channels, but there are {num_classes} classes. "
            "Name the classifier's last convolution in 'logits_module'."
        )


def _unfit(feature: Any, logits: Tensor, network: nn.Module) -> str | None:
    """Return what a feature is if a loss on it would not train the network's features."""
    if not isinstance(feature, Tensor) or feature.ndim != 4:
        return f"{_form(feature)}, expected (B, channels, h, w)"
    if not has_parameters(feature, network):
        what = "the image itself" if feature.shape[1] == 3 else "computed from the image"
        return f"{what}, without a trained layer, so that the loss would not reach the network"
    if comes_from(feature, logits):
        return "the logits, or computed from them"
    if feature.shape[-2:].numel() == 1 < logits.shape[-2:].numel():
        return "one value per channel for the whole image, not a map"
    return None


def _form(value: Any) -> str:
    return str(tuple(getattr(value, "shape", ())) or type(value).__name__)


def _last_convolution(network: nn.Module, num_classes: int) -> str | None:
    """Return the name of the last convolution that gives the classes, None if there is none."""
    convolutions = {name: m for name, m in network.named_modules() if isinstance(m, nn.Conv2d)}
    giving = [name for name, m in convolutions.items() if m.out_channels == num_classes]
    return giving[-1] if giving else None
