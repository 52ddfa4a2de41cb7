"""A network's weights as safetensors, beside a JSON file that rebuilds it."""

import json
from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
from torch import nn

from pne_seg import networks
from pne_seg.errors import UserError
from pne_seg.exported import CARD, CONFIG, WEIGHTS
from pne_seg.networks.slot import Slot


def write_weights(
    network: nn.Module, slot: Slot, folder: Path, metadata: Mapping[str, str]
) -> None:
    """Write `config.json` and `model.safetensors`.

    smp's networks and this package's write their own `config.json`, so that `smp.from_pretrained`
    or `pne_seg.networks.from_pretrained` loads them. Of any other it holds class and settings.

    Args:
        network: what to save.
        slot: its class and settings.
        folder: where to.
        metadata: goes into the header of the weights' file.

    Raises:
        UserError: the weights cannot be written.
        OSError: another file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    try:
        if loading_library(network) is not None:
            network.save_pretrained(folder)  # type: ignore[operator]
            (folder / CARD).unlink(missing_ok=True)  # smp's own
        else:
            text = json.dumps(slot, indent=2, ensure_ascii=False) + "\n"
            (folder / CONFIG).write_text(text, encoding="utf-8")
        save_model(network, str(folder / WEIGHTS), {"format": "pt", **metadata})
    except SafetensorError as error:  # of a full disk too
        raise UserError(f"{WEIGHTS} cannot be written: {error}") from error


def loading_library(network: nn.Module) -> str | None:
    """Return the library whose `from_pretrained` loads the network; None if there is none."""
    kind = type(network)
    if getattr(smp, kind.__name__, None) is kind:
        return "segmentation_models_pytorch"
    if getattr(networks, kind.__name__, None) is kind:
        return "pne_seg.networks"
    return None
