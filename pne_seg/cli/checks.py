"""Checks of a configuration against data and machine, before a run has a folder."""

import math
from typing import Any

import torch

from pne_seg.cli.settings import Settings
from pne_seg.data import SegmentationDataModule
from pne_seg.data.base import usable_processors
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule
from pne_seg.networks.slot import CLASS_COUNTS
from pne_seg.optim import build_optimizer
from pne_seg.settings_files import parse_yaml

FROM_DATA = ("num_classes", "class_names", "ignore_index")
"""What the data decides for the module."""
_PROCESSES = 16  # per processor
_MIN_PROCESSORS = 4
_SEEDS = 2**32


def check_against_data(settings: Settings, data: SegmentationDataModule) -> None:
    """Refuse settings that contradict what the data decides."""
    decided = {f"model.{name}": getattr(data, name) for name in FROM_DATA}
    decided |= {f"model.network.{name}": data.num_classes for name in CLASS_COUNTS}
    for key, expected in decided.items():
        value = settings.get(key)
        if isinstance(value, str):
            value = parse_yaml(value, f"--{key} {value}")
        if value is not None and value != expected:
            raise UserError(
                f"--{key} is {value}, but {type(data).__name__} has {expected}. "
                "Leave the key out: the data decides it."
            )


def check_numbers(config: Any, key: str = "") -> None:
    """Refuse NaN, with which every comparison with a limit fails."""
    if isinstance(config, float) and math.isnan(config):
        raise UserError(f"--{key.replace('.init_args', '')} nan: expected a number.")
    if isinstance(config, dict):
        for name, part in config.items():
            check_numbers(part, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple):
        for part in config:
            check_numbers(part, key)


def check_processes(data: SegmentationDataModule, trainer: dict[str, Any]) -> None:
    """Refuse more processes than this machine can run, and a seed out of range."""
    if not 0 <= data.seed < _SEEDS:
        raise UserError(f"--data.seed must be 0 or more and below 2**32, got {data.seed}.")
    numbers = {"data.num_workers": data.num_workers}
    devices = str(trainer["devices"])
    if devices.isdecimal() and not _on_cuda(trainer):
        numbers["trainer.devices"] = int(devices)
    most = _PROCESSES * max(_MIN_PROCESSORS, usable_processors())
    for key, number in numbers.items():
        if number > most:
            raise UserError(
                f"--{key} {number}: too many processes for this machine's "
                f"{usable_processors()} processors. Give {most} at most."
            )


def check_training(
    model: SegmentationModule, data: SegmentationDataModule, trainer: dict[str, Any]
) -> None:
    """Refuse a training that would stop at its first step."""
    synchronized = bool(trainer["sync_batchnorm"])
    if synchronized and not _on_cuda(trainer):
        raise UserError(
            "--trainer.sync_batchnorm true: PyTorch synchronizes batch normalization on GPUs "
            "only. Leave it out here; each process then normalizes by its own images."
        )
    one_device = trainer["devices"] in (1, "1") and trainer["num_nodes"] == 1
    images = data.batch_size * (2 if synchronized and not one_device else 1)
    try:
        model.requirements.check(images, *data.training_size())
        # These refuse rates and decays out of range.
        optimizer = build_optimizer(model, model.optimizer, model.parameter_groups)
        if model.schedule is not None:
            model.schedule(optimizer)
    except ValueError as error:
        raise UserError(str(error)) from error


def _on_cuda(trainer: dict[str, Any]) -> bool:
    return str(trainer["accelerator"]) in ("auto", "gpu", "cuda") and torch.cuda.is_available()
