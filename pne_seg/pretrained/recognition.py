"""Recognize which published network a state dict is of, and its config."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pne_seg.networks.catalogue import (
    ENCODERS,
    METHODS,
    SHIPPED,
    NetworkConfig,
    build_blank,
)

_ENCODERS = (
    *ENCODERS,
    *(encoder for _, encoder in SHIPPED if encoder not in ENCODERS),
    "tu-resnet50c",
    "resnet18",
    "resnet34",
    "resnet50",
)
_ALIKE = 0.9
"""Share of the tensors that must agree in name and shape for a network to be recognized."""

_CLASSIFIER = "segmentation_head.0.weight"
_CONFIGS = Path(__file__).parents[2] / "configs"
_DATA = {19: "cityscapes", 150: "ade20k", 171: "coco_stuff"}
"""Data set in a config's name by its number of classes."""


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """Describe which network a state dict is of.

    Args:
        tensors: by the names of this project's networks.

    Returns:
        One or two sentences with method, encoder, classes and what to use; None if it is none of
        the published networks.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.is_floating_point()}
    if _CLASSIFIER not in shapes:
        return None
    classes = shapes[_CLASSIFIER][0]
    upernet = METHODS[-1]
    # The encoder by the method that goes with all of them, then the method on that encoder.
    encoder = max(
        _ENCODERS, key=lambda name: _likeness(upernet.config(name), classes, shapes, "encoder.")
    )
    method = max(METHODS, key=lambda one: _likeness(one.config(encoder), classes, shapes))
    config = method.config(encoder)
    if _likeness(config, classes, shapes) < _ALIKE:
        return None
    description = f"This is {method.name} on {encoder} with {classes} classes"
    if file := _config_file(method.name, encoder, classes):
        return f"{description}: use {file}."
    return (
        f"{description}: set --model.network {config.class_path} "
        f"--model.network.encoder_name {encoder} and data of that many classes."
    )


def _likeness(
    config: NetworkConfig, classes: int, shapes: Mapping[str, tuple[int, ...]], part: str = ""
) -> float:
    """Compute the share of common tensors among all of a network and a state dict."""
    try:
        network = build_blank(config, classes)
    except Exception:  # the method cannot be built on the encoder
        return 0.0
    ours = {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and name.startswith(part)
    }
    theirs = {name: shape for name, shape in shapes.items() if name.startswith(part)}
    common = sum(int(theirs.get(name) == shape) for name, shape in ours.items())
    return common / max(len(ours.keys() | theirs.keys()), 1)


def _config_file(method: str, encoder: str, classes: int) -> str | None:
    """Return the path of the shipped config of a network for data of so many classes."""
    if (method, encoder) not in SHIPPED or classes not in _DATA:
        return None
    name = f"{_DATA[classes]}_{SHIPPED[method, encoder]}.yaml"
    # An installed package has none.
    return f"{_CONFIGS.name}/{name}" if (_CONFIGS / name).is_file() else None
