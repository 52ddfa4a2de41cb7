"""Predictions as files, as they come from the network."""

from collections import ChainMap
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pne_seg.data.base import usable_processors
from pne_seg.prediction.job import Job
from pne_seg.prediction.outputs import UnwritableError

_MOST_THREADS = 4


class PredictionWriter(Callback):
    """Writes each batch of `predict` while the network is at the next one.

    Args:
        job: what to write where; it learns how many were written, and what could not be.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._type = torch.uint8 if job.data.num_classes <= 256 else torch.uint16
        self._threads = ThreadPoolExecutor(min(_MOST_THREADS, usable_processors()))
        self._writing: list[tuple[int, Future[None]]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch."""
        self.job.unreadable.update(batch["unreadable"])
        predictions = outputs.to(self._type).cpu().numpy()
        self._wait()  # for the last batch's: no more than two are held
        for prediction, index, picture in zip(
            predictions, batch["index"], batch["picture"], strict=True
        ):
            target = self.job.targets[index]
            self._writing.append(
                (index, self._threads.submit(self.job.layout.write, target, prediction, picture))
            )

    def _wait(self) -> None:
        for index, writing in self._writing:
            try:
                writing.result()
            except UnwritableError as error:
                self.job.unwritten[index] = str(error)
            else:
                self.job.written += 1
        self._writing.clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let the files that are begun be finished."""
        self._threads.shutdown()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for the last files, and bring the processes' counts together."""
        # Not at the end of the batches: a process that has none is told of no end.
        self._wait()
        self._threads.shutdown()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            job, found = self.job, [None] * trainer.world_size
            own: Any = job.written, job.unreadable, job.unwritten
            torch.distributed.all_gather_object(found, own)
            counts, unreadable, unwritten = zip(*found, strict=True)
            job.written = sum(counts)
            job.unreadable = dict(ChainMap(*unreadable))
            job.unwritten = dict(ChainMap(*unwritten))
