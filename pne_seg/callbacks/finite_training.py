"""Stop a run at a loss, gradient or weight that is not finite, before it reaches a checkpoint."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from pne_seg.errors import UserError

_MAX_STEPS = 1000
"""Most steps between two reads, also if nothing is logged."""

_FIX = (
    "\n  Lower the learning rate (model.optimizer.lr), set trainer.gradient_clip_val, use bf16 "
    "instead of fp16, or look at the images with check-data."
)


@dataclass
class _Step:
    """An optimizer step whose result is not read yet."""

    number: int
    epoch: int
    batch: int
    names: list[str]
    losses: list[Tensor]
    finite: Tensor


class FiniteTraining(Callback):
    """Check losses and gradients on their device, before the optimizer's step.

    On a CPU the result is read at once, so that the weights do not change. Reading from an
    accelerator would stall it: there the results are read every `log_every_n_steps`, when logging
    waits anyway. The weights are checked before each validation and each save, so that none that
    are not finite are scored or written. Steps that a gradient scaler (fp16) skips for infinite
    gradients are not errors.

    Raises:
        UserError: a loss, a gradient or a weight became NaN or infinite.
    """

    def __init__(self) -> None:
        self._unread: list[_Step] = []
        self._names: list[str] = []
        self._losses: list[Tensor] = []
        self._batch = 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the names of the images."""
        self._batch = batch_idx
        self._names += list(batch.get("name", ())) if isinstance(batch, dict) else []

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Keep the loss until the step."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Check the losses and gradients of the step."""
        names, losses = self._names, self._losses
        self._names, self._losses = [], []
        checked = list(losses)
        parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients and getattr(trainer.precision_plugin, "scaler", None) is None:
            checked.append(get_total_norm(gradients))
        if not checked:
            return
        finite = torch.stack([value.float().reshape(()) for value in checked]).isfinite().all()
        step = trainer.global_step, trainer.current_epoch, self._batch
        self._unread.append(_Step(*step, names, losses, finite))
        every = trainer.log_every_n_steps or _MAX_STEPS  # type: ignore[attr-defined]
        if _is_read_free(pl_module.device) or (self._batch + 1) % every == 0:
            self._check_steps(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation, whose metrics would mean nothing."""
        self._check_steps(pl_module)
        name = _first_not_finite(pl_module, "data") if trainer.global_step else None
        if name is not None:
            raise UserError(
                f"Step {trainer.global_step - 1}: after it, weights of {name} are not finite.{_FIX}"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the end of a run that would count as a success."""
        self.on_validation_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop before bad weights replace good ones."""
        self.on_validation_start(trainer, pl_module)

    def _check_steps(self, module: LightningModule) -> None:
        steps, self._unread = self._unread, []
        finite = torch.stack([step.finite for step in steps]).tolist() if steps else []
        if all(finite):
            return
        step = steps[finite.index(False)]
        losses = torch.stack([loss.float().reshape(()) for loss in step.losses]).cpu()
        bad = losses[~losses.isfinite()].tolist()
        what = f"training loss is {bad[0]}" if bad else "gradient is not finite"
        if not bad and step is steps[-1]:  # the gradients of earlier steps are gone
            name = _first_not_finite(module, "grad") or "a parameter"
            what += f" (first in {name}; the loss is {float(losses.sum()):.4g})"
        images = ", ".join(step.names[:4]) + (" …" if len(step.names) > 4 else "")
        where = f"Epoch {step.epoch}, batch {step.batch}" + (f": {images}." if images else ".")
        raise UserError(
            f"Step {step.number}: the {what}; no weights were saved after it. {where}{_FIX}"
        )


def _is_read_free(device: torch.device) -> bool:
    return device.type == "cpu"


def _first_not_finite(module: LightningModule, what: Literal["data", "grad"]) -> str | None:
    """Return the name of the first parameter whose weights or gradient are not finite."""
    for name, parameter in module.named_parameters():
        values = getattr(parameter, what)
        if parameter.requires_grad and values is not None and not values.isfinite().all():
            return name
    return None
