"""Settings of Lightning's trainer that cannot work, refused before a run has a folder."""

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchReduceLROnPlateau

from pne_seg.callbacks import BestCheckpoint, ContrastDiagnostics
from pne_seg.data import SegmentationDataModule
from pne_seg.errors import UserError, nearest
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule
from pne_seg.training_loss import loss_name

_LEAST = {
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": 0,
    "min_steps": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_nodes": 1,
    "num_sanity_val_steps": -1,
    "overfit_batches": 0,
    "reload_dataloaders_every_n_epochs": 0,
    **{f"limit_{part}_batches": 0 for part in ("train", "val", "test", "predict")},
}
_NOTHING = ("max_epochs", "max_steps", "limit_train_batches")
"""Of these, 0 ends a training that has not begun."""
_UNFIT = {
    "BatchSizeFinder": "would train with a batch size that the run's config does not name. Give "
    "--data.batch_size; where memory runs out, the message names a smaller one.",
    "LearningRateFinder": "needs the rate as an attribute of the module, which has an optimizer. "
    "Give --model.optimizer.lr; sweep compares several.",
    "BackboneFinetuning": "needs a module with a backbone, which this has not. Give "
    "--model.parameter_groups.head_lr 10 for a larger rate outside the encoder.",
}
"""Callbacks of Lightning, and why they cannot be used."""
_GPUS = ("cuda", "mps")


def check_trainer(verb: str, trainer: Mapping[str, Any]) -> None:
    """Refuse numbers out of range, contradictions, and devices that this machine lacks."""
    for key, least in _LEAST.items():
        value = trainer.get(key)
        if value is not None and value < least:
            raise UserError(f"--trainer.{key} {value}: expected {least} or more.")
        if verb == "fit" and key in _NOTHING and value == 0:
            raise UserError(
                f"--trainer.{key} {value}: nothing would be trained. Give 1 or more; to compute "
                "metrics only, use validate or test."
            )
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}") or 0, trainer.get(f"max_{unit}")
        if most not in (None, -1) and least > most:
            raise UserError(
                f"--trainer.min_{unit} {least} is above --trainer.max_{unit} {most}. Raise that "
                "one, or leave the least out."
            )
    if trainer.get("barebones"):
        raise UserError(
            "--trainer.barebones true switches off loggers, checkpoints and validation before the "
            "training, which a run is made of. Leave it out; `python -m benchmarks.networks` "
            "measures speed."
        )
    _check_accelerator(trainer.get("accelerator"), trainer.get("devices"))
    _check_strategy(trainer.get("strategy"))
    found = (LSFEnvironment, SLURMEnvironment, TorchElasticEnvironment)
    joined = "MASTER_ADDR" in os.environ or any(kind.detect() for kind in found)
    if (nodes := trainer.get("num_nodes") or 1) > 1 and not joined and not trainer.get("plugins"):
        raise UserError(
            f"--trainer.num_nodes {nodes}: nothing says where the other machines are, so that this "
            "one would wait for them. Start with torchrun or srun on each, or leave it out for one "
            "machine."
        )


def _check_accelerator(accelerator: Any, devices: Any) -> None:
    if not isinstance(accelerator, str):
        return
    name, known = accelerator.lower(), sorted(AcceleratorRegistry)
    if name not in (*known, "auto", "gpu"):
        near = nearest(name, [*known, "auto", "gpu"])
        hint = f"The nearest is {near}. " if near else ""
        raise UserError(
            f"--trainer.accelerator {accelerator}: no such kind of device. {hint}There are auto, "
            f"gpu, {', '.join(known)}."
        )
    there = [kind for kind in known if AcceleratorRegistry[kind]["accelerator"].is_available()]
    wanted = {"auto": known, "gpu": _GPUS}.get(name, (name,))
    if not set(wanted) & set(there):
        raise UserError(
            f"--trainer.accelerator {accelerator}: there is no such device on this machine, or "
            f"PyTorch cannot use it; it has {', '.join(there)}. Give --trainer.accelerator auto or "
            f"{there[0]}."
        )
    text = str(devices)
    on_cpu = name == "cpu" or (name == "auto" and there == ["cpu"])
    if on_cpu and text != "auto" and not (text.isdecimal() and int(text)):
        raise UserError(
            f"--trainer.devices {devices}: expected auto or a number of processes, 1 or more, "
            "without a GPU."
        )
    count = torch.cuda.device_count() if "cuda" in set(wanted) & set(there) else None
    if count is not None and text.isdecimal() and int(text) > count:
        raise UserError(
            f"--trainer.devices {devices}: this machine has {count}. Give that or less."
        )


def _check_strategy(strategy: Any) -> None:
    known = ["auto", *StrategyRegistry.available_strategies()]
    if isinstance(strategy, str) and strategy not in known:
        near = nearest(strategy, known)
        hint = f"The nearest is {near}." if near else "Leave it out, or give ddp."
        raise UserError(f"--trainer.strategy {strategy}: no strategy of that name. {hint}")


