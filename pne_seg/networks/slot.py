"""The entry `model.network` of a configuration, and how to build the network from it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from pne_seg.errors import UserError
from pne_seg.imports import Imports, RefusedImportError

CLASS_COUNTS = ("classes", "num_classes")
"""Names of networks' arguments for the number of classes."""
PRETRAINED = ("encoder_weights", "weights_backbone")
"""Names of networks' arguments for pretrained weights."""

Slot = dict[str, Any]
"""`class_path`, `init_args` and `dict_kwargs`."""


_KEY = "model.network"


def complete_slot(
    given: str | Mapping[str, Any], num_classes: int, imports: Imports | None = None
) -> Slot:
    """Complete a slot by the data's number of classes, without pretrained weights to fetch.

    Args:
        given: as in a saved config; a class path, alone or with `init_args` and `dict_kwargs`.
        num_classes: set if the class takes it.
        imports: what the slot may name; nothing beyond this project's packages by default.

    Raises:
        UserError: there is no such class here, or the slot may not name it.
    """
    slot: Slot = {"class_path": given} if isinstance(given, str) else dict(given)
    names = _parameters(str(slot.get("class_path")), imports or Imports())
    settings = dict(slot.get("init_args") or {})
    settings |= {name: num_classes for name in CLASS_COUNTS if name in names}
    settings |= {name: None for name in PRETRAINED if name in names}
    completed: Slot = {"class_path": str(slot["class_path"]), "init_args": settings}
    if slot.get("dict_kwargs"):
        completed["dict_kwargs"] = dict(slot["dict_kwargs"])
    return completed


def build_network(slot: Slot, imports: Imports | None = None) -> nn.Module:
    """Build a network from its slot, types converted as on the command line; in eval mode.

    Args:
        slot: as `complete_slot` makes it.
        imports: what the slot may name; nothing beyond this project's packages by default.

    Raises:
        UserError: the class refuses its settings, or the slot names what it may not.
    """
    from jsonargparse import ArgumentParser

    imports = imports or Imports()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--network", type=nn.Module)
    try:
        with imports.enforced(slot):
            config = parser.parse_object({"network": slot})
            imports.check(config.network, _KEY)
            network: nn.Module = parser.instantiate(config).network
    except RefusedImportError:
        raise
    except Exception as error:  # third-party classes raise anything
        if refusal := imports.refused_in(slot, _KEY):
            raise refusal from error
        raise UserError(
            f"{slot['class_path']} cannot be built from its saved settings: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return network.eval()


def _parameters(class_path: str, imports: Imports) -> set[str]:
    """Return the names of a class's settings, including those forwarded by **kwargs."""
    from jsonargparse import ArgumentParser

    try:
        found = imports.resolve(class_path, _KEY)
    except RefusedImportError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The network's class {class_path} is not to be found here ({error}). Start where the "
            "training was started, so that Python finds its file, or install its package."
        ) from error
    try:
        parser = ArgumentParser(exit_on_error=False)
        return set(parser.add_class_arguments(found, fail_untyped=False))
    except Exception as error:  # not a class, or one without a signature
        raise UserError(f"{class_path} is no class whose settings can be read: {error}") from error
