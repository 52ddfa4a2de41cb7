"""Predictions as files, as they come from the network."""

from collections import ChainMap
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pne_seg.data.base import usable_processors
from pne_seg.prediction.manifest import UnwritableError
from pne_seg.prediction.prediction_run import PredictionRun

_MOST_THREADS = 4


class PredictionWriter(Callback):
    """Writes each batch of `predict` while the network is at the next one.

    Args:
        run: what to write; its counts of what was written, and what could not be, are updated.
    """

    def __init__(self, run: PredictionRun) -> None:
        self.run = run
        self._dtype = torch.uint8 if run.data.num_classes <= 256 else torch.uint16
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
        self.run.unreadable.update(batch["unreadable"])
        predictions = outputs.to(self._dtype).cpu().numpy()
        self._wait()  # for the last batch: no more than two are held
        given = zip(batch["index"], predictions, batch["picture"], strict=True)
        self._writing = [(one[0], self._threads.submit(self.run.write, *one)) for one in given]

    def _wait(self) -> None:
        for index, writing in self._writing:
            try:
                writing.result()
            except UnwritableError as error:
                self.run.unwritten[index] = str(error)
            else:
                self.run.written += 1
        self._writing.clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Finish the files that are begun."""
        self._threads.shutdown()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for the last files, and bring the processes' counts together."""
        # Not at the end of the batches, of which a process without any is not told.
        self._wait()
        self._threads.shutdown()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            run, found = self.run, [None] * trainer.world_size
            own: Any = run.written, run.unreadable, run.unwritten
            torch.distributed.all_gather_object(found, own)
            counts, unreadable, unwritten = zip(*found, strict=True)
            run.written = sum(counts)
            run.unreadable = dict(ChainMap(*unreadable))
            run.unwritten = dict(ChainMap(*unwritten))
