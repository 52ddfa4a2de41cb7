"""Build networks from what was saved of them: a config's `model.network`, or a saved folder."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from huggingface_hub import ModelCard, hf_hub_download
from segmentation_models_pytorch.base.hub_mixin import SMPHubMixin
from torch import nn

from pne_seg.errors import UserError
from pne_seg.imports import Imports, RefusedImportError
from pne_seg.settings_files import read_json

CLASS_COUNTS = ("classes", "num_classes")
"""Names of networks' arguments for the number of classes."""
PRETRAINED = ("encoder_weights", "weights_backbone")
"""Names of networks' arguments for pretrained weights."""

Slot = dict[str, Any]
"""`class_path`, `init_args` and `dict_kwargs`."""

_KEY = "model.network"
_PACKAGE = "pne_seg.networks"


def complete_slot(
    given: str | Mapping[str, Any], num_classes: int, imports: Imports | None = None
) -> Slot:
    """Complete a slot by the data's number of classes, without pretrained weights to fetch.

    It is a class path, alone or with `init_args` and `dict_kwargs`. By default it may name nothing
    beyond this project's packages.
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


def _parameters(class_path: str, imports: Imports) -> set[str]:
    """Return the names of a class's settings, including those forwarded by **kwargs."""
    from jsonargparse import ArgumentParser

    try:
        found = imports.resolve(class_path, _KEY)
    except RefusedImportError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"The network's class {class_path} cannot be found here ({error}). Start where the "
            "training was started, so that Python finds its file, or install its package."
        ) from error
    try:
        parser = ArgumentParser(exit_on_error=False)
        return set(parser.add_class_arguments(found, fail_untyped=False))
    except Exception as error:  # not a class, or one without a signature
        raise UserError(f"{class_path} is no class whose settings can be read: {error}") from error


def build_network(slot: Slot, imports: Imports | None = None) -> nn.Module:
    """Build a network from its slot; in eval mode."""
    network: nn.Module = build(slot, nn.Module, _KEY, imports or Imports())
    return network.eval()


def build(settings: Any, base: type, key: str, imports: Imports) -> Any:
    """Build what the settings under a key name, types converted as on the command line."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--built", type=base)
    try:
        with imports.enforced(settings):
            config = parser.parse_object({"built": settings})
            imports.check(config.built, key)
            return parser.instantiate(config).built
    except RefusedImportError:
        raise
    except Exception as error:  # third-party classes raise anything
        if refusal := imports.refused_in(settings, key):
            raise refusal from error
        raise UserError(
            f"{key} cannot be built from its saved settings: {' '.join(str(error).split())[:300]}"
        ) from error


class HubMixin(SMPHubMixin):  # type: ignore[misc]  # smp is untyped
    """`save_pretrained` and `from_pretrained` for the networks of this package.

    The saved class name carries the package (`pne_seg.networks.DeepLabV3`), because smp has classes
    of the same name.
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        self.config["_model_class"] = f"{_PACKAGE}.{type(self).__name__}"
        super()._save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, *args: Any, strict: bool = True, **kwargs: Any) -> Any:
        """Rebuild a saved network of this class, as the function `from_pretrained` does."""
        random = {key: None for key in PRETRAINED if key in cls._hub_mixin_init_parameters}
        network = super().from_pretrained(*args, strict=strict, **(random | kwargs))
        return network.eval()  # not every version of huggingface_hub does

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """Return smp's model card, with the line that loads this network."""
        card: ModelCard = super().generate_model_card(*args, **kwargs)
        card.content = card.content.replace(
            "import segmentation_models_pytorch as smp", f"from {_PACKAGE} import from_pretrained"
        ).replace("smp.from_pretrained(", "from_pretrained(")
        return card


def from_pretrained(path_or_repo: str | Path, **kwargs: Any) -> nn.Module:
    """Rebuild a network that was saved with `save_pretrained`, of this package or of smp.

    Args:
        path_or_repo: folder, or the name of a repository on the Hugging Face hub.
        **kwargs: settings that replace the saved ones, and `huggingface_hub`'s own (`revision`,
            `token`, `cache_dir`, `local_files_only`, `force_download`).

    Returns:
        The network on the CPU, in eval mode, its weights from the file only.
    """
    if not Path(path_or_repo).is_dir():
        options = ("revision", "token", "cache_dir", "local_files_only", "force_download")
        chosen = {key: kwargs[key] for key in options if key in kwargs}
        file = Path(hf_hub_download(str(path_or_repo), "config.json", **chosen))
    elif not (file := Path(path_or_repo, "config.json")).is_file():
        raise ValueError(f"{path_or_repo} has no config.json: save with 'save_pretrained'.")
    config = read_json(file)
    saved_class = str(config.get("_model_class", "")) if isinstance(config, dict) else ""
    package, _, class_name = saved_class.rpartition(".")
    home = {"": smp, _PACKAGE: import_module(_PACKAGE)}.get(package)
    network_class = getattr(home, class_name, None)
    if not isinstance(network_class, type) or not issubclass(network_class, nn.Module):
        raise ValueError(
            f"{path_or_repo} holds a network of class {saved_class!r}, which neither {_PACKAGE} "
            "nor segmentation_models_pytorch has."
        )
    # The file's weights replace them: do not fetch them.
    random = {key: None for key in PRETRAINED if key in config}
    loader: Any = network_class
    network: nn.Module = loader.from_pretrained(
        str(path_or_repo), **({"strict": True} | random | kwargs)
    )
    return network.eval()
