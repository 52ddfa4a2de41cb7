"""Checkpoints that a kill cannot truncate: `best.ckpt` by score and `last.ckpt` by time."""

from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint

from pne_seg.files import save_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames: the old file stays until the new one is whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: what to save.
            path: the file; its folder is made.
            storage_options: not taken, as in the parent class.
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO takes no storage options.")
        save_atomically(path, lambda file: torch.save(checkpoint, file))


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, the weights with the best score so far.

    Args:
        monitor: the score.
        mode: whether more or less of it is better.
    """

    def __init__(self, monitor: str = "val/mIoU", mode: Literal["max", "min"] = "max") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_top_k=1, enable_version_counter=False
        )


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`, to resume from.

    Args:
        every_n_epochs: how often, in training epochs.
        every_n_train_steps: how often, in optimiser steps, in place of epochs.
    """

    def __init__(
        self, every_n_epochs: int | None = None, every_n_train_steps: int | None = None
    ) -> None:
        super().__init__(
            filename="last",
            save_top_k=1,
            enable_version_counter=False,
            every_n_epochs=every_n_epochs,
            every_n_train_steps=every_n_train_steps,
        )
