"""Stop a training without a labeled pixel; its loss is 0, and it would end "successfully"."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pne_seg.description import listed
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule

_MANY = 0.01
"""Share of ignored pixels from which they may be a class that is stored as another value."""


class LabeledPixels(Callback):
    """Collect the labels of the first whole epoch on their device, and read them at its end.

    Warn once of classes that did not occur in it while pixels were ignored. An evaluation without
    a labeled pixel has no metrics and stops as well; of a part of a split it warns.

    Raises:
        UserError: every label of an epoch, or of an evaluated split, has the ignore value.
    """

    def __init__(self) -> None:
        self._occurred: Tensor | None = None  # (C + 1,), above 0 for classes that did
        self._pixels = torch.zeros(2)  # ignored, all
        self._done = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect the labels of the batch."""
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
        """Stop before a validation at the epoch's end."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_last_batch:
            self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a checkpoint is written."""
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
        """Stop if nothing could be measured."""
        if not trainer.sanity_checking:
            _check_labeled(pl_module, "validation", trainer.limit_val_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if nothing could be measured."""
        _check_labeled(pl_module, "test", trainer.limit_test_batches)


def _check_labeled(module: LightningModule, split: str, limit: float | None) -> None:
    assert isinstance(module, SegmentationModule)
    if module.metrics is None or module.metrics.matrix.any():
        return
    problem = (
        f"No pixel of the {split} split has a class: every label is the ignore value "
        f"{module.ignore_index}, so that there is no mIoU, and none to choose best.ckpt by. "
    )
    if limit == 1:
        raise UserError(
            f"{problem}Correct the labels; check-data counts them. To train without metrics: "
            "--trainer.limit_val_batches 0"
        )
    rank_zero_warn(f"{problem}Only a part of the split was evaluated.")
