"""Bit-exact resume: the position of a training, as its checkpoints keep it.

Lightning saves the counters of its loops wherever they happen to be, and guesses from their
differences where to go on. With `max_steps`, within an epoch, and around a validation the guess is
wrong: an epoch is skipped, a validation repeated, a step logged twice (Lightning's issues 19617 and
19403). So a checkpoint here says in plain numbers where the training stands, and the counters are
written from these when it is loaded. Random number generators resume from their saved states.
"""

import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from pne_seg.data.base import SegmentationDataModule
from pne_seg.errors import UserError

POSITION = "position"
RANDOM_STATES = "random_states"
AVERAGED_BUFFERS = "averaged_buffers"
"""Keys of a checkpoint."""


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes:
        epoch: the present one, from 0.
        batch: batches of it that are done; 0 between two epochs.
        validation_due: whether a validation comes next.
        batches: done in all epochs.
        steps_logged: Lightning's count of steps, by which loggers number their rows.
        batch_size: images in a batch of all processes; 0 if it is not known.
    """

    epoch: int
    batch: int
    validation_due: bool
    batches: int
    steps_logged: int
    batch_size: int

    @classmethod
    def of(cls, trainer: Trainer, validating: bool) -> "Position":
        """Read the position of a trainer between two steps.

        Args:
            trainer: in training, or after it.
            validating: whether it is within a validation, which then is still due.
        """
        loop: Any = trainer.fit_loop.epoch_loop
        progress, epochs = loop.batch_progress, loop.trainer.fit_loop.epoch_progress.current
        done = progress.current.processed
        fetched = progress.current.ready > done  # the next batch is at hand
        last = progress.is_last_batch or done >= trainer.num_training_batches
        ended = last and not fetched
        # As callbacks are told of a batch's end, and in a validation after it, the step is not yet
        # counted as logged.
        at_end = progress.current.completed < done
        counted = loop._batches_that_stepped + (1 if done and (at_end or trainer.validating) else 0)
        fetcher = trainer.fit_loop._data_fetcher
        if at_end and fetcher is not None:
            validating = bool(loop._should_check_val_fx(fetcher))
        started = max(epochs.started, 1)
        if not done:
            epoch, batch = epochs.processed, 0
        elif ended and not validating:
            epoch, batch = started, 0
        else:
            epoch, batch = started - 1, done
        batches, size = progress.total.processed, _batch_size(trainer)
        return cls(epoch, batch, validating, batches, counted, size)

    def write(self, loops: dict[str, Any]) -> None:
        """Write the counters of Lightning's training loop in the forms that it resumes correctly.

        Args:
            loops: a checkpoint's `loops["fit_loop"]`, changed in place.
        """
        begun = self.epoch + (1 if self.batch else 0)
        epochs = _counters(begun, begun, self.epoch, self.epoch)
        loops["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
        # Lightning ends a batch that is not complete, and counts it as logged; before a validation
        # it does so after it.
        ending = 1 if self.batch and not self.validation_due else 0
        loops["epoch_loop.batch_progress"] = {
            "total": _counters(self.batches, self.batches, self.batches, self.batches - ending),
            "current": _counters(self.batch, self.batch, self.batch, self.batch - ending),
            "is_last_batch": False,
        }
        uncounted = 1 if self.batch else 0
        loops["epoch_loop.state_dict"] = {"_batches_that_stepped": self.steps_logged - uncounted}
        validation = _counters(1, 1, 0, 0) if self.validation_due else _counters(0, 0, 0, 0)
        loops["epoch_loop.val_loop.batch_progress"] = {
            "total": validation,
            "current": dict(validation),
            "is_last_batch": False,
        }


def _counters(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


class ExactResume(Callback):
    """Saves position and random states in checkpoints and restores them on a resume.

    Raises:
        UserError: on a resume, if nothing is left to train.
    """

    def __init__(self) -> None:
        self._validating = False
        self._resumed: Position | None = None
        self._step = 0  # of the resumed checkpoint
        self._random_states: list[dict[str, Any]] = []
        self._between_batches: dict[str, Any] = {}
        self._averaged_buffers: dict[str, Tensor] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the validation as due until it ends."""
        self._validating = not trainer.sanity_checking
        self._between_batches = random_state()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark it as done, and restore the limit of steps that `on_fit_start` raised."""
        self._validating = False
        self._between_batches = random_state()
        if self._is_final_validation(trainer):
            trainer.fit_loop.epoch_loop.max_steps = self._step
            self._resumed = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the random states, which reading the next batch may change."""
        self._between_batches = random_state()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the random states, which reading the next batch may change."""
        self._between_batches = random_state()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save position, random states and averaged buffers."""
        checkpoint[POSITION] = asdict(Position.of(trainer, self._validating))
        states = [self._between_batches or random_state()]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, states[0])
            states = gathered
        checkpoint[RANDOM_STATES] = states
        if buffers := _averaged_buffers(trainer):
            checkpoint[AVERAGED_BUFFERS] = buffers

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the counters that Lightning is about to load."""
        if POSITION not in checkpoint:
            return  # of an earlier version: as Lightning has it
        position = _for_batch_size(Position(**checkpoint[POSITION]), _batch_size(trainer))
        self._step = int(checkpoint["global_step"])
        _check_something_left(trainer, position, self._step)
        position.write(checkpoint["loops"]["fit_loop"])
        # Now, because a schedule that asks for its length has the loader made.
        _set_start(trainer, position.epoch, position.batch)
        self._resumed = position
        self._random_states = list(checkpoint.get(RANDOM_STATES) or [])
        self._averaged_buffers = dict(checkpoint.get(AVERAGED_BUFFERS) or {})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise the limit of steps for a final validation, which Lightning would skip."""
        if self._resumed is not None and self._resumed.validation_due:
            loop = trainer.fit_loop.epoch_loop
            if loop.max_steps == self._step:
                loop.max_steps += 1

    def _is_final_validation(self, trainer: Trainer) -> bool:
        resumed = self._resumed is not None and self._resumed.validation_due
        return resumed and trainer.fit_loop.epoch_loop.max_steps == self._step + 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore flags and random states once everything is built."""
        if self._resumed is None:
            return
        loop = trainer.fit_loop
        # It has done its work; left on, it keeps epoch-wise schedules from their first step.
        loop._restarting = False
        if not self._resumed.batch:
            # With `max_steps` Lightning takes any resume for one within an epoch.
            loop.epoch_loop.restarting = False
            loop.epoch_loop.reset_restart_stage()
        _set_start(trainer, 0, 0)  # for the next training with these data
        if len(self._random_states) == trainer.world_size:
            restore_random_state(self._random_states[trainer.global_rank])
        self._random_states = []
        for name, buffer in _averaged_buffers(trainer).items():
            if name in self._averaged_buffers:
                buffer.copy_(self._averaged_buffers[name])


def _averaged_buffers(trainer: Trainer) -> dict[str, Tensor]:
    """Averages of what no state dict holds: even of constants they differ in the last digit."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None:
            saved = average.module.state_dict()
            buffers = dict(average.module.named_buffers())
            return {
                name: buffer
                for name, buffer in buffers.items()
                if name not in saved and buffer.is_floating_point()
            }
    return {}


