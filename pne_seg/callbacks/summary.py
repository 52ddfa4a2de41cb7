"""The figures of a run: a table on the screen and `metrics.json` in its folder."""

import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import Scores
from pne_seg.module import SegmentationModule

_STAGES = {"fit": "val", "validate": "val", "test": "test"}


class Summary(Callback):
    """Prints IoU and accuracy of each class and writes the scores, as fractions, to `metrics.json`.

    For a training run the scores are those of the epoch with the best mIoU, which is also the one
    of `best.ckpt`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # of the run; nothing is written without one
        self._best: tuple[Scores, dict[str, Any]] | None = None
        self._epoch_seconds: list[float] = []  # of training alone
        self._began = self._epoch_began = self._validation_began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the epoch's clock."""
        self._validation_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the epoch's clock."""
        self._epoch_seconds.append(time.perf_counter() - self._epoch_began)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the epoch's clock, and keep the scores if they are the best so far."""
        self._epoch_began += time.perf_counter() - self._validation_began
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationModule):
            return
        scores = pl_module.scores
        if scores is None:
            return
        if self._best is None or _rank(scores) > _rank(self._best[0]):
            when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            self._best = (scores, when if trainer.state.fn == "fit" else {})
        if trainer.state.fn == "validate":
            self._report(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the split."""
        if isinstance(pl_module, SegmentationModule) and pl_module.scores is not None:
            self._best = (pl_module.scores, {})
            self._report(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the run."""
        if isinstance(pl_module, SegmentationModule):
            self._report(trainer, pl_module)

    def _report(self, trainer: Trainer, module: SegmentationModule) -> None:
        if self._best is None or not trainer.is_global_zero:
            return
        scores, when = self._best
        fn = str(trainer.state.fn.value) if trainer.state.fn else ""
        stage = _STAGES[fn]
        console = Console()
        console.print(_table(scores, module.class_names, stage, when))
        console.print(
            f"pixel accuracy {_percent(scores.pixel_accuracy)}; "
            f"mIoU of always saying the most frequent class {_percent(scores.majority_miou)}"
        )
        if self.folder is None:
            return
        metrics: dict[str, Any] = {**scores.as_dict(stage, module.class_names), **when}
        metrics[f"{stage}/majority_class_mIoU"] = scores.majority_miou
        if self._epoch_seconds and fn == "fit":
            metrics["epochs"] = trainer.current_epoch
            metrics["seconds"] = time.perf_counter() - self._began
            metrics["median_seconds_per_training_epoch"] = statistics.median(self._epoch_seconds)
        # JSON has no NaN: a class that does not occur is null.
        clean = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in metrics.items()
        }
        text = json.dumps(clean, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(self.folder / "metrics.json", text.encode())


def _rank(scores: Scores) -> float:
    return -1.0 if math.isnan(scores.miou) else scores.miou


def _table(scores: Scores, class_names: list[str], stage: str, when: dict[str, Any]) -> Table:
    title = f"{stage} scores in percent" + (
        f" (best epoch, {when['epoch']}; step {when['step']})" if when else ""
    )
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("class", footer="mean over classes that occur")
    table.add_column("IoU", justify="right", footer=_percent(scores.miou))
    table.add_column("accuracy", justify="right", footer=_percent(scores.macc))
    table.add_column("share of pixels", justify="right")
    columns = (scores.iou.tolist(), scores.accuracy.tolist(), scores.pixel_share.tolist())
    for name, *values in zip(class_names, *columns, strict=True):
        table.add_row(name, *map(_percent, values))
    return table


def _percent(fraction: float) -> str:
    return "n/a" if math.isnan(fraction) else f"{100 * fraction:.2f}"
