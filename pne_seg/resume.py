"""What a resume does to optimiser and schedule, and what it cannot go on from."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pne_seg.errors import UserError
from pne_seg.optim import WarmupPoly


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The hyper-parameters of each group as configured, without parameters and scheduled values."""
    return [
        {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
        for group in optimizer.param_groups
    ]


def check_same_groups(saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Refuse to resume where an optimiser's state belongs to other groups of parameters.

    Args:
        saved: what `optimizer_settings` gave when the checkpoint's run was configured.
        wanted: what it gave for this run.

    Raises:
        ValueError: the numbers of groups differ.
    """
    if len(saved) != len(wanted):
        raise UserError(
            f"The checkpoint's optimiser has {len(saved)} parameter groups, this run's has "
            f"{len(wanted)}, so that its state cannot be restored. Resume with the "
            "--model.parameter_groups of the run that wrote it."
        )


def group_sizes(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of parameters in each of an optimiser's groups, live or from a state dict."""
    return [len(group["params"]) for group in groups]


def check_same_parameters(saved: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse to resume where the groups hold other parameters than when they were saved.

    Args:
        saved: `group_sizes` of the checkpoint.
        wanted: `group_sizes` of this run.

    Raises:
        UserError: they differ.
    """
    if not saved or list(saved) == list(wanted):
        return
    if sum(saved) == sum(wanted):
        raise UserError(
            f"The checkpoint's optimiser has groups of {_listed(saved)} tensors, this run's of "
            f"{_listed(wanted)}, so that its state cannot be restored. Resume with the "
            "--model.parameter_groups of the run that wrote it."
        )
    raise UserError(
        f"The checkpoint's optimiser trained {sum(saved)} tensors, this run's has "
        f"{sum(wanted)}: its contrast, auxiliary head or network is another. Resume with those "
        "of the run that wrote it, or start anew from its weights: --model.init_from"
    )


def _listed(sizes: Sequence[int]) -> str:
    return " and ".join(map(str, sizes))


def apply_changed_settings(
    optimizer: Optimizer, saved: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    """After a resume, let the settings that differ from the checkpoint's win.

    Restoring an optimiser overwrites its hyper-parameters by the checkpoint's. Settings that did
    not change keep the restored, possibly scheduled, value, so that an unchanged resume is exact;
    a changed learning rate scales the scheduled one.

    Args:
        optimizer: with its state restored.
        saved: what `optimizer_settings` gave when the checkpoint's run was configured.
        wanted: what it gave for this run.

    Raises:
        ValueError: the numbers of groups differ.
    """
    check_same_groups(saved, wanted)
    for group, before, now in zip(optimizer.param_groups, saved, wanted, strict=True):
        for key, value in now.items():
            if before.get(key) == value:
                continue
            if key == "lr" and before.get("lr"):
                group["lr"] *= value / before["lr"]
                group["initial_lr"] = value
            else:
                group[key] = value


def set_rates(optimizer: Optimizer, schedule: LRScheduler | None, configured: list[float]) -> None:
    """After a resume, let the rates follow from the configuration where that is known.

    Without a schedule they are the configured ones; `WarmupPoly` knows the rate of any step. Other
    schedules go on from the restored rate.

    Args:
        optimizer: with its state restored.
        schedule: with its progress restored.
        configured: the learning rate of each group.
    """
    if schedule is None:
        rates = configured
    elif isinstance(schedule, WarmupPoly):
        rates = schedule.get_lr()
    else:
        return
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def check_averaging(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Refuse to resume a run with averaged weights without the averaging.

    Such a checkpoint's weights are the average; those that the optimiser was training lie beside
    it, where only the averaging callback finds them.

    Raises:
        UserError: the checkpoint has an average, the trainer no callback for it.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if "current_model_state" in checkpoint and not averages:
        raise UserError(
            "The checkpoint is of a run with averaged weights, which goes on only with the "
            "averaging: give its --ema settings, or start anew from its weights: --model.init_from"
        )
