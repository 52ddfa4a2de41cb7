"""A trained network from its run, its export, or weights and a config; without its data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.description import DataDescription, description_in
from pne_seg.errors import UserError
from pne_seg.exported import CONFIG as NETWORK_CONFIG
from pne_seg.exported import DESCRIPTION, WEIGHTS, is_export, read_export
from pne_seg.imports import Imports, RefusedImportError, is_own
from pne_seg.inference import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Inference,
    Preprocessing,
    network_stride,
)
from pne_seg.networks.slot import Slot, build_network, complete_slot
from pne_seg.pretrained.locating import HUB, fetch_from_hub, locate, shown_source
from pne_seg.recorded_metrics import recorded_metrics
from pne_seg.runs import CONFIG, RUNS, Run, run_of_checkpoint
from pne_seg.settings_files import read_yaml
from pne_seg.training_loss import TRAINING_TERMS
from pne_seg.weight_loading import fill_network

if TYPE_CHECKING:
    from pne_seg.data import SegmentationDataModule

_NETWORK = "network."
_WITH_CONFIG = "For weights from elsewhere, give the config of their network and data too."


@dataclass(frozen=True)
class Trained:
    """A network as it is deployed, and what it takes to use it.

    Attributes:
        network: bare (no contrast, auxiliary head or hooks), in eval mode, on the CPU.
        preprocessing: the run's normalization and the network's stride.
        data: classes, colors and image size.
        path: the checkpoint, or the folder of an export.
        slot: class and settings of the network.
        config: all settings of the run; empty for an export.
        inference: how the run scores images (`model.inference`).
        metrics: `metrics.json` of this checkpoint by split, as far as it was scored.
        training_bytes: size of the weights that belong to training alone, by term.
        source: of weights from elsewhere, as it may be published; empty for a run and an export.
        loaded: what became of each tensor of these.
        imports: what the slot may name when the network is built again.
    """

    network: nn.Module
    preprocessing: Preprocessing
    data: DataDescription
    path: Path
    slot: Slot = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    inference: Inference = field(default_factory=Inference)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    training_bytes: dict[str, int] = field(default_factory=dict)
    source: str = ""
    loaded: str = ""
    imports: Imports = field(default_factory=lambda: Imports(own=True))

    @property
    def run_name(self) -> str:
        """`<name>/<version>` of the run; empty for an export."""
        # The folder RUN/export/best lies in a run too, but may have come from anywhere.
        is_checkpoint = self.path.suffix == ".ckpt" and not self.source
        run = run_of_checkpoint(self.path) if is_checkpoint else None
        return "/".join(run.folder.parts[-2:]) if run is not None else ""


def load_trained(
    source: str | Path,
    config: Mapping[str, Any] | None = None,
    imports: Imports | None = None,
) -> Trained:
    """Rebuild a trained network.

    Args:
        source: a run's folder (its best checkpoint), a checkpoint in a run's folder, the folder of
            an export, or an export on the Hugging Face hub, `hf://OWNER/NAME[@REVISION]`; `~` is
            the user's home. With a `config` any source of weights, as for
            `pne_seg.pretrained.read_weights`.
        config: settings of network and data, of which weights from elsewhere say nothing; they are
            the user's own.
        imports: what the settings may name. By default nothing beyond the packages that belong to
            this project, and for a `config` or a run below the working directory's `runs` the
            user's own modules.

    Raises:
        UserError: it is none of these, a file is damaged, weights and settings do not go together,
            or the settings name what they may not.
    """
    imports = imports or Imports()
    if config is not None:
        return _of_weights(str(source), config, replace(imports, own=True))
    if str(source).startswith(("hf://", "http://", "https://")):
        return _of_export(_fetched_export(str(source)), imports)
    path = Path(source).expanduser()
    if path.is_dir():
        if is_export(path):
            return _of_export(path, imports)
        run = Run(path)
        if not run.config.is_file():
            raise UserError(
                f"{path} is neither a run's folder ({RUNS}/<name>/<version>, with {CONFIG}) nor "
                f"that of an export (with {DESCRIPTION}). {_WITH_CONFIG}"
            )
        return _of_checkpoint(run.checkpoint("best"), run, imports)
    if not path.exists():
        raise UserError(f"{path} does not exist. Give a run's folder, a checkpoint or an export.")
    if path.suffix != ".ckpt":
        raise UserError(
            f"{path} is no checkpoint (.ckpt). Of an export give the folder, not a file in it. "
            f"{_WITH_CONFIG}"
        )
    found = run_of_checkpoint(path)
    if found is None:
        raise UserError(
            f"{path} lies in no run's folder, so that its network's settings are not known. Put it "
            f"into the folder {RUNS}/<name>/<version>/checkpoints/ of its run, beside whose "
            f"{CONFIG} it belongs. {_WITH_CONFIG}"
        )
    return _of_checkpoint(path, found, imports)


def build_data(config: Mapping[str, Any], imports: Imports) -> "SegmentationDataModule":
    """Build the configured data set; its files are not looked at.

    Args:
        config: settings of a run.
        imports: what they may name.

    Raises:
        UserError: the settings are not valid, or name what they may not.
    """
    from jsonargparse import ArgumentParser

    from pne_seg.data import SegmentationDataModule

    try:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--data", type=SegmentationDataModule)
        with imports.enforced(config.get("data")):
            given = parser.parse_object({"data": config.get("data")})
            imports.check(given.data, "data")
            data: SegmentationDataModule = parser.instantiate(given).data
        return data
    except RefusedImportError:
        raise
    except Exception as error:  # a third-party class fails as it likes
        if refusal := imports.refused_in(config.get("data"), "data"):
            raise refusal from error
        raise UserError(f"data cannot be built: {' '.join(str(error).split())[:200]}") from error


def _fetched_export(source: str) -> Path:
    """The folder in the Hugging Face cache that an export's files are fetched to."""
    if not (hub := HUB.fullmatch(source)) or hub[3]:
        raise UserError(f"{source} names weights, not an export. {_WITH_CONFIG}")
    try:
        folder = fetch_from_hub(hub[1], [DESCRIPTION], hub[2]).parent
    except UserError as error:
        raise UserError(f"{error} {_WITH_CONFIG}") from error
    for name in (NETWORK_CONFIG, WEIGHTS):
        fetch_from_hub(hub[1], [name], hub[2])
    return folder


