"""Optimizer, schedule and checkpoints of a training, and what a resume changes in them."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pne_seg.description import IN_CHECKPOINT, DataDescription, are_named, check_same_classes
from pne_seg.errors import UserError
from pne_seg.optim import ParameterGroups, WarmupPoly, build_optimizer

_SETTINGS = "optimizer_settings"  # key of a checkpoint


class ResumableModule(LightningModule):
    """Build optimizer and schedule; on a resume, let their configuration win over the checkpoint's.

    Checkpoints hold the settings that their optimizer was configured with, because its groups hold
    scheduled values.
    """

    class_names: list[str]
    optimizer: OptimizerCallable
    parameter_groups: ParameterGroups
    schedule: LRSchedulerCallable | None

    def __init__(self) -> None:
        super().__init__()
        self._configured: list[dict[str, Any]] = []
        self._saved: list[dict[str, Any]] | None = None
        self._saved_sizes: list[int] = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule; a `WarmupPoly` without a length takes the trainer's."""
        optimizer = build_optimizer(self, self.optimizer, self.parameter_groups)
        self._configured = optimizer_settings(optimizer)
        if self._saved is not None:
            check_same_groups(self._saved, self._configured)
            sizes = [len(group["params"]) for group in optimizer.param_groups]
            check_same_parameters(self._saved_sizes, sizes)
        if self.schedule is None:
            return optimizer
        schedule: Any = self.schedule(optimizer)
        if isinstance(schedule, WarmupPoly):
            schedule.take_length(lambda: self.trainer.estimated_stepping_batches)
        plateau = isinstance(schedule, ReduceLROnPlateau)
        stepping = {"monitor": schedule.monitor} if plateau else {"interval": "step"}
        config: Any = {"scheduler": schedule, **stepping}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the optimizer's configuration and the description of the data."""
        if self._configured:  # none in a checkpoint saved after an evaluation only
            checkpoint[_SETTINGS] = self._configured
        description = getattr(getattr(self._trainer, "datamodule", None), "description", None)
        if isinstance(description, DataDescription):
            # With it the weights can be used without the data.
            checkpoint[IN_CHECKPOINT] = description.as_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse other classes or a missing average, and remember the checkpoint's settings."""
        if are_named(self.class_names):
            check_same_classes(self.class_names, checkpoint, "The checkpoint")
        self._saved = checkpoint.get(_SETTINGS)
        states = checkpoint.get("optimizer_states") or [{"param_groups": []}]
        self._saved_sizes = [len(group["params"]) for group in states[0]["param_groups"]]
        trainer: Any = self._trainer  # None in `load_from_checkpoint`
        if trainer is None or trainer.state.fn != "fit" or "current_model_state" not in checkpoint:
            return
        # The checkpoint's weights are an average; those that the optimizer was training lie beside
        # it, where only the averaging callback finds them.
        if not any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):
            raise UserError(
                "The checkpoint is of a run with averaged weights, which resumes only with the "
                "averaging: give its ema settings, or start from its weights with init_from."
            )

    def on_train_start(self) -> None:
        """After a resume, let the configured optimizer settings win over the checkpoint's."""
        if self._saved is None:
            return
        optimizer = self.trainer.optimizers[0]
        apply_changed_settings(optimizer, self._saved, self._configured)
        schedules = [entry.scheduler for entry in self.trainer.lr_scheduler_configs]
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
    """Refuse to resume if the numbers of a checkpoint's and this run's groups differ."""
    if len(saved) != len(wanted):
        raise _other_groups(f"{len(saved)} parameter groups, this run's has {len(wanted)}")


def _other_groups(difference: str) -> UserError:
    return UserError(
        f"The checkpoint's optimizer has {difference}, so that its state cannot be restored. "
        "Resume with the parameter_groups of the run that wrote it."
    )


def check_same_parameters(saved: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse to resume if the numbers of tensors in the groups differ."""
    if not saved or list(saved) == list(wanted):
        return
    if sum(saved) == sum(wanted):
        there, here = (" and ".join(map(str, sizes)) for sizes in (saved, wanted))
        raise _other_groups(f"groups of {there} tensors, this run's of {here}")
    raise UserError(
        f"The checkpoint's optimizer trained {sum(saved)} tensors, this run's has "
        f"{sum(wanted)}: its contrast, auxiliary head or network is another. Resume with those "
        "of the run that wrote it, or start from its weights with init_from."
    )


def apply_changed_settings(
    optimizer: Optimizer, saved: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    """Set what differs between a checkpoint's settings and this run's in a restored optimizer.

    Unchanged settings keep the restored, possibly scheduled, value, so that an unchanged resume is
    exact; a changed learning rate scales the scheduled one.
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
    """Set a restored optimizer's learning rates that follow from the configuration, if known.

    Without a schedule they are the configured ones; `WarmupPoly` knows the rate of any step. Other
    schedules continue from the restored rate.
    """
    if schedule is not None and not isinstance(schedule, WarmupPoly):
        return
    rates = configured if schedule is None else schedule.get_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
