"""Checkpoints as mmsegmentation publishes them, under weights made by a rule, with its outputs.

They lie beside the checkout, in `shared/mmseg_golden`: names and shapes of each state dict, and
what mmsegmentation 1.2.2 gives under those weights.
"""

import json
import math
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[2].parent / "shared" / "mmseg_golden"
needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"{FOLDER} is not there")

State = OrderedDict[str, Tensor]


def value(key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The rule's values of a tensor."""
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    drawn = np.asarray(normal, np.float32)
    if key.endswith("running_var"):
        return np.asarray(1 + 0.2 * abs(drawn), np.float32)
    if key.endswith("running_mean"):
        return np.asarray(0.1 * drawn, np.float32)
    if len(shape) >= 2:
        return np.asarray(drawn / np.float32(math.sqrt(math.prod(shape[1:]))), np.float32)
    scaled = 1 + 0.1 * drawn if key.endswith("weight") else 0.1 * drawn
    return np.asarray(scaled, np.float32)


def description(name: str) -> dict[str, Any]:
    """`num_classes` and `keys` (name → shape, type) of a network."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def state_dict(name: str) -> State:
    """The checkpoint's weights, under mmsegmentation's names."""
    state: State = OrderedDict()
    for key, (shape, kind) in description(name)["keys"].items():
        if kind == "float32":
            state[key] = torch.from_numpy(value(key, tuple(shape)))
        else:
            state[key] = torch.zeros(shape, dtype=getattr(torch, kind))
    return state


def save_0x(state: State, path: Path) -> Path:
    """As mmsegmentation 0.x published it, in the format of PyTorch before 1.6."""
    meta = {"mmseg_version": "0.16.0", "CLASSES": ("road", "car"), "PALETTE": [[1, 2, 3]]}
    torch.save({"meta": meta, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    return path
