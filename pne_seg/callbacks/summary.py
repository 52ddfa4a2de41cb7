"""The metrics of a run: a table on the screen and `metrics.json` in its folder."""

import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.boundaries import BoundaryMetrics
from pne_seg.callbacks.protocol import ImageCounts, count_images, in_words, protocol
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics, percent
from pne_seg.module import SegmentationModule
from pne_seg.runs import METRICS


class _Result(NamedTuple):
    """The metrics of an evaluation, its protocol, and in a training its epoch and step."""

    metrics: SegmentationMetrics
    protocol: dict[str, Any]
    when: dict[str, Any]


class Summary(Callback):
    """Print the metrics and write them, as fractions, with their protocol to `metrics.json`.

    A test also has the metrics near the borders between classes. Those of a training are from the
    epoch with the best mIoU, as is `best.ckpt`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # of the run; if None, nothing is written
        self.origin: dict[str, Any] = {}  # further values of `metrics.json`: what was evaluated
        self._best: _Result | None = None
        self._resumed: dict[str, Any] | None = None
        self._counts: ImageCounts = Counter()
        self._epoch_seconds: list[float] = []  # of training, without validation
        self._began = self._epoch_began = self._validation_began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and restore the best metrics together with the best checkpoint."""
        self._began = time.perf_counter()
        best = trainer.checkpoint_callback
        if self._resumed and isinstance(best, ModelCheckpoint) and best.best_model_path:
            metrics = SegmentationMetrics.from_matrix(self._resumed["matrix"])
            self._best = _Result(metrics, self._resumed["protocol"], self._resumed["when"])
        self._resumed = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the epoch's clock."""
        self._epoch_seconds.append(time.perf_counter() - self._epoch_began)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the epoch's clock."""
        self._validation_began = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the images."""
        self._counts += count_images(batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resume the epoch's clock, and keep the metrics if they are the best so far."""
        self._epoch_began += time.perf_counter() - self._validation_began
        result = self._result(trainer, pl_module)
        if result is None:
            return
        if self._best is None or _rank(result.metrics) > _rank(self._best.metrics):
            self._best = result
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the split."""
        self._best = self._result(trainer, pl_module)
        self._report(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the run."""
        self._report(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the best metrics so far."""
        if self._best is None:
            return {}
        metrics, found, when = self._best
        return {"matrix": metrics.matrix, "protocol": found, "when": when}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until it is known whether their checkpoint is available."""
        self._resumed = state_dict or None

    def _result(self, trainer: Trainer, module: LightningModule) -> _Result | None:
        counts, self._counts = self._counts, Counter()
        if trainer.sanity_checking or not isinstance(module, SegmentationModule):
            return None
        if module.metrics is None:
            return None
        when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        in_training = trainer.state.fn == "fit"
        found = protocol(trainer, module, counts)
        return _Result(module.metrics, found, when if in_training else {})

    def _report(self, trainer: Trainer, module: LightningModule) -> None:
        if self._best is None or not trainer.is_global_zero:
            return
        assert isinstance(module, SegmentationModule)
        metrics, found, when = self._best
        fn = trainer.state.fn
        stage = "test" if fn == "test" else "val"
        boundary = module.boundary_metrics if fn == "test" else None
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 120  # a file or a pipe has no width to fold the table to
        console.print(_class_table(metrics, module.class_names, stage, when))
        console.print(
            f"pixel accuracy {percent(metrics.pixel_accuracy)}; mIoU of always predicting the most "
            f"frequent class {percent(metrics.majority_miou)}"
        )
        if boundary is not None:
            console.print(_boundary_table(boundary))
        if fn != "fit":
            console.print(Text(in_words(found, module.scorer.inference)))
        if self.folder is None:
            return
        content: dict[str, Any] = metrics.as_dict(stage, module.class_names) | when | self.origin
        if boundary is not None:
            content |= boundary.as_dict(stage)
        content[f"{stage}/majority_class_mIoU"] = metrics.majority_miou
        if self._epoch_seconds and fn == "fit":
            seconds = statistics.median(self._epoch_seconds)
            content |= {
                "epochs": trainer.current_epoch,
                "seconds": time.perf_counter() - self._began,
                "median_seconds_per_training_epoch": seconds,
                "median_seconds_per_training_batch": seconds / trainer.num_training_batches,
                "peak_memory_bytes": _peak_memory(trainer.strategy.root_device),
            }
        # JSON has no NaN: a class that does not occur is null.
        content = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in content.items()
        } | {"protocol": found}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(self.folder / METRICS, text.encode())


def _rank(metrics: SegmentationMetrics) -> float:
    return -1.0 if math.isnan(metrics.miou) else metrics.miou


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


def _class_table(
    metrics: SegmentationMetrics, class_names: Sequence[str], stage: str, when: Mapping[str, Any]
) -> Table:
    """Tabulate IoU, accuracy and share of pixels of each class, and the means, in percent."""
    best = f" (best epoch, {when['epoch']}; step {when['step']})" if when else ""
    title = f"{stage} metrics in percent{best}"
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("class", footer="mean over classes that occur")
    table.add_column("IoU", justify="right", footer=percent(metrics.miou))
    table.add_column("accuracy", justify="right", footer=percent(metrics.macc))
    table.add_column("share of pixels", justify="right")
    columns = (metrics.iou.tolist(), metrics.accuracy.tolist(), metrics.pixel_share.tolist())
    for name, *values in zip(class_names, *columns, strict=True):
        table.add_row(Text(name), *map(percent, values))
    return table


def _boundary_table(boundary: BoundaryMetrics) -> Table:
    """Tabulate the means by the distance to the nearest border between classes, in percent."""
    title = "by distance to the nearest border between classes"
    table = Table(title=title, title_justify="left")
    table.add_column("distance")
    for name in ("mIoU", "pixel accuracy", "share of pixels"):
        table.add_column(name, justify="right")
    last = max(boundary.within)
    total = int(boundary.within[last].matrix.sum() + boundary.beyond.matrix.sum())
    rows = {f"up to {width} px": metrics for width, metrics in boundary.within.items()}
    for name, metrics in (rows | {f"more than {last} px": boundary.beyond}).items():
        share = int(metrics.matrix.sum()) / total if total else float("nan")
        table.add_row(name, *map(percent, (metrics.miou, metrics.pixel_accuracy, share)))
    return table
