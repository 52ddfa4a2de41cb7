"""Stops a run at a loss or gradient that is not finite, before it reaches a checkpoint."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from pne_seg.errors import UserError

_MOST_STEPS = 1000
"""Steps whose batches are remembered, where nothing is logged."""

_SMALL = 2**16
"""Values of a gradient that a CPU looks at in every step.

A pass over all gradients waits for the memory: 1.5% of a step of UPerNet on ResNet-18. A gradient
that is not finite where the loss is arises in an activation and flows on to the network's first
layers, through biases and norms, all of them small.
"""

_REMEDY = (
    "\n  Lower the learning rate (model.optimizer.lr), set trainer.gradient_clip_val, use bf16 in "
    "place of fp16, or look at the images with check-data."
)


@dataclass
class _Step:
    """An optimizer step: its number, where in the epoch it was, its images and its losses."""

    number: int
    epoch: int
    batch: int
    names: list[str]
    losses: list[Tensor]


class FiniteTraining(Callback):
    """Checks losses and gradients on their device, before the optimizer's step.

    On a CPU the result is read at once, so that the weights do not change; gradients of more than
    65,536 values are looked at every `log_every_n_steps`. Reading from an accelerator would stall
    it: there all gradients are looked at in each step, and the result is read where logging waits
    anyway. The weights themselves are checked before each validation and each save, so that none
    that are not finite are scored or written. The steps that a gradient scaler (fp16) skips for
    infinite gradients are not errors.

    Raises:
        UserError: a loss, a gradient or a weight became NaN or infinite.
    """

    def __init__(self) -> None:
        self._bad: Tensor | None = None  # the first bad step's number, -1 if there is none
        self._steps: deque[_Step] = deque(maxlen=_MOST_STEPS)
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
        """Check the losses and gradients of the step; on a CPU, read the result at once."""
        number = trainer.global_step
        step = _Step(number, trainer.current_epoch, self._batch, self._names, self._losses)
        self._steps.append(step)
        self._names, self._losses = [], []
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        is_logged = bool(every) and (self._batch + 1) % every == 0
        free = _is_read_free(pl_module.device)
        looked_at = list(step.losses)
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            looked_at += _norms(optimizer, _SMALL if free and not is_logged else None)
        if not looked_at:
            return
        finite = torch.stack([value.float().reshape(()) for value in looked_at]).isfinite().all()
        if self._bad is None:
            self._bad = torch.full((), -1, device=finite.device)
        self._bad = torch.where((self._bad >= 0) | finite, self._bad, number)
        if free or is_logged:
            self._check(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation, whose scores would mean nothing."""
        self._check(pl_module, weights=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the end of a run that would count as a success."""
        self._check(pl_module, weights=True)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop before bad weights take the place of good ones."""
        self._check(pl_module, weights=True)

    def _check(self, module: LightningModule, weights: bool = False) -> None:
        number = -1 if self._bad is None else int(self._bad)
        if number < 0:
            if weights and self._steps and (name := _first_bad(module, "data")):
                last = self._steps[-1].number
                raise UserError(
                    f"Step {last}: after it, weights of {name} are not finite.{_REMEDY}"
                )
            return
        step = next((step for step in self._steps if step.number == number), None)
        self._bad = None
        what, where = "loss or gradient", ""
        if step is not None:
            losses = [float(loss) for loss in step.losses]
            bad_losses = [loss for loss in losses if not torch.isfinite(torch.tensor(loss))]
            what = f"training loss is {bad_losses[0]}" if bad_losses else "gradient is not finite"
            if not bad_losses and step is self._steps[-1]:
                name = _first_bad(module, "grad") or "a parameter"
                what += f" (first in {name}; the loss is {sum(losses):.4g})"
            images = ", ".join(step.names[:4]) + (" …" if len(step.names) > 4 else "")
            where = f" Epoch {step.epoch}, batch {step.batch}" + (f": {images}." * bool(images))
        raise UserError(
            f"Step {number}: the {what}; no weights were saved after it.{where}{_REMEDY}"
        )


def _is_read_free(device: torch.device) -> bool:
    return device.type == "cpu"


def _norms(optimizer: Optimizer, most: int | None) -> list[Tensor]:
    """The norm of the gradients of at most `most` values on each device: the cheapest pass."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and (most is None or gradient.numel() <= most):
                by_device.setdefault(gradient.device, []).append(gradient)
    return [torch.nn.utils.get_total_norm(gradients) for gradients in by_device.values()]


def _first_bad(module: LightningModule, what: Literal["data", "grad"]) -> str | None:
    """The name of the first parameter whose weights or gradient are not finite."""
    for name, parameter in module.named_parameters():
        values = getattr(parameter, what)
        if parameter.requires_grad and values is not None and not values.isfinite().all():
            return name
    return None
