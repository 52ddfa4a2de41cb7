"""The figures of a run: a table on the screen and `metrics.json` in its folder."""

import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from pne_seg.callbacks.tables import (
    Seen,
    print_boundary_scores,
    print_protocol,
    print_scores,
    protocol,
)
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule
from pne_seg.runs import METRICS

_STAGES = {"fit": "val", "validate": "val", "test": "test"}


class _Result(NamedTuple):
    """The scores of an evaluation, how they came about, and in a training when."""

    scores: SegmentationMetrics
    protocol: dict[str, Any]
    when: dict[str, Any]


class Summary(Callback):
    """Prints the scores and writes them, as fractions, with their protocol to `metrics.json`.

    A test also has the scores near the borders between classes. For a training run the scores are
    those of the epoch with the best mIoU, which is also the one of `best.ckpt`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # of the run; nothing is written without one
        self.origin: dict[str, Any] = {}  # what `metrics.json` says of the checkpoint scored
        self._best: _Result | None = None
        self._epoch_seconds: list[float] = []  # of training alone
        self._began = self._epoch_began = self._validation_began = 0.0
        self._seen = Seen()
        self._resumed: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks, and take over the best scores together with the best checkpoint."""
        self._began = self._epoch_began = time.perf_counter()
        best = trainer.checkpoint_callback
        if self._resumed and isinstance(best, ModelCheckpoint) and best.best_model_path:
            scores = SegmentationMetrics.from_matrix(self._resumed["matrix"])
            self._best = _Result(scores, self._resumed["protocol"], self._resumed["when"])
        self._resumed = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the epoch's clock."""
        self._validation_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the epoch's clock."""
        self._epoch_seconds.append(time.perf_counter() - self._epoch_began)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Note how many images there are, and of which sizes."""
        self._seen.add(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the epoch's clock, and keep the scores if they are the best so far."""
        self._epoch_began += time.perf_counter() - self._validation_began
        seen, self._seen = self._seen, Seen()
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationModule):
            return
        scores = pl_module.metrics
        if scores is None:
            return
        found = protocol(trainer, pl_module, seen)
        if self._best is None or _rank(scores) > _rank(self._best.scores):
            when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            self._best = _Result(scores, found, when if trainer.state.fn == "fit" else {})
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the split."""
        seen, self._seen = self._seen, Seen()
        if isinstance(pl_module, SegmentationModule) and pl_module.metrics is not None:
            self._best = _Result(pl_module.metrics, protocol(trainer, pl_module, seen), {})
            self._report(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the run."""
        if isinstance(pl_module, SegmentationModule):
            self._report(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Keep the best scores so far."""
        if self._best is None:
            return {}
        scores, found, when = self._best
        return {"matrix": scores.matrix, "protocol": found, "when": when}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember them until it is known whether their checkpoint is at hand."""
        self._resumed = state_dict or None

    def _report(self, trainer: Trainer, module: SegmentationModule) -> None:
        if self._best is None or not trainer.is_global_zero:
            return
        scores, found, when = self._best
        fn = str(trainer.state.fn.value) if trainer.state.fn else ""
        stage = _STAGES[fn]
        boundary = module.boundary_metrics if fn == "test" else None
        print_scores(scores, module.class_names, stage, when)
        if boundary is not None:
            print_boundary_scores(boundary)
        if fn != "fit":
            print_protocol(module, found)
        if self.folder is None:
            return
        metrics: dict[str, Any] = scores.as_dict(stage, module.class_names) | when | self.origin
        if boundary is not None:
            metrics |= boundary.as_dict(stage)
        metrics[f"{stage}/majority_class_mIoU"] = scores.majority_miou
        if self._epoch_seconds and fn == "fit":
            metrics["epochs"] = trainer.current_epoch
            metrics["seconds"] = time.perf_counter() - self._began
            seconds = statistics.median(self._epoch_seconds)
            metrics["median_seconds_per_training_epoch"] = seconds
            metrics["median_seconds_per_training_batch"] = seconds / trainer.num_training_batches
            metrics["peak_memory_bytes"] = _peak_memory(trainer.strategy.root_device)
        # JSON has no NaN: a class that does not occur is null.
        clean = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in metrics.items()
        }
        clean["protocol"] = found
        text = json.dumps(clean, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(self.folder / METRICS, text.encode())


def _peak_memory(device: torch.device) -> int | None:
    """Return the most bytes that tensors took on a GPU, or on a CPU the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _rank(scores: SegmentationMetrics) -> float:
    return -1.0 if math.isnan(scores.miou) else scores.miou
