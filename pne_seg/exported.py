"""The folder of an export: its files, and the network read back from them."""

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pne_seg.errors import UserError
from pne_seg.imports import Imports
from pne_seg.settings_files import read_json

if TYPE_CHECKING:
    from torch import nn

CARD = "README.md"
NEW_CARD = "README.new.md"
CONFIG = "config.json"
DESCRIPTION = "segmentation.json"
ONNX = "model.onnx"
PREVIEW = "preview.png"
PROGRAM = "model.pt2"
WEIGHTS = "model.safetensors"

FILES = (CARD, NEW_CARD, CONFIG, DESCRIPTION, ONNX, PREVIEW, PROGRAM, WEIGHTS)
"""What an export may hold; `README.new.md` beside a card that the user has edited."""

FORMATS = {"safetensors": WEIGHTS, "onnx": ONNX, "torch": PROGRAM}
"""Format → its file."""

UNFINISHED = "unfinished"
"""Key of a description that says that the export was stopped midway."""


def is_export(folder: Path) -> bool:
    """Return whether a folder holds an export."""
    return (folder / DESCRIPTION).is_file()


def read_export(folder: Path, imports: Imports | None = None) -> "tuple[nn.Module, dict[str, Any]]":
    """Return the network of an export, as `read_network` does, and its `segmentation.json`."""
    import torch  # takes a second, which the names above need not

    try:
        content = read_json(folder / DESCRIPTION)
        if UNFINISHED in content:
            raise UserError(f"{folder} is an export that was stopped midway. Export it again.")
        if not (folder / WEIGHTS).is_file():
            raise UserError(
                f"{folder} holds no {WEIGHTS}, which is what is loaded here. Export it again with "
                "safetensors among the formats."
            )
        network = read_network(folder, imports)
        size = content["files"][WEIGHTS]["size"]
        if size == "any":
            side = -(-64 // content["stride"]) * content["stride"]
            size = (side, side)
        with torch.inference_mode():
            found = network(torch.zeros(1, 3, *size)).shape[1]
        described = len(content["data"]["class_names"])
        if found != described:  # files of two exports, mixed by hand
            raise UserError(
                f"{folder}: the network of {WEIGHTS} has {found} classes, {DESCRIPTION} describes "
                f"{described}; they are of different exports. Export it again."
            )
        return network, content
    except UserError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(
            f"{folder} cannot be read as an export: {' '.join(str(error).split())[:300]}"
        ) from error


def read_network(folder: Path, imports: Imports | None = None) -> "nn.Module":
    """Rebuild a network from `config.json` and `model.safetensors`; on the CPU, in eval mode.

    By default its settings may name nothing beyond this project's packages.
    """
    config = read_json(folder / CONFIG)
    if "class_path" not in config:  # one of smp's or this package's, saved by itself
        from pne_seg.networks import from_pretrained

        with contextlib.redirect_stdout(io.StringIO()):  # huggingface_hub says where it reads from
            return from_pretrained(folder).requires_grad_(False)
    from safetensors.torch import load_model

    from pne_seg.networks.slot import build_network

    network = build_network(config, imports)
    load_model(network, folder / WEIGHTS)
    return network.requires_grad_(False)
