"""Checkpoints that a kill cannot truncate: `best.ckpt` by score and `last.ckpt` by time."""

import errno
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from pne_seg.checkpoint_file import previous_checkpoint, read_checkpoint
from pne_seg.errors import UserError
from pne_seg.files import flush_folder, remove_abandoned, save_atomically
from pne_seg.runs import BEST, LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes, then renames; reads what has the right checksums.

    The file before a `last.ckpt` is kept as `last.previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: what to save.
            path: the file; its folder is made.
            storage_options: not taken, as in the parent class.

        Raises:
            OSError: it cannot be written; the older one is as it was.
        """
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO takes no storage options.")
        target = Path(path)
        previous = previous_checkpoint(target) if target.name == LAST.name else None
        remove_abandoned([target])
        try:
            save_atomically(target, lambda file: torch.save(checkpoint, file), previous)
        except (OSError, RuntimeError) as error:
            # PyTorch's writer hides the reason behind an error of its own.
            reason: BaseException | None = error
            while reason is not None and not isinstance(reason, OSError):
                reason = reason.__context__
            if reason is None:
                raise
            said = reason.strerror or str(reason)
            raise OSError(reason.errno or errno.EIO, said, os.fspath(target)) from error
        flush_folder(target.parent)

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint's tensors and plain values, to the CPU.

        Args:
            path: the file.
            map_location: not taken; Lightning moves what it loads.
            weights_only: not taken; it always is so.

        Raises:
            UserError: it is damaged, or holds more than tensors and plain values.
        """
        # An optimizer keeps the very tensors that it loads, longer than the file may be there.
        checkpoint = read_checkpoint(Path(path), map_tensors=False)
        version = checkpoint.get("pytorch-lightning_version")
        if not isinstance(version, str) or not re.match(r"\d+\.\d+", version):
            raise UserError(
                f"{path} does not name the version of Lightning that wrote it. Use another "
                "checkpoint of the run."
            )
        return checkpoint


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

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Bring the best checkpoint of the resumed run into this one's folder, with its score."""
        state = checkpoint.get("callbacks", {}).get(self.state_key) or {}
        score, resumed = state.get("best_model_score"), trainer.ckpt_path
        if score is None or resumed is None or self.dirpath is None:
            return
        source, target = Path(resumed).with_name(BEST.name), Path(self.dirpath, BEST.name)
        try:
            # One saved after the resumed step will be reached again.
            if read_checkpoint(source)["global_step"] > checkpoint["global_step"]:
                return
        except UserError as error:
            rank_zero_warn(
                f"The best checkpoint so far is not available; the best score starts over: {error}"
            )
            return
        if trainer.is_global_zero:
            with source.open("rb") as file:
                save_atomically(target, lambda copy: shutil.copyfileobj(file, copy))
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_k_models = {str(target): score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: `on_load_checkpoint` takes what holds in another folder."""


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt`, to resume from, and the one before it.

    It is saved after the last step, and every few minutes, whatever else is asked for.

    Args:
        every_n_epochs: how often, in training epochs; 1 by default.
        every_n_train_steps: how often, in optimizer steps, in place of epochs.
        every_n_minutes: how long after the last time at most.

    Raises:
        ValueError: a value is not positive.
    """

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        every_n_minutes: float = 5.0,
    ) -> None:
        given = {
            "every_n_epochs": every_n_epochs,
            "every_n_train_steps": every_n_train_steps,
            "every_n_minutes": every_n_minutes,
        }
        for name, value in given.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        if every_n_epochs is None and every_n_train_steps is None:
            every_n_epochs = 1
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.every_n_minutes = every_n_minutes
        self._saved_step = 0
        self._saved_time = 0.0
        self._waiting = False  # for the step's row to be with the loggers

    def save(self, trainer: Trainer) -> None:
        """Save the checkpoint; all processes must call it."""
        for logger in trainer.loggers:
            logger.save()  # the rows up to here would be lost with the process
        trainer.save_checkpoint(self.path(trainer))
        self._saved_step, self._saved_time = trainer.global_step, time.monotonic()
        self._waiting = False

    @property
    def saved_step(self) -> int:
        """Optimizer step of the checkpoint; 0 before the first."""
        return self._saved_step

    def path(self, trainer: Trainer) -> Path:
        """Return the checkpoint's file."""
        return Path(trainer.log_dir or trainer.default_root_dir) / LAST

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count minutes and steps from here."""
        self._saved_time, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check whether to save, between two optimizer steps; loggers get the row after this."""
        if not _is_dry(trainer) and not is_accumulating(trainer, batch_idx):
            self._waiting |= self._is_step(trainer) or self._is_time(trainer, batch_idx)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time."""
        if self._waiting:
            self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is time, and ahead of a validation in which several processes cannot agree."""
        in_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        several = trainer.world_size > 1 and in_training and not _is_dry(trainer)
        if self._waiting or several:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is the epoch for it, or the last."""
        if _is_dry(trainer):
            return
        number = trainer.current_epoch + 1
        due = self.every_n_epochs is not None and number % self.every_n_epochs == 0
        if due or self._waiting or self._is_end(trainer):
            self.save(trainer)

    def _is_step(self, trainer: Trainer) -> bool:
        every, step = self.every_n_train_steps, trainer.global_step
        return every is not None and step % every == 0 and step != self._saved_step

    def _is_time(self, trainer: Trainer, batch_idx: int) -> bool:
        several = trainer.world_size > 1
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if several and (batch_idx + 1) % (every or 1):
            return False  # the processes wait for each other to agree
        late = time.monotonic() - self._saved_time > 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(late)) if several else late

    def _is_end(self, trainer: Trainer) -> bool:
        by_steps = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
        epochs = trainer.max_epochs
        by_epochs = epochs not in (None, -1) and trainer.current_epoch + 1 >= epochs
        return bool(by_steps or by_epochs or trainer.should_stop)


def _is_dry(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def is_accumulating(trainer: Trainer, batch_idx: int) -> bool:
    """Whether gradients are held back after a batch, which no checkpoint would keep."""
    last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return bool((batch_idx + 1) % trainer.accumulate_grad_batches) and not last
