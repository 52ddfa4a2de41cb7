"""Saving networks with `save_pretrained`, and rebuilding any of them from its folder."""

from importlib import import_module
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from huggingface_hub import ModelCard, hf_hub_download
from segmentation_models_pytorch.base.hub_mixin import SMPHubMixin
from torch import nn

from pne_seg.networks.slot import PRETRAINED
from pne_seg.settings_files import read_json

_PACKAGE = "pne_seg.networks"


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
        """Rebuild a saved network of this class, without fetching its pretrained weights first.

        Args:
            *args: the folder, or the name of a repository on the Hugging Face hub.
            strict: refuse a file whose keys differ from the network's.
            **kwargs: settings that replace the saved ones, and `huggingface_hub`'s own.
        """
        parameters = cls._hub_mixin_init_parameters
        for key in PRETRAINED:
            if key in parameters:
                kwargs.setdefault(key, None)
        network = super().from_pretrained(*args, strict=strict, **kwargs)
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
        The network on the CPU, in eval mode.

    Raises:
        ValueError: the folder holds no configuration, or one that names no known class.
    """
    config = read_json(_config_file(path_or_repo, kwargs))
    saved_class = str(config.get("_model_class", "")) if isinstance(config, dict) else ""
    package, _, class_name = saved_class.rpartition(".")
    home = import_module(_PACKAGE) if package == _PACKAGE else smp
    network_class = getattr(home, class_name, None)
    if (
        package not in ("", _PACKAGE)
        or not isinstance(network_class, type)
        or not issubclass(network_class, nn.Module)
    ):
        raise ValueError(
            f"{path_or_repo} holds a network of class {saved_class!r}, which neither {_PACKAGE} "
            "nor segmentation_models_pytorch has."
        )
    for key in PRETRAINED:
        if key in config:
            kwargs.setdefault(key, None)  # the file's weights replace them: do not fetch them
    network: nn.Module = network_class.from_pretrained(  # type: ignore[attr-defined]
        str(path_or_repo), **({"strict": True} | kwargs)
    )
    return network.eval()


def _config_file(path_or_repo: str | Path, settings: dict[str, Any]) -> Path:
    if Path(path_or_repo).is_dir():
        file = Path(path_or_repo) / "config.json"
        if not file.is_file():
            raise ValueError(f"{path_or_repo} has no config.json: save with 'save_pretrained'.")
        return file
    options = ("revision", "token", "cache_dir", "local_files_only", "force_download")
    chosen = {key: settings[key] for key in options if key in settings}
    return Path(hf_hub_download(str(path_or_repo), "config.json", **chosen))
