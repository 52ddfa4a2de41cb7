"""Stop a training that cannot succeed: a value that is not finite, or no labeled pixel."""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from pne_seg.description import listed
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule

_MAX_STEPS = 1000  # between two reads, also if nothing is logged
_MANY = 0.01
"""Share of ignored pixels from which they may be a class that is stored as another value."""
_FIX = (
    "\n  Lower the learning rate (model.optimizer.lr), set trainer.gradient_clip_val, use bf16 "
    "instead of fp16, or look at the images with check-data."
)


class FiniteTraining(Callback):
    """Stop at a loss, gradient or weight that is not finite, before it reaches a checkpoint.

    On a CPU the result is read before the optimizer's step, so that the weights do not change.
    Reading from an accelerator would stall it: there the results are read every
    `log_every_n_steps`, when logging waits anyway. The weights are checked before each validation
    and each save. Steps that a gradient scaler (fp16) skips for infinite gradients are not errors.
    """

    def __init__(self) -> None:
        # Steps by number, epoch and images, losses, and whether all is finite.
        self._unread: list[tuple[int, str, list[Tensor], Tensor]] = []
        self._names: list[str] = []
        self._losses: list[Tensor] = []
        self._batch = 0

    def on_train_batch_start(self, trainer: Trainer, _: Any, batch: Any, batch_idx: int) -> None:
        self._batch = batch_idx
        self._names += list(batch.get("name", ())) if isinstance(batch, dict) else []

    def on_before_backward(self, trainer: Trainer, _: Any, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        names, losses = self._names, self._losses
        self._names, self._losses = [], []
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        checked = list(losses)
        if gradients and getattr(trainer.precision_plugin, "scaler", None) is None:
            checked.append(get_total_norm(gradients))
        if not checked:  # a step without a loss, as Lightning takes to average weights
            return
        finite = torch.stack([value.float().reshape(()) for value in checked]).isfinite().all()
        where = f"Epoch {trainer.current_epoch}, batch {self._batch}"
        if names:
            where += f": {listed(names, most=4)}"
        self._unread.append((trainer.global_step, where, losses, finite))
        every = trainer.log_every_n_steps or _MAX_STEPS  # type: ignore[attr-defined]
        if _is_read_free(pl_module.device) or (self._batch + 1) % every == 0:
            self._check_steps(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_steps(pl_module)
        name = _first_not_finite(pl_module, "data") if trainer.global_step else None
        if name is not None:
            raise UserError(
                f"Step {trainer.global_step - 1}: after it, weights of {name} are not finite.{_FIX}"
            )

    on_train_epoch_end = on_validation_start  # the end of a run would count as a success

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop before bad weights replace good ones."""
        self.on_validation_start(trainer, pl_module)

    def _check_steps(self, module: LightningModule) -> None:
        steps, self._unread = self._unread, []
        finite = torch.stack([finite for *_, finite in steps]).tolist() if steps else []
        if all(finite):
            return
        first = finite.index(False)
        number, where, kept, _ = steps[first]
        losses = torch.stack([loss.float().reshape(()) for loss in kept]).cpu()
        bad = losses[~losses.isfinite()].tolist()
        what = f"training loss is {bad[0]}" if bad else "gradient is not finite"
        if not bad and first == len(steps) - 1:  # the gradients of earlier steps are gone
            name = _first_not_finite(module, "grad") or "a parameter"
            what += f" (first in {name}; the loss is {float(losses.sum()):.4g})"
        raise UserError(
            f"Step {number}: the {what}; no weights were saved after it. {where}.{_FIX}"
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


class LabeledPixels(Callback):
    """Stop a training without a labeled pixel, whose loss is 0: it would end "successfully".

    The labels of the first whole epoch are collected on their device and read at its end. Warn of
    classes that did not occur in it while pixels were ignored. An evaluation without a labeled
    pixel has no metrics and stops as well; of a part of a split it warns.
    """

    def __init__(self) -> None:
        self._occurred: Tensor | None = None  # (C + 1,), above 0 for classes that did
        self._pixels = torch.zeros(2)  # ignored, all
        self._done = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if self._done or (batch_idx and self._occurred is None):  # resumed within an epoch
            return
        classes = pl_module.num_classes
        labels = batch["mask"].flatten().long()
        ignored = labels == pl_module.ignore_index
        if self._occurred is None:
            self._occurred = torch.zeros(classes + 1, device=labels.device)
            self._pixels = torch.zeros(2, dtype=torch.int64, device=labels.device)
        # Not `bincount`, which waits for the device.
        self._occurred.index_fill_(0, labels.masked_fill(ignored, classes), 1)
        self._pixels[0] += ignored.sum()
        self._pixels[1] += labels.numel()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_last_batch:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if self._done or self._occurred is None:
            return
        self._done = True
        # All processes must come to the same end.
        occurred, pixels = (
            trainer.strategy.reduce(part, reduce_op="sum").cpu()
            for part in (self._occurred, self._pixels)
        )
        share = float(pixels[0] / pixels[1])
        names, ignore_index = pl_module.class_names, pl_module.ignore_index
        absent = [name for name, found in zip(names, occurred[:-1], strict=True) if not found]
        if len(absent) == len(names):
            raise UserError(
                "No pixel of the first epoch has a class: every label is the ignore value "
                f"{ignore_index}, so that nothing can be learned. Correct the labels, or the "
                "values that the data's settings ignore; check-data counts them."
            )
        if absent and share >= _MANY and trainer.limit_train_batches == 1:
            rank_zero_warn(
                f"Classes without a pixel in the first epoch: {listed(absent, most=8)}, while "
                f"{share:.0%} of the pixels are ignored ({ignore_index}). If their labels are "
                "stored as a value that is ignored, correct the settings; check-data counts all "
                "values."
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        metrics = pl_module.metrics
        if trainer.sanity_checking or metrics is None or metrics.matrix.any():
            return
        split, limit = "validation", trainer.limit_val_batches
        if trainer.testing:
            split, limit = "test", trainer.limit_test_batches
        problem = (
            f"No pixel of the {split} split has a class: every label is the ignore value "
            f"{pl_module.ignore_index}, so that there is no mIoU, and none to choose best.ckpt by. "
        )
        if limit == 1:
            raise UserError(
                f"{problem}Correct the labels; check-data counts them. To train without metrics, "
                "set limit_val_batches=0 of the trainer."
            )
        rank_zero_warn(f"{problem}Only a part of the split was evaluated.")

    on_test_end = on_validation_end
