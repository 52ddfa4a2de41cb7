"""Bit-exact resume: the position of a training and its random states, kept in checkpoints.

Lightning saves the counters of its loops wherever they happen to be, and guesses from their
differences where to resume. With `max_steps`, within an epoch, and around a validation the guess is
wrong: an epoch is skipped, a validation repeated, a step logged twice (Lightning's issues 19617 and
19403). So checkpoints also hold the position in plain numbers, from which the counters are written
when a checkpoint is loaded.
"""

import random
from dataclasses import asdict, dataclass, fields, replace
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


@dataclass
class Position:
    """Where a training stands between two steps."""

    epoch: int = 0
    batch: int = 0  # number of the epoch's batches that are done; 0 between two epochs
    validation_due: bool = False  # whether a validation comes next
    batches: int = 0  # done in all epochs
    batch_size: int = 0  # images in a batch of all processes; 0 if unknown

    def write(self, loops: dict[str, Any], step: int) -> None:
        """Write the counters in a checkpoint's `loops["fit_loop"]`, to resume from here."""
        begun = self.epoch + (1 if self.batch else 0)
        epochs = _counters(begun, begun, self.epoch, self.epoch)
        loops["epoch_progress"] = {"total": epochs, "current": dict(epochs)}
        # Lightning completes an incomplete batch, and counts it as logged; before a validation it
        # does so after it.
        open_batch = 1 if self.batch and not self.validation_due else 0
        total, current = (
            _counters(done, done, done, done - open_batch) for done in (self.batches, self.batch)
        )
        batches = {"total": total, "current": current, "is_last_batch": False}
        loops["epoch_loop.batch_progress"] = batches
        logged = step - (1 if self.batch else 0)
        loops["epoch_loop.state_dict"] = {"_batches_that_stepped": logged}
        begun = 1 if self.validation_due else 0
        validation = _counters(begun, begun, 0, 0)
        batches = {"total": validation, "current": dict(validation), "is_last_batch": False}
        loops["epoch_loop.val_loop.batch_progress"] = batches


