"""Checkpoints that a kill cannot truncate: `best.ckpt` by mIoU and `last.ckpt` by time."""

import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from pne_seg.checkpoint_file import previous_checkpoint, read_checkpoint
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned, save_atomically
from pne_seg.runs import BEST, LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Save beside the target, flush, then rename; on loading, compare the checksums.

    The file before a `last.ckpt` is kept as `last.previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint; if that fails, the older file is unchanged."""
        if storage_options is not None:
            raise TypeError("AtomicCheckpointIO takes no storage options.")

        def write(file: BinaryIO) -> None:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # PyTorch's writer raises it after the system's error, such as a full disk.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

        target = Path(path)
        remove_abandoned([target])
        keep = previous_checkpoint(target) if target.name == LAST.name else None
        save_atomically(target, write, keep)

    def load_checkpoint(
        self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint's tensors and plain values, always to the CPU."""
        # An optimizer keeps the tensors that it loads, longer than the file may exist.
        checkpoint = read_checkpoint(Path(path), map_tensors=False)
        if "pytorch-lightning_version" not in checkpoint:
            raise UserError(
                f"{path} has no pytorch-lightning_version. Use another checkpoint of the run."
            )
        return checkpoint


class BestCheckpoint(ModelCheckpoint):
    """Keep `checkpoints/best.ckpt`, the weights with the best metric so far.

    Args:
        monitor: the metric.
        mode: whether more or less of it is better.
    """

    def __init__(self, monitor: str = "val/mIoU", mode: Literal["max", "min"] = "max") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_top_k=1, enable_version_counter=False
        )

    def on_load_checkpoint(self, trainer: Trainer, _: Any, checkpoint: dict[str, Any]) -> None:
        """Copy the best checkpoint of the resumed run into this run's folder."""
        state = checkpoint.get("callbacks", {}).get(self.state_key) or {}
        best, resumed = state.get("best_model_score"), trainer.ckpt_path
        if best is None or resumed is None or self.dirpath is None:
            return
        source, target = Path(resumed).with_name(BEST.name), Path(self.dirpath, BEST.name)
        try:
            # One saved after the resumed step will be reached again.
            if read_checkpoint(source)["global_step"] > checkpoint["global_step"]:
                return
        except UserError as error:
            rank_zero_warn(
                f"The best checkpoint so far is not available; {self.monitor} starts over: {error}"
            )
            return
        if trainer.is_global_zero:
            with source.open("rb") as file:
                save_atomically(target, lambda copy: shutil.copyfileobj(file, copy))
        self.best_model_score = self.kth_value = self.current_score = best
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_k_models = {str(target): best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: `on_load_checkpoint` restores what is valid in another folder."""


class LastCheckpoint(Checkpoint):
    """Keep `checkpoints/last.ckpt`, to resume from, and the one before it.

    It is also saved after the last step, and every few minutes.

    Args:
        every_n_epochs: how often, in training epochs; 1 by default.
        every_n_train_steps: how often, in optimizer steps instead of epochs.
        every_n_minutes: longest time between two checkpoints.
    """

    def __init__(
        self,
        every_n_epochs: int | None = None,
        every_n_train_steps: int | None = None,
        every_n_minutes: float = 5.0,
    ) -> None:
        if every_n_epochs is None and every_n_train_steps is None:
            every_n_epochs = 1
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.every_n_minutes = every_n_minutes
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}.")
        self.saved_step = 0  # optimizer steps done at the latest checkpoint
        self._saved_time = 0.0
        self._due = False  # waits until the loggers have the step's row

    def path(self, trainer: Trainer) -> Path:
        """Return the checkpoint's file."""
        return Path(trainer.log_dir or trainer.default_root_dir) / LAST

    def save(self, trainer: Trainer) -> None:
        """Save the checkpoint; all processes must call it."""
        for logger in trainer.loggers:
            logger.save()  # the rows up to here would be lost with the process
        trainer.save_checkpoint(self.path(trainer), weights_only=False)  # the optimizer as well
        self.on_train_start(trainer)
        self._due = False

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self.saved_step, self._saved_time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check whether to save before the next step; loggers get the row of this one first."""
        if not _is_dry(trainer) and not is_accumulating(trainer, batch_idx):
            every, step = self.every_n_train_steps, trainer.global_step
            steps_passed = every is not None and step % every == 0 and step != self.saved_step
            self._due |= steps_passed or self._time_passed(trainer, batch_idx)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if self._due:
            self.save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save on schedule, and before a validation in which several processes cannot agree."""
        in_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        several = trainer.world_size > 1 and in_training and not _is_dry(trainer)
        if self._due or several:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _is_dry(trainer):
            return
        epochs = trainer.current_epoch + 1
        ends = (
            trainer.should_stop
            or 0 < (trainer.max_epochs or -1) <= epochs
            or 0 <= trainer.max_steps <= trainer.global_step
        )
        if ends or self._due or (self.every_n_epochs and epochs % self.every_n_epochs == 0):
            self.save(trainer)

    def _time_passed(self, trainer: Trainer, batch_idx: int) -> bool:
        late = time.monotonic() - self._saved_time > 60 * self.every_n_minutes
        if trainer.world_size == 1:
            return late
        every: int = trainer.log_every_n_steps or 1  # type: ignore[attr-defined]
        # To agree, the processes wait for each other: not at every step.
        return (batch_idx + 1) % every == 0 and bool(trainer.strategy.broadcast(late))


def _is_dry(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def is_accumulating(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether gradients are held back after a batch, which no checkpoint would keep."""
    last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    return bool((batch_idx + 1) % trainer.accumulate_grad_batches) and not last
