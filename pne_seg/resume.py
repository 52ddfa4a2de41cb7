"""What a resume does to optimizer and schedule, and what it refuses."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pne_seg.errors import UserError
from pne_seg.optim import WarmupPoly

_SETTINGS = "optimizer_settings"
"""Key of a checkpoint."""


class OptimizerResume:
    """Let the configured settings of an optimizer win over a checkpoint's.

    Checkpoints hold the settings that their optimizer was configured with, because its groups hold
    scheduled values. A training module calls the methods in its hooks of the same purpose.
    """

    def __init__(self) -> None:
        self._configured: list[dict[str, Any]] = []
        self._saved: list[dict[str, Any]] | None = None
        self._saved_sizes: list[int] = []

    def configure(self, optimizer: Optimizer) -> None:
        """Record the settings of a new optimizer.

        Raises:
            UserError: its groups are not those of the loaded checkpoint.
        """
        self._configured = optimizer_settings(optimizer)
        if self._saved is not None:
            check_same_groups(self._saved, self._configured)
            check_same_parameters(self._saved_sizes, _group_sizes(optimizer.param_groups))

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Store the recorded settings in a checkpoint."""
        if self._configured:  # none in a checkpoint saved after an evaluation only
            checkpoint[_SETTINGS] = self._configured

    def load(self, checkpoint: Mapping[str, Any], trainer: Trainer | None) -> None:
        """Read the settings of a checkpoint.

        Raises:
            UserError: a training is resumed without the weight averaging of the checkpoint's run.
        """
        self._saved = checkpoint.get(_SETTINGS)
        states = checkpoint.get("optimizer_states") or [{"param_groups": []}]
        self._saved_sizes = _group_sizes(states[0]["param_groups"])
        if trainer is not None and trainer.state.fn == "fit":  # None in `load_from_checkpoint`
            check_averaging(checkpoint, trainer)

    def apply(self, trainer: Trainer) -> None:
        """Set what differs from the loaded checkpoint in the restored optimizer."""
        if self._saved is None:
            return
        optimizer = trainer.optimizers[0]
        apply_changed_settings(optimizer, self._saved, self._configured)
        schedules = [entry.scheduler for entry in trainer.lr_scheduler_configs]
        rates = [float(group["lr"]) for group in self._configured]
        set_rates(optimizer, schedules[0] if schedules else None, rates)
        self._saved = None


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return each group's hyperparameters as configured, without parameters and schedule."""
    return [
        {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
        for group in optimizer.param_groups
    ]


def check_same_groups(saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Refuse to resume if the optimizer's state belongs to other groups of parameters.

    Args:
        saved: `optimizer_settings` of the checkpoint's run.
        wanted: those of this run.

    Raises:
        UserError: the numbers of groups differ.
    """
    if len(saved) != len(wanted):
        raise UserError(
            f"The checkpoint's optimizer has {len(saved)} parameter groups, this run's has "
            f"{len(wanted)}, so that its state cannot be restored. Resume with the "
            "--model.parameter_groups of the run that wrote it."
        )


def _group_sizes(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    return [len(group["params"]) for group in groups]


def check_same_parameters(saved: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse to resume if the groups hold other parameters than when they were saved.

    Args:
        saved: number of parameters in each group of the checkpoint.
        wanted: those of this run.

    Raises:
        UserError: they differ.
    """
    if not saved or list(saved) == list(wanted):
        return
    if sum(saved) == sum(wanted):
        there, here = (" and ".join(map(str, sizes)) for sizes in (saved, wanted))
        raise UserError(
            f"The checkpoint's optimizer has groups of {there} tensors, this run's of {here}, so "
            "that its state cannot be restored. Resume with the --model.parameter_groups of the "
            "run that wrote it."
        )
    raise UserError(
        f"The checkpoint's optimizer trained {sum(saved)} tensors, this run's has "
        f"{sum(wanted)}: its contrast, auxiliary head or network is another. Resume with those "
        "of the run that wrote it, or start from its weights: --model.init_from"
    )


def apply_changed_settings(
    optimizer: Optimizer, saved: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    """After a resume, set the settings that differ from the checkpoint's.

    Restoring an optimizer overwrites its hyperparameters by the checkpoint's. Settings that did
    not change keep the restored, possibly scheduled, value, so that an unchanged resume is exact;
    a changed learning rate scales the scheduled one.

    Args:
        optimizer: with its state restored.
        saved: `optimizer_settings` of the checkpoint's run.
        wanted: those of this run.

    Raises:
        UserError: the numbers of groups differ.
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
    """After a resume, set the learning rates that follow from the configuration, if known.

    Without a schedule they are the configured ones; `WarmupPoly` knows the rate of any step. Other
    schedules continue from the restored rate.

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

    Such a checkpoint's weights are the average; those that the optimizer was training lie beside
    it, where only the averaging callback finds them.

    Raises:
        UserError: the checkpoint has an average, the trainer no callback for it.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if "current_model_state" in checkpoint and not averages:
        raise UserError(
            "The checkpoint is of a run with averaged weights, which resumes only with the "
            "averaging: give its --ema settings, or start from its weights: --model.init_from"
        )