def _counters(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


class ExactResume(Callback):
    """Save position and random states in checkpoints, and restore them on a resume."""

    def __init__(self) -> None:
        self.position = Position()
        # As of the last batch or validation: reading the next batch may change it.
        self._random_state: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}  # of the resumed checkpoint, until it is restored
        self._raised_limit: int | None = None  # `max_steps` during a last validation

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop
        self.position.batch = batch_idx + 1
        self.position.batches += 1
        assert loop._data_fetcher is not None
        due = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
        self._end_batch_or_validation(trainer, bool(due))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.position.validation_due = not trainer.sanity_checking

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end_batch_or_validation(trainer, False)
        if self._raised_limit is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._raised_limit
            self._raised_limit = None

    def _end_batch_or_validation(self, trainer: Trainer, validation_due: bool) -> None:
        here = self.position
        here.validation_due = validation_due
        last = trainer.is_last_batch or here.batch >= trainer.num_training_batches
        if here.batch and last and not validation_due:
            here.epoch, here.batch = here.epoch + 1, 0
        self._random_state = random_state()

    def on_save_checkpoint(self, trainer: Trainer, _: Any, checkpoint: dict[str, Any]) -> None:
        data = _data(trainer)
        size = 0 if data is None else data.batch_size * trainer.world_size
        checkpoint[POSITION] = asdict(replace(self.position, batch_size=size))
        state = self._random_state or random_state()
        checkpoint[RANDOM_STATES] = gather(trainer, state)
        if buffers := _averaged_buffers(trainer):
            checkpoint[AVERAGED_BUFFERS] = buffers

    def on_load_checkpoint(self, trainer: Trainer, _: Any, checkpoint: dict[str, Any]) -> None:
        """Write the counters that Lightning is about to load."""
        if POSITION not in checkpoint:
            return  # of another program: Lightning resumes it its way
        step, data = int(checkpoint["global_step"]), _data(trainer)
        saved, known = checkpoint[POSITION], {field.name for field in fields(Position)}
        self.position = Position(**{key: saved[key] for key in saved.keys() & known})
        if data is not None:
            self.position = _for_batch_size(self.position, data.batch_size * trainer.world_size)
            # Here, because a schedule that asks for its length has the loader made.
            data.start = self.position.epoch, self.position.batch
        _check_something_left(trainer, self.position, step)
        self.position.write(checkpoint["loops"]["fit_loop"], step)
        keys = ("global_step", RANDOM_STATES, AVERAGED_BUFFERS)
        self._loaded = {key: checkpoint[key] for key in keys if key in checkpoint}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raise the limit of steps for a last validation, which Lightning would skip."""
        loop = trainer.fit_loop.epoch_loop
        if self.position.validation_due and loop.max_steps == self._loaded.get("global_step"):
            self._raised_limit = loop.max_steps
            loop.max_steps += 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore flags and random states once everything is built."""
        loaded, self._loaded = self._loaded, {}
        if not loaded:
            return
        loop = trainer.fit_loop
        # It has done its work; left on, it keeps epoch-wise schedules from their first step.
        loop._restarting = False
        if not self.position.batch:
            # With `max_steps` Lightning takes any resume for one within an epoch.
            loop.epoch_loop.restarting = False
            loop.epoch_loop.reset_restart_stage()
        if (data := _data(trainer)) is not None:
            data.start = 0, 0  # for the next training with these data
        states = loaded.get(RANDOM_STATES, [])
        if len(states) == trainer.world_size:
            restore_random_state(states[trainer.global_rank])
        self._random_state = random_state()
        saved = loaded.get(AVERAGED_BUFFERS, {})
        for name, buffer in _averaged_buffers(trainer).items():
            if name in saved:
                buffer.copy_(saved[name])


def gather(trainer: Trainer, value: Any) -> list[Any]:
    """Return the values of all processes; all must call it."""
    values = [value] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def _data(trainer: Trainer) -> SegmentationDataModule | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, SegmentationDataModule) else None


def _averaged_buffers(trainer: Trainer) -> dict[str, Tensor]:
    """Return the averages of buffers that no state dict holds.

    Even those of constants differ from the constant in the last digit.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        average = getattr(callback, "_average_model", None)
        if isinstance(callback, WeightAveraging) and average is not None:
            saved = average.module.state_dict()
            return {
                name: buffer
                for name, buffer in average.module.named_buffers()
                if name not in saved and buffer.is_floating_point()
            }
    return {}


def _for_batch_size(position: Position, batch_size: int) -> Position:
    """Count the images done of the current epoch in batches of another size."""
    if not position.batch or not position.batch_size or batch_size == position.batch_size:
        return position
    batch = position.batch * position.batch_size // batch_size
    rank_zero_info(
        f"The checkpoint was saved within epoch {position.epoch}, after {position.batch} batches "
        f"of {position.batch_size} images; with batches of {batch_size} it resumes after {batch}."
    )
    due = position.validation_due and batch > 0
    return replace(position, batch=batch, batch_size=batch_size, validation_due=due)


def _check_something_left(trainer: Trainer, position: Position, step: int) -> None:
    if position.validation_due or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for name, done in (("max_steps", step), ("max_epochs", position.epoch)):
        limit = getattr(trainer, name)
        if limit not in (None, -1) and done >= limit:
            raise UserError(
                f"The checkpoint is of step {step} after {position.epoch} epochs, where {name} "
                f"{limit} ends the training: nothing is left to train. Raise that limit of the "
                "trainer."
            )


def random_state() -> dict[str, Any]:
    """Return the states of all random number generators, as tensors and plain values."""
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
    """Set the states that `random_state` returned."""
    torch.set_rng_state(state["torch"].cpu())
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
