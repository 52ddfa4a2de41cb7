"""Which of the published networks a state dict is of, and the config that has it."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import yaml
from torch import Tensor

from pne_seg.networks.catalogue import ENCODERS, METHODS, NetworkConfig, build_blank

_ENCODERS = (
    *ENCODERS,
    "tu-swin_base_patch4_window12_384.ms_in22k",
    "tu-convnext_tiny.fb_in1k",
    "tu-resnet50c",
    "resnet18",
    "resnet34",
    "resnet50",
)
_ALIKE = 0.9
"""Share of the tensors that must be there, in the same shape, for a network to be recognized."""

_CLASSIFIER = "segmentation_head.0.weight"
_CONFIGS = Path(__file__).parents[2] / "configs"


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """Say which network a state dict is of.

    Args:
        tensors: by the names of this project's networks.

    Returns:
        A sentence or two that name method, encoder, classes and what to use; None where it is none
        of the published networks.
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
    said = f"This is {method.name} on {encoder} with {classes} classes"
    if file := _config_file(config, classes):
        return f"{said}: use {file}."
    return (
        f"{said}: set --model.network {config.class_path} "
        f"--model.network.encoder_name {encoder} and data of that many classes."
    )


def _likeness(
    config: NetworkConfig, classes: int, shapes: Mapping[str, tuple[int, ...]], part: str = ""
) -> float:
    """The tensors that a network and a state dict have in common, as a share of all of both."""
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


def _config_file(config: NetworkConfig, classes: int) -> str | None:
    """The shipped config of a network for data of so many classes, as one types its path."""
    for file in sorted(_CONFIGS.glob("*.yaml")):  # none beside an installed package
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        slot = content["model"]["network"]
        name = str(slot.get("init_args", {}).get("encoder_name", ""))
        if slot["class_path"] != config.class_path or _base(name) != _base(
            str(config.init_args["encoder_name"])
        ):
            continue
        module, _, data = content["data"]["class_path"].rpartition(".")
        names = getattr(getattr(import_module(module), data), "class_names", ())
        if isinstance(names, tuple | list) and len(names) == classes:
            return f"{_CONFIGS.name}/{file.name}"
    return None


def _base(encoder: str) -> str:
    return encoder.partition(".")[0]
