"""Rename the tensors of another library's checkpoint, by the tables of `layouts`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pne_seg.pretrained.layouts import AUXILIARY, BACKBONES, HEADS, Layout, Rule

# Convolution, norm, activation: numbered here, named there.
_IN_CONV_MODULES = ((re.compile(r"\.conv\."), ".0."), (re.compile(r"\.(bn|batch_norm)\."), ".1."))


@dataclass
class Weights:
    """The tensors of a source, under this project's names.

    Attributes:
        tensors: by name in `SegmentationModule`.
        library: whose layout it was; empty if it needed no mapping.
        unknown: keys that no rule knows.
        averaged: whether a moving average was taken instead of the last weights.
        class_names: in the order of class indices; none if the source does not name its classes.
    """

    tensors: dict[str, Tensor]
    library: str = ""
    unknown: list[str] = field(default_factory=list)
    averaged: bool = False
    class_names: tuple[str, ...] = ()


def map_names(tensors: Mapping[str, Tensor]) -> Weights:
    """Rename the tensors of another library's checkpoint to this project's names.

    Args:
        tensors: by the checkpoint's own names.

    Returns:
        The tensors by their names in `SegmentationModule` (`network.…`, `auxiliary.…`); unchanged
        if no layout is recognized.

    Raises:
        RuntimeError: a tensor has other dimensions than its name implies.
    """
    if not any(key.startswith("decode_head.") for key in tensors):
        return Weights(dict(tensors))
    given, averaged = _moving_average(tensors)
    plain = {_numbered(key): tensor for key, tensor in given.items()}
    found = [_recognize(layouts, plain) for layouts in (BACKBONES, HEADS)]
    layouts = [layout for layout in found if layout is not None]
    if not layouts:
        return Weights(dict(tensors))
    rules = [*(rule for layout in layouts for rule in layout.rules), *AUXILIARY]
    mapped = Weights({}, layouts[0].library, averaged=averaged)
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in plain.items():
        applied = _apply(rules, key, tensor)
        if applied is None:
            mapped.unknown.append(key)
            continue
        name, value = applied
        if part := re.fullmatch(r"(.+)\[(\d)\]", name):
            parts.setdefault(part[1], {})[int(part[2])] = value
        elif name:
            mapped.tensors[name] = value
    for name, pieces in parts.items():
        mapped.tensors[name] = torch.cat([pieces[index] for index in sorted(pieces)])
    return mapped


def _moving_average(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """Return the moving average that mmcv saves in an iteration-based training, and whether it is.

    It is saved as `ema_backbone_conv1_weight` for `backbone.conv1.weight`; batch statistics have
    none. (mmengine saves the average as the weights themselves.)
    """
    plain = {key: tensor for key, tensor in tensors.items() if not key.startswith("ema_")}
    twins = {key: f"ema_{key.replace('.', '_')}" for key in plain}
    average = {key: tensors[twin] for key, twin in twins.items() if twin in tensors}
    learned = {
        key
        for key, tensor in plain.items()
        if tensor.is_floating_point() and not key.endswith(("running_mean", "running_var"))
    }
    if learned - average.keys():  # it is not complete: no mixture
        return plain, False
    return plain | average, bool(average)


def _numbered(key: str) -> str:
    if key.startswith(("decode_head.", "auxiliary_head.")):
        for pattern, number in _IN_CONV_MODULES:
            key = pattern.sub(number, key)
    return key


def _recognize(layouts: Iterable[Layout], keys: Iterable[str]) -> Layout | None:
    names = "\n".join(keys)
    for layout in layouts:
        if all(re.search(rf"^{mark}$", names, re.MULTILINE) for mark in layout.marks):
            return layout
    return None


def _apply(rules: Iterable[Rule], key: str, tensor: Tensor) -> tuple[str, Tensor] | None:
    """Return a key's new name and tensor by the first rule that fits; None if none does."""
    for pattern, name, *change in rules:
        if found := re.fullmatch(pattern, key):
            return found.expand(name), change[0](tensor) if change else tensor
    return None
