"""Read weights of runs, files, exports, the Hugging Face hub and model zoos.

A source is located (`locating`), its tensors are read without running code (`reading`), and renamed
to this project's names by the tables of `layouts`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pne_seg.errors import UserError
from pne_seg.pretrained.layouts import AUXILIARY, BACKBONES, HEADS, MMSEG_SWIN, Layout
from pne_seg.pretrained.locating import config_beside, locate
from pne_seg.pretrained.reading import classes_of_config, read_tensors

__all__ = ["Weights", "map_names", "read_weights"]


@dataclass
class Weights:
    """The tensors of a source, by their names in `SegmentationModule`."""

    tensors: dict[str, Tensor]
    library: str = ""  # whose names were mapped
    unknown: list[str] = field(default_factory=list)  # keys that no layout names
    averaged: bool = False  # whether a moving average was taken instead of the last weights
    class_names: tuple[str, ...] = ()


def read_weights(source: str) -> Weights:
    """Read weights of this project, smp, mmsegmentation or transformers.

    Args:
        source: a file or folder (run, checkpoint, state dict, safetensors, export, saved network),
            `hf://OWNER/NAME[@REVISION][/FILE]`, or an http(s) address of a file.
    """
    file = locate(source)
    tensors, named = read_tensors(file, source)
    try:
        weights = map_names(tensors)
    except (RuntimeError, IndexError) as error:
        raise UserError(
            f"{source}: its names are those of another library, but the tensors have other "
            f"dimensions ({' '.join(str(error).split())[:120]}). Download it again."
        ) from error
    if weights.library == "transformers" and (config := config_beside(file, source)):
        named = classes_of_config(config)
    weights.class_names = named
    return weights


def map_names(tensors: Mapping[str, Tensor]) -> Weights:
    """Rename another library's tensors to their names in `SegmentationModule`, if recognized."""
    if not any(key.startswith("decode_head.") for key in tensors):
        return Weights(dict(tensors))
    given, averaged = _moving_average(tensors)
    plain = {_numbered(key): tensor for key, tensor in given.items()}
    found = [_recognize(layouts, plain) for layouts in (BACKBONES, HEADS)]
    layouts = [layout for layout in found if layout is not None]
    if not layouts:
        return Weights(dict(tensors))
    names = {there: here for layout in layouts for there, here in layout.names.items()} | AUXILIARY
    patterns = [
        (re.compile(re.escape(there).replace(r"\{\}", r"(\d+)") + r"((?:\..+)?)"), here)
        for there, here in names.items()
    ]
    mapped = Weights({}, layouts[0].library, averaged=averaged)
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in plain.items():
        matches = ((pattern.fullmatch(key), here) for pattern, here in patterns)
        match, here = next(((match, here) for match, here in matches if match), (None, ""))
        if match is None:
            mapped.unknown.append(key)
        elif here:
            *numbers, rest = match.groups()
            name, _, part = here.format(*numbers).partition("[")
            if layouts[0] is MMSEG_SWIN and ".downsample." in key:
                tensor = _merging_from_unfold(tensor)
            if part:
                parts.setdefault(name + rest, {})[part] = tensor
            else:
                mapped.tensors[name + rest] = tensor
    for name, pieces in parts.items():
        mapped.tensors[name] = torch.cat([pieces[part] for part in sorted(pieces)])
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
    """Enumerate the parts of a ConvModule in a head, convolution and norm, as ours are."""
    if key.startswith(("decode_head.", "auxiliary_head.")):
        key = re.sub(r"\.(bn|batch_norm)\.", ".1.", key.replace(".conv.", ".0."))
    return key


def _recognize(layouts: Sequence[Layout], keys: Collection[str]) -> Layout | None:
    for layout in layouts:
        if all(any(key.startswith(mark) for key in keys) for mark in layout.marks):
            return layout
    return None


def _merging_from_unfold(tensor: Tensor) -> Tensor:
    """Permute (…, 4·C) from unfolding's channel × row × column to timm's column × row × channel."""
    parts: Tensor = tensor.unflatten(-1, (-1, 2, 2))
    return parts.transpose(-3, -1).flatten(-3)