def _set_start(trainer: Trainer, epoch: int, batch: int) -> None:
    data = _data(trainer)
    if data is not None:
        data.start = epoch, batch


def _batch_size(trainer: Trainer) -> int:
    data = _data(trainer)
    return 0 if data is None else data.batch_size * trainer.world_size


def _data(trainer: Trainer) -> SegmentationDataModule | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, SegmentationDataModule) else None


def _for_batch_size(position: Position, batch_size: int) -> Position:
    """Count the samples seen of the present epoch in batches of another size."""
    if not position.batch or batch_size in (0, position.batch_size) or not position.batch_size:
        return position
    batch = position.batch * position.batch_size // batch_size
    rank_zero_info(
        f"The checkpoint was saved within epoch {position.epoch}, after {position.batch} batches "
        f"of {position.batch_size} images; with batches of {batch_size} it resumes after {batch}."
    )
    values = asdict(position) | {"batch": batch, "batch_size": batch_size}
    if not batch:
        values["validation_due"] = False
    return Position(**values)


def _check_something_left(trainer: Trainer, position: Position, step: int) -> None:
    if position.validation_due or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    max_steps, max_epochs = trainer.max_steps, trainer.max_epochs
    limit = None
    if max_steps != -1 and step >= max_steps:
        limit = f"max_steps {max_steps}"
    elif max_epochs is not None and max_epochs != -1 and position.epoch >= max_epochs:
        limit = f"max_epochs {max_epochs}"
    if limit is not None:
        raise UserError(
            f"The checkpoint is of step {step} after {position.epoch} epochs, where {limit} ends "
            "the training: nothing is left to train. Raise that limit of the trainer."
        )


def random_state() -> dict[str, Any]:
    """Collect the states of all generators of random numbers, as tensors and plain values."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (the global one)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [str(name), torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "python": random.getstate(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the states that `random_state` collected."""
    torch.set_rng_state(state["torch"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
