"""Stops a training without a labelled pixel; its loss is 0, and it would end "successfully"."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from pne_seg.description import listed
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule

_MANY = 0.01
"""Share of ignored pixels from which on they may be a class that is stored as another value."""


class LabelledPixels(Callback):
    """Looks at the labels of the first whole epoch on their device, and reads them at its end.

    Warns once of classes that did not occur in it while pixels were ignored. An evaluation without
    a labelled pixel has no scores and stops as well, or warns where it is a part of a split.

    Raises:
        UserError: every label of an epoch, or of a split that is scored, has the ignore value.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None  # (C + 1,), above 0 for the classes that occurred
        self._ignored: Tensor | None = None  # number of pixels
        self._pixels = 0
        self._done = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the labels of the batch."""
        assert isinstance(pl_module, SegmentationModule)
        if self._done or (batch_idx and self._seen is None):  # resumed within an epoch
            return
        classes = pl_module.num_classes
        labels = batch["mask"].flatten().long()
        ignored = labels == pl_module.ignore_index
        if self._seen is None or self._ignored is None:
            self._seen = torch.zeros(classes + 1, device=labels.device)
            self._ignored = torch.zeros((), dtype=torch.int64, device=labels.device)
        # Not `bincount`, which waits for the device.
        self._seen.index_fill_(0, labels.masked_fill(ignored, classes), 1)
        self._ignored += ignored.sum()
        self._pixels += labels.numel()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a validation at the epoch's end."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and trainer.is_last_batch:
            self._finish_epoch(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before a checkpoint is written."""
        self._finish_epoch(trainer, pl_module)

    def _finish_epoch(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, SegmentationModule)
        if self._done or self._seen is None or self._ignored is None:
            return
        self._done = True
        counts = torch.stack([self._ignored, torch.full_like(self._ignored, self._pixels)])
        # All processes must come to the same end.
        seen, counts = (
            trainer.strategy.reduce(part, reduce_op="sum").cpu() for part in (self._seen, counts)
        )
        share = float(counts[0] / counts[1])
        absent = [name for i, name in enumerate(module.class_names) if not seen[i]]
        if len(absent) == len(module.class_names):
            raise UserError(
                "No pixel of the first epoch has a class: every label is the ignore value "
                f"{module.ignore_index}, so that nothing can be learned. Correct the labels, or "
                "the values that the data's settings ignore; check-data counts them."
            )
        if absent and share >= _MANY and trainer.limit_train_batches == 1:
            rank_zero_warn(
                f"Classes without a pixel in the first epoch: {listed(absent, most=8)}, while "
                f"{share:.0%} of the pixels are ignored ({module.ignore_index}). If their labels "
                "are stored as a value that is ignored, correct the settings; check-data counts "
                "all values."
            )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where nothing could be scored."""
        if not trainer.sanity_checking:
            self._check_scores("validation", trainer.limit_val_batches, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where nothing could be scored."""
        self._check_scores("test", trainer.limit_test_batches, pl_module)

    def _check_scores(self, split: str, part: float | None, module: LightningModule) -> None:
        assert isinstance(module, SegmentationModule)
        if module.metrics is None or module.metrics.matrix.any():
            return
        said = (
            f"No pixel of the {split} split has a class: every label is the ignore value "
            f"{module.ignore_index}, so that there is no mIoU, and none to choose best.ckpt by. "
        )
        if part == 1:
            raise UserError(
                f"{said}Correct the labels; check-data counts them. A training without scores: "
                "--trainer.limit_val_batches 0"
            )
        rank_zero_warn(f"{said}It was a part of the split only.")
