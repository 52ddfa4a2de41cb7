"""Settings of Lightning's trainer that cannot work, refused before a run has a folder."""

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    LearningRateFinder,
    LearningRateMonitor,
)
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim.lr_scheduler import ReduceLROnPlateau as TorchReduceLROnPlateau

from pne_seg.callbacks import BestCheckpoint, ContrastDiagnostics
from pne_seg.data import SegmentationDataModule
from pne_seg.errors import UserError, nearest
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule
from pne_seg.training_loss import loss_name

_LEAST = {
    "min_epochs": 0,
    "min_steps": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": -1,
}
"""Limits that Lightning does not check."""
_NOTHING = ("max_epochs", "max_steps", "limit_train_batches")
"""Of these, 0 ends a training that has not begun."""
_UNFIT: dict[type[Callback], str] = {
    BatchSizeFinder: "would train with a batch size that the run's config does not name. Give "
    "--data.batch_size; where memory runs out, the message names a smaller one.",
    LearningRateFinder: "needs the rate as an attribute of the module, which has an optimizer. "
    "Give --model.optimizer.lr; sweep compares several.",
    BackboneFinetuning: "needs a module with a backbone, which this has not. Give "
    "--model.parameter_groups.head_lr 10 for a larger rate outside the encoder.",
}
"""Callbacks of Lightning, and why they cannot be used."""


def check_trainer(verb: str, trainer: Mapping[str, Any]) -> None:
    """Refuse what Lightning's trainer takes although it cannot work, and devices that lack."""
    for key, least in _LEAST.items():
        value = trainer.get(key)
        if value is not None and value < least:
            raise UserError(f"--trainer.{key} {value}: expected {least} or more.")
    for key in _NOTHING:
        if verb == "fit" and trainer.get(key) == 0:
            raise UserError(
                f"--trainer.{key} {trainer[key]}: nothing would be trained. Give 1 or more; to "
                "compute metrics only, use validate or test."
            )
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}") or 0, trainer.get(f"max_{unit}")
        if most is not None and least > most >= 0:
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
    accelerator = trainer.get("accelerator")
    kinds = ["cuda", "mps"] if accelerator == "gpu" else [accelerator]
    there = [
        one for one in AcceleratorRegistry if AcceleratorRegistry[one]["accelerator"].is_available()
    ]
    if {*kinds} <= {*AcceleratorRegistry} and not {*kinds} & {*there}:
        raise UserError(
            f"--trainer.accelerator {accelerator}: there is no such device on this machine, or "
            f"PyTorch cannot use it; it has {', '.join(there)}. Give --trainer.accelerator auto or "
            f"{there[0]}."
        )
    nodes = trainer.get("num_nodes") or 1
    clusters = (LSFEnvironment, MPIEnvironment, SLURMEnvironment)
    if (
        nodes > 1
        and not trainer.get("plugins")
        and "MASTER_ADDR" not in os.environ
        and not any(cluster.detect() for cluster in clusters)
    ):
        raise UserError(
            f"--trainer.num_nodes {nodes}: nothing says where the other machines are, so that this "
            "one would wait for them. Start with torchrun or srun on each, or leave it out for one "
            "machine."
        )


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
    validated = math.ceil(len(data.split("val")) / (data.eval_batch_size * trainer.world_size))
    overfits = bool(trainer.overfit_batches)  # type: ignore[attr-defined]
    for split, share, count in (
        ("train", trainer.limit_train_batches, batches),
        ("val", trainer.limit_val_batches, validated),
    ):
        if isinstance(share, float) and 0 < share * count < 1:
            key = "overfit_batches" if overfits else f"limit_{split}_batches"
            raise UserError(
                f"--trainer.{key} {share}: less than one of the {split} split's batches, {count} "
                f"in all. Give a number of batches, as in --trainer.{key} 1."
            )
    share = trainer.limit_train_batches
    batches = int(share * batches) if isinstance(share, float) else min(batches, share)
    every = getattr(trainer, "val_check_interval", None)  # None if it is a time
    epochs = trainer.check_val_every_n_epoch
    validates = trainer.limit_val_batches != 0
    if every == 0:
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
        if reason := _UNFIT.get(type(one)):
            raise UserError(f"{type(one).__name__} {reason}")
    if type(schedule) is TorchReduceLROnPlateau:
        raise UserError(
            "torch's ReduceLROnPlateau does not know what to monitor. Give "
            "lightning.pytorch.cli.ReduceLROnPlateau with monitor, such as 'val/loss'."
        )
    parts = (*callbacks, *model.terms)
    are_known = all(type(one).__module__.startswith(("lightning.", "pne_seg.")) for one in parts)
    log_more = (ContrastDiagnostics, LearningRateMonitor)
    if not are_known or any(isinstance(one, log_more) for one in callbacks):
        return
    validates = trainer.limit_val_batches != 0
    known = logged_names(model)
    logged = [name for name in known if validates or not name.startswith("val/")]
    names = {name.lower(): name for name in logged}
    metrics = [name for name in logged if not name.startswith("train/contrast_")]
    watching: list[object] = [*callbacks, schedule]
    for waiting in watching:
        monitor, mode = (getattr(waiting, name, None) for name in ("monitor", "mode"))
        better = "min" if str(monitor).partition("/")[2].startswith("loss") else "max"
        if monitor in metrics and mode in ("min", "max") and mode != better:
            raise UserError(
                f"{type(waiting).__name__} monitors {monitor!r} with mode {mode!r}, which takes "
                f"the worst for the best. Set its mode to {better!r}."
            )
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
    names = ["val/loss", "train/loss"]
    if model.contrast is not None:
        losses.append("contrast")
        names += ["train/contrast_pairs", "train/contrast_anchors"]
    counts = torch.eye(model.num_classes, dtype=torch.long)  # any will do
    metrics = SegmentationMetrics.from_matrix(counts).as_dict("val", model.class_names)
    return [*names, *metrics, *(f"train/loss_{name}" for name in losses)]