def _of_weights(source: str, config: Mapping[str, Any], imports: Imports) -> Trained:
    settings = config.get("model")
    if not isinstance(settings, dict) or not settings.get("network") or not config.get("data"):
        raise UserError("The config names no network (model.network) or no data. Give a whole one.")
    data = build_data(config, imports).description
    slot = complete_slot(settings["network"], len(data.class_names), imports)
    network = build_network(slot, imports)
    loaded = fill_network(network, source, data.class_names)
    inference, preprocessing = _usage(settings, network, "config")
    return Trained(
        network=network.requires_grad_(False),
        preprocessing=preprocessing,
        data=data,
        path=locate(source),
        slot=slot,
        config=dict(config),
        inference=inference,
        source=shown_source(source) if "://" in source else Path(source).name,  # no local path
        loaded=str(loaded),
        imports=imports,
    )


def _of_export(folder: Path, imports: Imports) -> Trained:
    imports = replace(imports, own=False)  # wherever it lies, it may have come from anywhere
    network, content = read_export(folder, imports)
    try:
        return Trained(
            network=network,
            preprocessing=Preprocessing(content["mean"], content["std"], int(content["stride"])),
            data=DataDescription.from_dict(content["data"]),
            path=folder,
            slot=content["network"]["settings"],
            inference=Inference(**content["inference"]),
            metrics=content.get("metrics") or {},
            imports=imports,
        )
    except Exception as error:  # values of other kinds fail in many ways
        raise UserError(
            f"{folder / DESCRIPTION} is damaged ({repr(error)[:200]}). Export it again."
        ) from error


def _of_checkpoint(path: Path, run: Run, imports: Imports) -> Trained:
    imports = replace(imports, own=imports.own or is_own(run.folder))
    config = read_settings(run.config)
    settings = config.get("model")
    if not isinstance(settings, dict) or not settings.get("network"):
        raise UserError(f"{run.config} names no network (model.network). Give a run's own folder.")
    checkpoint = read_checkpoint(path)
    state: dict[str, Tensor] = checkpoint["state_dict"]
    data = _description(checkpoint, path, config, run, imports)
    slot = complete_slot(settings["network"], len(data.class_names), imports)
    network = build_network(slot, imports)
    weights = {
        name.removeprefix(_NETWORK): tensor
        for name, tensor in state.items()
        if name.startswith(_NETWORK)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"The weights in {path} are not those of the network that {run.config} describes; the "
            f"one was not trained with the other.\n  {' '.join(str(error).split())[:300]}"
        ) from error
    inference, preprocessing = _usage(settings, network, str(run.config))
    return Trained(
        network=network.requires_grad_(False),
        preprocessing=preprocessing,
        data=data,
        path=path,
        slot=slot,
        config=config,
        inference=inference,
        metrics=recorded_metrics(
            path,
            checkpoint.get("global_step"),
            run,
            data,
            inference,
            preprocessing.normalization,
        ),
        training_bytes=_training_bytes(state),
        imports=imports,
    )


def read_settings(file: Path) -> dict[str, Any]:
    """Read a YAML file of settings; empty where it holds none.

    Raises:
        UserError: it is missing, no YAML, or too large for settings.
    """
    try:
        content = read_yaml(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}.") from error
    except UserError as error:
        raise UserError(
            f"{error}\n  Correct it there, or put back the file that the run wrote."
        ) from error
    return content if isinstance(content, dict) else {}


def _usage(
    settings: Mapping[str, Any], network: nn.Module, where: str
) -> tuple[Inference, Preprocessing]:
    """How images are shown to a network, by the settings of its training module."""
    try:
        inference = Inference(**(settings.get("inference") or {}))
        preprocessing = Preprocessing(
            settings.get("mean") or IMAGENET_MEAN,
            settings.get("std") or IMAGENET_STD,
            network_stride(network),
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: model.inference, model.mean or model.std is not as a run writes it "
            f"({error}). Correct it there."
        ) from error
    return inference, preprocessing


def _description(
    checkpoint: dict[str, Any], path: Path, config: dict[str, Any], run: Run, imports: Imports
) -> DataDescription:
    """What the checkpoint says of its data; an older one has the data set say it itself."""
    if found := description_in(checkpoint, path):
        return found
    try:
        return build_data(config, imports).description
    except RefusedImportError:
        raise
    except UserError as error:
        raise UserError(
            "The checkpoint is older than this program and does not name its classes, and the data "
            f"set of {run.config} cannot be asked: {error}\n"
            "  Put the data where `data` in that file says, or change it there."
        ) from error


def _training_bytes(state: dict[str, Tensor]) -> dict[str, int]:
    sizes = {
        term: sum(
            tensor.numel() * tensor.element_size()
            for name, tensor in state.items()
            if name.startswith(f"{term}.")
        )
        for term in TRAINING_TERMS
    }
    return {term: size for term, size in sizes.items() if size}