def check_built(
    trainer: Trainer, model: SegmentationModule, data: SegmentationDataModule, schedule: object
) -> None:
    """Refuse what only the built trainer of a training tells: its batches and its callbacks."""
    _check_batches(data, trainer)
    _check_callbacks(model, trainer, schedule)


def _check_batches(data: SegmentationDataModule, trainer: Trainer) -> None:
    """Refuse parts of an epoch that are less than a batch, and intervals longer than an epoch."""
    batches = len(data.split("train")) // (data.batch_size * trainer.world_size)
    if not batches:
        return  # the data module refuses to be set up
    overfits = bool(trainer.overfit_batches)  # type: ignore[attr-defined]
    key = "overfit_batches" if overfits else "limit_train_batches"
    share = trainer.limit_train_batches
    if isinstance(share, float) and share * batches < 1:
        raise UserError(
            f"--trainer.{key} {share}: less than one of the {batches} batches of an epoch. Give a "
            f"number of batches, as in --trainer.{key} 1."
        )
    evaluated = math.ceil(len(data.split("val")) / (data.eval_batch_size * trainer.world_size))
    if overfits and isinstance(share, float) and share * evaluated < 1:
        raise UserError(
            f"--trainer.overfit_batches {share}: less than one of the {evaluated} batches of the "
            "validation split. Give a number of batches, as in --trainer.overfit_batches 1."
        )
    batches = int(share * batches) if isinstance(share, float) else min(batches, share)
    every = getattr(trainer, "val_check_interval", None)  # None if it is a time
    epochs = trainer.check_val_every_n_epoch
    validates = trainer.limit_val_batches != 0
    if isinstance(every, int | float) and every <= 0:
        raise UserError(
            f"--trainer.val_check_interval {every}: expected a share of an epoch, above 0 and up "
            "to 1.0, or a whole number of batches."
        )
    if isinstance(every, int) and every > batches and epochs is not None and validates:
        raise UserError(
            f"--trainer.val_check_interval {every}: an epoch has only {batches} batches. Lower it, "
            "or count the batches of all epochs by --trainer.check_val_every_n_epoch null."
        )
    most = trainer.max_epochs
    if validates and epochs is not None and most not in (None, -1) and epochs > most:
        rank_zero_warn(
            f"--trainer.check_val_every_n_epoch {epochs} is above --trainer.max_epochs {most}: "
            "there will be no validation, no metrics and no best.ckpt."
        )


def _check_callbacks(model: SegmentationModule, trainer: Trainer, schedule: object) -> None:
    """Refuse callbacks that cannot work here, and those that wait for what is never logged.

    Other callbacks and terms than Lightning's and this project's may log what is not known here:
    with them, no name is refused.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for one in callbacks:
        if reason := _UNFIT.get(type(one).__name__):
            raise UserError(f"{type(one).__name__} {reason}")
    if type(schedule) is TorchReduceLROnPlateau:
        raise UserError(
            "torch's ReduceLROnPlateau does not know what to monitor. Give "
            "lightning.pytorch.cli.ReduceLROnPlateau with monitor, such as 'val/loss'."
        )
    parts = (*callbacks, *model.terms)
    are_known = all(type(one).__module__.startswith(("lightning.", "pne_seg.")) for one in parts)
    if not are_known or any(isinstance(one, ContrastDiagnostics) for one in callbacks):
        return
    validates = trainer.limit_val_batches != 0
    known = logged_names(model)
    logged = [name for name in known if validates or not name.startswith("val/")]
    names = {name.lower(): name for name in logged}
    watching: list[object] = [*callbacks, schedule]
    for waiting in watching:
        monitor = getattr(waiting, "monitor", None)
        if monitor is None or monitor in (*logged, "epoch", "step"):
            continue
        if not validates and isinstance(waiting, BestCheckpoint):
            continue  # there is none then
        why = "" if validates or monitor not in known else " without validation (limit_val_batches)"
        usual = "val/mIoU" if validates else "train/loss"
        near = names.get(nearest(monitor.lower(), names) or "", usual)
        raise UserError(
            f"{type(waiting).__name__} monitors {monitor!r}, which is never logged{why}. The "
            f"nearest is {near!r}: set its monitor to that."
        )


def logged_names(model: SegmentationModule) -> list[str]:
    """Return the names of all that a training and its validations log."""
    losses = [loss_name(model.losses.main), *model.losses.extra]
    if model.auxiliary is not None:
        losses.append("auxiliary")
    further = []
    if model.contrast is not None:
        losses.append("contrast")
        further = ["train/contrast_pairs", "train/contrast_anchors"]
    counts = torch.eye(model.num_classes, dtype=torch.long)  # any will do
    metrics = SegmentationMetrics.from_matrix(counts).as_dict("val", model.class_names)
    losses = [f"train/loss_{name}" for name in losses]
    return ["val/loss", *metrics, "train/loss", *losses, *further]
