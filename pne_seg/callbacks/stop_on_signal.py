"""End a training on SIGTERM or SIGINT after the current step, with a checkpoint."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from pne_seg.callbacks.checkpoints import LastCheckpoint, is_accumulating

_REPEAT = 1.0
"""Seconds within which a launcher of several processes may pass the same signal on again."""


class Stopped(SystemExit):
    """A training was ended by a signal; its code is 128 + the signal's number."""

    def __init__(self, signum: int, step: int, checkpoint: Path | None) -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.step = step
        self.checkpoint = checkpoint  # to resume from

    def __str__(self) -> str:
        name = signal.Signals(self.signum).name
        resume = f" Resume with ckpt_path={self.checkpoint}" if self.checkpoint else ""
        return f"Stopped by {name} after step {self.step}.{resume}"


class StopOnSignal(Callback):
    """Finish the step, save `last.ckpt` and raise `Stopped`; a second signal ends at once.

    All processes stop after the same step, whichever of them got the signal. Within a validation a
    single process saves too; several rely on the checkpoint from its start. SLURM's signal to
    requeue also waits for the end of the step and is then handled by Lightning. Without `last` no
    checkpoint is saved.
    """

    def __init__(self, last: LastCheckpoint | None) -> None:
        self.last = last
        self.signum = 0  # the signal of this process; 0 before one
        self._time = 0.0
        self._requeue: Callable[[], Any] | None = None
        self._requeue_asked = False
        self._agreed = (0, False)  # signal and requeue, of all processes after the last step
        self._several = False
        self._launcher: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._several = trainer.world_size > 1
        self._launcher = trainer.strategy.launcher
        if trainer.received_sigterm:  # in the sanity check
            self.signum = signal.SIGTERM
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._handle)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            signum = environment.requeue_signal or signal.SIGUSR1
            handler = signal.getsignal(signum)
            if callable(handler):
                self._requeue = lambda: handler(signum, None)
                signal.signal(signum, self._ask_for_requeue)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if not self.signum:
            self.signum, self._time = signum, time.monotonic()
        elif not self._several or time.monotonic() - self._time > _REPEAT:
            self._kill_others()
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _ask_for_requeue(self, _signum: int, _frame: FrameType | None) -> None:
        self._requeue_asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree on whether to stop before the next step; loggers get the row of this one first."""
        if is_accumulating(trainer, batch_idx):
            return
        self._agreed = self.signum, self._requeue_asked
        if self._several:
            asked = torch.tensor(self._agreed, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self._agreed = int(asked[0]), bool(asked[1])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        signum, requeue = self._agreed
        if requeue and self._requeue is not None:
            self._requeue_asked, self._agreed = False, (signum, False)
            self._requeue()
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs, or before a validation, with which a resume then begins."""
        if self._agreed[0]:
            self._stop(trainer, self._agreed[0])

    on_validation_start = on_train_epoch_start

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Stop within a validation; a resume begins it again."""
        if not self.signum or trainer.sanity_checking:
            return
        if self._several:
            self._kill_others()  # they would wait for this process
            raise Stopped(self.signum, trainer.global_step, self._checkpoint(trainer))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):  # the trained weights come back
                callback.on_validation_epoch_end(trainer, pl_module)
        self._stop(trainer, self.signum)

    def _kill_others(self) -> None:
        if hasattr(self._launcher, "kill"):
            self._launcher.kill(signal.SIGKILL)

    def _stop(self, trainer: Trainer, signum: int) -> None:
        if self.last is not None and self.last.saved_step != trainer.global_step:
            self.last.save(trainer)
        raise Stopped(signum, trainer.global_step, self._checkpoint(trainer))

    def _checkpoint(self, trainer: Trainer) -> Path | None:
        path = self.last.path(trainer) if self.last is not None else None
        return path if path is not None and path.is_file() else None
