"""A trained network from its run, checkpoint or export: without Lightning, without its data."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn

from pne_seg.description import IN_CHECKPOINT, DataDescription
from pne_seg.errors import UserError
from pne_seg.export.folder import is_export, read_export
from pne_seg.inference import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Inference,
    Preprocessing,
    network_stride,
)
from pne_seg.networks.slot import Slot, build_network, complete_slot
from pne_seg.runs import CONFIG, RUNS, Run, read_checkpoint, run_of_checkpoint
from pne_seg.terms import TRAINING_TERMS

_NETWORK = "network."
METRICS = "metrics.json"
_EVALUATIONS = {"val": "validate", "test": "test"}


@dataclass(frozen=True)
class Trained:
    """A network as it is deployed, and what it takes to use it.

    Attributes:
        network: bare (no contrast, auxiliary head or hooks), in eval mode, on the CPU.
        preprocessing: the run's normalisation and the network's stride.
        data: classes, colours and image size.
        path: the checkpoint, or the folder of an export.
        slot: class and settings of the network.
        config: all settings of the run; empty for an export.
        inference: how the run scores images (`model.inference`).
        metrics: `metrics.json` of this checkpoint by split, as far as it was scored.
        training_bytes: size of the weights that belong to training alone, by term.
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

    @property
    def run_name(self) -> str:
        """`<name>/<version>` of the run; empty for an export."""
        run = run_of_checkpoint(self.path)
        return "/".join(run.folder.parts[-2:]) if run is not None else ""


def load_trained(path: str | Path) -> Trained:
    """Rebuild a trained network.

    Args:
        path: a run's folder (its best checkpoint), a checkpoint in a run's folder, or the folder of
            an export.

    Raises:
        UserError: it is none of these, the file is damaged, or weights and settings do not go
            together.
    """
    path = Path(path)
    if path.is_dir():
        if is_export(path):
            return _of_export(path)
        run = Run(path)
        if not run.config.is_file():
            raise UserError(
                f"{path} is neither a run's folder ({RUNS}/<name>/<version>, with {CONFIG}) nor "
                "that of an export (with segmentation.json)."
            )
        return _of_checkpoint(run.checkpoint("best"), run)
    if not path.exists():
        raise UserError(f"{path} does not exist. Give a run's folder, a checkpoint or an export.")
    if path.suffix != ".ckpt":
        raise UserError(
            f"{path} is no checkpoint (.ckpt). Of an export give the folder, not a file in it."
        )
    found = run_of_checkpoint(path)
    if found is None:
        raise UserError(
            f"{path} lies in no run's folder, so that its network's settings are not known. Put it "
            f"into the folder {RUNS}/<name>/<version>/checkpoints/ of its run, beside whose "
            f"{CONFIG} it belongs."
        )
    return _of_checkpoint(path, found)


def _of_export(folder: Path) -> Trained:
    network, content = read_export(folder)
    return Trained(
        network=network,
        preprocessing=Preprocessing(content["mean"], content["std"], int(content["stride"])),
        data=DataDescription.from_dict(content["data"]),
        path=folder,
        slot=content["network"]["settings"],
        inference=Inference(**content["inference"]),
        metrics=content.get("metrics") or {},
    )


def _of_checkpoint(path: Path, run: Run) -> Trained:
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    settings = config.get("model") if isinstance(config, dict) else None
    if not isinstance(settings, dict) or not settings.get("network"):
        raise UserError(f"{run.config} names no network (model.network). Give a run's own folder.")
    checkpoint = read_checkpoint(path)
    state: dict[str, Tensor] = checkpoint["state_dict"]
    data = _description(checkpoint, config, run)
    slot = complete_slot(settings["network"], len(data.class_names))
    network = build_network(slot)
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
    inference = Inference(**(settings.get("inference") or {}))
    preprocessing = Preprocessing(
        settings.get("mean") or IMAGENET_MEAN,
        settings.get("std") or IMAGENET_STD,
        network_stride(network),
    )
    return Trained(
        network=network.requires_grad_(False),
        preprocessing=preprocessing,
        data=data,
        path=path,
        slot=slot,
        config=config,
        inference=inference,
        metrics=_metrics(path, checkpoint.get("global_step"), run, inference),
        training_bytes=_training_bytes(state),
    )


def _description(checkpoint: dict[str, Any], config: dict[str, Any], run: Run) -> DataDescription:
    """What the checkpoint says of its data; an older one has the data set say it itself."""
    if IN_CHECKPOINT in checkpoint:
        return DataDescription.from_dict(checkpoint[IN_CHECKPOINT])
    try:
        from jsonargparse import ArgumentParser

        from pne_seg.data import SegmentationDataModule

        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--data", type=SegmentationDataModule)
        given = parser.parse_object({"data": config.get("data")})
        data: SegmentationDataModule = parser.instantiate(given).data
        return data.description
    except Exception as error:  # a class of anyone's fails as it likes
        raise UserError(
            "The checkpoint is older than this program and does not name its classes, and the data "
            f"set of {run.config} cannot be asked: {' '.join(str(error).split())[:200]}\n"
            "  Put the data where `data` in that file says, or change it there."
        ) from error


def _metrics(
    path: Path, step: int | None, run: Run, inference: Inference
) -> dict[str, dict[str, Any]]:
    """The scores of this very checkpoint by split, as the run's own protocol gives them.

    The run's are those of the step that they name. Those of a later evaluation stand under the
    checkpoint's name, and are its own unless it was written after them.
    """
    found: dict[str, dict[str, Any]] = {}
    own = run.folder / METRICS
    if own.is_file():
        metrics = _read_metrics(own)
        if metrics.get("step") == step:
            found["val"] = metrics
    for split, verb in _EVALUATIONS.items():
        file = run.evaluation(verb, path, inference.label) / METRICS
        if file.is_file() and file.stat().st_mtime >= path.stat().st_mtime:
            found[split] = _read_metrics(file)
    return found


def _read_metrics(file: Path) -> dict[str, Any]:
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}). Remove it, or score again.") from error
    return metrics if isinstance(metrics, dict) else {}


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
