"""Learning-rate schedules that count optimiser steps, and what a resume does to an optimiser."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupPoly(LRScheduler):
    """Polynomial decay with a floor, after a linear warm-up; one update per optimiser step.

    lr(t) = (base − floor)·(1 − t/T)^power + floor, times, while t < warm-up W,
    1 − (1 − t/W)·(1 − start). The decay counts from step 0, during the warm-up too
    (mmsegmentation 0.x).

    Args:
        optimizer: the optimiser whose groups are scheduled.
        total_steps: T; 0 leaves it to the trainer, which knows its own number of steps.
        power: exponent of the decay.
        min_lr: the floor, an absolute learning rate.
        warmup_steps: W; 0 for none.
        warmup_start: the rate at step 0 as a fraction of the full one.
        last_epoch: the last step taken, −1 to begin.

    Raises:
        ValueError: a negative number of steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int = 0,
        power: float = 0.9,
        min_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_start: float = 1e-6,
        last_epoch: int = -1,
    ) -> None:
        if total_steps < 0 or warmup_steps < 0:
            raise ValueError(f"Steps must be 0 or more, got {total_steps=} and {warmup_steps=}.")
        self.total_steps = total_steps
        self.power = power
        self.min_lr = min_lr
        self.warmup_steps = warmup_steps
        self.warmup_start = warmup_start
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch widens it to Tensor
        """The rates of the current step, one per parameter group."""
        step = self.last_epoch
        left = max(0.0, 1 - step / self.total_steps) if self.total_steps else 1.0
        ramp = 1.0
        if step < self.warmup_steps:
            ramp = 1 - (1 - step / self.warmup_steps) * (1 - self.warmup_start)
        return [
            ((float(base) - self.min_lr) * left**self.power + self.min_lr) * ramp
            for base in self.base_lrs
        ]

    def state_dict(self) -> dict[str, Any]:
        """Progress alone: settings come from the configuration, also after a resume."""
        keys = ("last_epoch", "_step_count", "_last_lr")
        return {key: value for key, value in super().state_dict().items() if key in keys}


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The hyper-parameters of each group as configured, without parameters and scheduled values."""
    return [
        {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
        for group in optimizer.param_groups
    ]


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
    """
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
