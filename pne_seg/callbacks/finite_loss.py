"""Stops a run whose loss is no longer a number; by itself it would end "successfully"."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pne_seg.errors import UserError


class FiniteLoss(Callback):
    """Looks at every loss on its device, and reads the answer at logging steps and epoch ends only.

    Raises:
        UserError: the training loss became NaN or infinite.
    """

    def __init__(self) -> None:
        self._all_finite: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note whether the loss is finite."""
        finite = torch.isfinite(outputs["loss"].detach())
        self._all_finite = finite if self._all_finite is None else self._all_finite & finite
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (batch_idx + 1) % every == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation within the epoch, whose scores would mean nothing."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a checkpoint is written."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._all_finite is not None and not bool(self._all_finite):
            raise UserError(
                f"The training loss is no longer finite (by step {trainer.global_step}). "
                "Lower --model.optimizer.lr, set --trainer.gradient_clip_val, or use bf16 in place "
                "of fp16."
            )
        self._all_finite = None
