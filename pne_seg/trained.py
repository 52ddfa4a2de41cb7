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
from pne_seg.networks.slot import Slot, build, build_network, complete_slot
from pne_seg.pretrained.locating import HUB, fetch_from_hub, locate, shown_source
from pne_seg.recorded_metrics import recorded_metrics
from pne_seg.runs import CONFIG, RUNS, Run, run_of_checkpoint
from pne_seg.settings_files import read_yaml
from pne_seg.training_loss import TRAINING_TERMS
from pne_seg.weight_loading import fill_network

if TYPE_CHECKING:
    from pne_seg.data import SegmentationDataModule

_WITH_CONFIG = "For weights from elsewhere, give the config of their network and data too."


@dataclass(frozen=True)
class Trained:
    """A network as it is deployed, and what it takes to use it.

    It is bare (no contrast, auxiliary head or hooks), in eval mode, on the CPU.
    """

    network: nn.Module
    preprocessing: Preprocessing
    data: DataDescription
    path: Path  # the checkpoint, or the folder of an export
    slot: Slot = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)  # of the run; empty for an export
    inference: Inference = field(default_factory=Inference)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)  # of this checkpoint, by split
    training_bytes: dict[str, int] = field(default_factory=dict)  # of weights only for training
    source: str = ""  # of weights from elsewhere, as it may be published
    loaded: str = ""  # what became of each tensor of these
    imports: Imports = field(default_factory=lambda: Imports(own=True))  # of the slot

    @property
    def run_name(self) -> str:
        """`<name>/<version>` of the run; empty for an export."""
        # The folder RUN/export/best lies in a run too, but may have come from anywhere.
        is_checkpoint = self.path.suffix == ".ckpt" and not self.source
        run = run_of_checkpoint(self.path) if is_checkpoint else None
        return "/".join(run.folder.parts[-2:]) if run is not None else ""


def load_trained(
    source: str | Path, config: Mapping[str, Any] | None = None, imports: Imports | None = None
) -> Trained:
    """Rebuild a trained network.

    Args:
        source: as `path` of `pne_seg.load`.
        config: settings of network and data, of which weights from elsewhere say nothing.
        imports: what the settings may name; by default this project's packages, and for a `config`
            or a run below the working directory's `runs` the user's own modules too.
    """
    imports = imports or Imports()
    if config is not None:
        return _of_weights(str(source), config, replace(imports, own=True))
    if str(source).startswith(("hf://", "http://", "https://")):
        return _of_export(_fetched_export(str(source)), imports)
    path = Path(source).expanduser()
    if is_export(path):
        return _of_export(path, imports)
    run = Run(path) if path.is_dir() else run_of_checkpoint(path)
    if not path.exists():
        raise UserError(f"{path} does not exist. Give a run's folder, a checkpoint or an export.")
    if path.is_dir() and run is not None and run.config.is_file():
        return _of_checkpoint(run.checkpoint("best"), run, imports)
    if path.suffix == ".ckpt" and run is not None:
        return _of_checkpoint(path, run, imports)
    if path.is_dir():
        reason = (
            f"is neither a run's folder ({RUNS}/<name>/<version>, with {CONFIG}) nor that of an "
            f"export (with {DESCRIPTION})."
        )
    elif path.suffix == ".ckpt":
        reason = (
            "lies in no run's folder, so that its network's settings are not known. Put it into "
            f"{RUNS}/<name>/<version>/checkpoints/ of its run, which holds its {CONFIG}."
        )
    else:
        reason = "is no checkpoint (.ckpt). Of an export give the folder, not a file in it."
    raise UserError(f"{path} {reason} {_WITH_CONFIG}")


def build_data(config: Mapping[str, Any], imports: Imports) -> "SegmentationDataModule":
    """Build the data set of a run's settings; its files are not looked at."""
    from pne_seg.data import SegmentationDataModule

    data: SegmentationDataModule = build(
        config.get("data"), SegmentationDataModule, "data", imports
    )
    return data


def _fetched_export(source: str) -> Path:
    """Return the folder in the Hugging Face cache that an export's files are fetched to."""
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
    trained = _untrained(config, data, locate(source), "config", imports)
    loaded = fill_network(trained.network, source, data.class_names)
    shown = shown_source(source) if "://" in source else Path(source).name  # no local path
    return replace(trained, source=shown, loaded=str(loaded))


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
    data = description_in(checkpoint, path) or _description_from(config, run, imports)
    trained = _untrained(config, data, path, str(run.config), imports)
    state: dict[str, Tensor] = checkpoint["state_dict"]
    parts = {part: _below(state, part) for part in ("network", *TRAINING_TERMS)}
    try:
        trained.network.load_state_dict(parts.pop("network"))
    except RuntimeError as error:
        raise UserError(
            f"The weights in {path} are not those of the network that {run.config} describes; the "
            f"one was not trained with the other.\n  {' '.join(str(error).split())[:300]}"
        ) from error
    step, mean_and_std = checkpoint.get("global_step"), trained.preprocessing.normalization
    sizes = {term: sum(tensor.nbytes for tensor in part.values()) for term, part in parts.items()}
    return replace(
        trained,
        metrics=recorded_metrics(path, step, run, data, trained.inference, mean_and_std),
        training_bytes={term: size for term, size in sizes.items() if size},
    )


def _below(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}


def _description_from(config: dict[str, Any], run: Run, imports: Imports) -> DataDescription:
    """Let the data set describe itself, as an older checkpoint says nothing of it."""
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


def _untrained(
    config: Mapping[str, Any], data: DataDescription, path: Path, where: str, imports: Imports
) -> Trained:
    """Build the network of a run's settings, which `where` names in messages."""
    settings = config["model"]
    slot = complete_slot(settings["network"], len(data.class_names), imports)
    network = build_network(slot, imports).requires_grad_(False)
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
    return Trained(
        network, preprocessing, data, path, slot, dict(config), inference, imports=imports
    )


def read_settings(file: Path) -> dict[str, Any]:
    """Read a YAML file of settings; empty if it holds none."""
    try:
        content = read_yaml(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}.") from error
    except UserError as error:
        raise UserError(
            f"{error}\n  Correct it there, or put back the file that the run wrote."
        ) from error
    return content if isinstance(content, dict) else {}
