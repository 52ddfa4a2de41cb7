"""The folder of an export: its files, and the network read back from them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from torch import nn

from pne_seg.errors import UserError
from pne_seg.networks.slot import build_network

CARD = "README.md"
CONFIG = "config.json"
DESCRIPTION = "segmentation.json"
ONNX = "model.onnx"
PREVIEW = "preview.png"
PROGRAM = "model.pt2"
WEIGHTS = "model.safetensors"

FILES = (CARD, CONFIG, DESCRIPTION, ONNX, PREVIEW, PROGRAM, WEIGHTS)
"""What an export may hold; a folder with nothing else is one of an earlier export, and replaced."""

FORMATS = {"safetensors": WEIGHTS, "onnx": ONNX, "torch": PROGRAM}
"""Format → its file."""


def is_export(folder: Path) -> bool:
    """Whether a folder is one of an export."""
    return (folder / DESCRIPTION).is_file()


def read_export(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild the network of an export.

    Returns:
        The network on the CPU, in eval mode, and what `segmentation.json` holds.

    Raises:
        UserError: the weights are missing or damaged, or the network's class is not here.
    """
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if not (folder / WEIGHTS).is_file():
            raise UserError(
                f"{folder} holds no {WEIGHTS}, which is what is loaded here. Export it again with "
                "safetensors among the --formats."
            )
        return read_network(folder), content
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(
            f"{folder} cannot be read as an export: {' '.join(str(error).split())[:300]}"
        ) from error


def read_network(folder: Path) -> nn.Module:
    """Rebuild a network from `config.json` and `model.safetensors`; CPU, eval mode."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if "class_path" not in config:  # one of smp's or this package's, saved by itself
        from pne_seg.networks import from_pretrained

        with contextlib.redirect_stdout(io.StringIO()):  # huggingface_hub says where it reads from
            return from_pretrained(folder).requires_grad_(False)
    from safetensors.torch import load_model

    network = build_network(config)
    load_model(network, folder / WEIGHTS)
    return network.requires_grad_(False)
