"""The metrics of a run and their protocol: tables on the screen and `metrics.json`."""

import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.callbacks.exact_resume import gather
from pne_seg.callbacks.progress import stop_progress
from pne_seg.data.base import SegmentationDataModule
from pne_seg.description import SPLIT_NAMES, pixel_sizes
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics, percent
from pne_seg.module import Batch, SegmentationModule
from pne_seg.runs import METRICS

Size = tuple[int, int]  # height and width
ImageCounts = Counter[tuple[Size, Size, Size | None]]
"""Images by the sizes of their input before padding, their labels, and their file if known."""


class Summary(Callback):
    """Print the metrics and write them, as fractions, with their protocol to `metrics.json`.

    A test also has the metrics near the borders between classes. Those of a training are from the
    epoch with the best mIoU, as is `best.ckpt`.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None  # of the run; if None, nothing is written
        self.origin: dict[str, Any] = {}  # further values of `metrics.json`: what was evaluated
        # The best evaluation: its matrix, its protocol, and in a training its epoch and step.
        self.best: dict[str, Any] = {}
        self._resumed: dict[str, Any] = {}
        self._counts: ImageCounts = Counter()
        self._epoch_seconds: list[float] = []  # of training, without validation
        self._began = self._epoch_began = self._validation_began = 0.0

    @property
    def metrics(self) -> SegmentationMetrics | None:
        """The metrics of the best evaluation so far."""
        return _metrics(self.best) if self.best else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the best metrics together with the best checkpoint."""
        self._began = time.perf_counter()
        best = trainer.checkpoint_callback
        if self._resumed and isinstance(best, ModelCheckpoint) and best.best_model_path:
            self.best = self._resumed
        self._resumed = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_seconds.append(time.perf_counter() - self._epoch_began)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, *_: int
    ) -> None:
        (*_, height, width), (*_, rows, columns) = batch["image"].shape, batch["mask"].shape
        for size in batch.get("source_size") or [None] * len(batch["image"]):
            file = None if size is None else (size[0], size[1])
            self._counts[(height, width), (rows, columns), file] += 1

    def on_test_batch_end(self, *args: Any) -> None:
        self.on_validation_batch_end(*args)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_began += time.perf_counter() - self._validation_began
        counts, self._counts = self._counts, Counter()
        assert isinstance(pl_module, SegmentationModule)
        if trainer.sanity_checking or pl_module.metrics is None:
            return
        found, metrics = protocol(trainer, pl_module, counts), pl_module.metrics
        if not self.best or trainer.testing or rank(metrics) > rank(_metrics(self.best)):
            when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            when = when if trainer.state.fn == "fit" else {}
            self.best = {"matrix": metrics.matrix, "protocol": found, "when": when}
        if trainer.state.fn != "fit":
            self.on_fit_end(trainer, pl_module)

    on_test_end = on_validation_end

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if not self.best or not trainer.is_global_zero:
            return
        stop_progress(trainer)
        self._print(trainer, pl_module)
        if self.folder is not None:
            self._write(trainer, pl_module, self.folder / METRICS)

    def state_dict(self) -> dict[str, Any]:
        return self.best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until it is known whether their checkpoint is available."""
        self._resumed = state_dict

    def _print(self, trainer: Trainer, module: SegmentationModule) -> None:
        metrics, when = _metrics(self.best), self.best["when"]
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 120  # a file or a pipe has no width to fold the table to
        best = f" (best epoch, {when['epoch']}; step {when['step']})" if when else ""
        title = f"{'test' if trainer.testing else 'val'} metrics in percent{best}"
        table = Table(title=title, title_justify="left", show_footer=True)
        table.add_column("class", footer="mean over classes that occur")
        for name, footer in (("IoU", metrics.miou), ("accuracy", metrics.macc)):
            table.add_column(name, justify="right", footer=percent(footer))
        table.add_column("share of pixels", justify="right")
        columns = (metrics.iou.tolist(), metrics.accuracy.tolist(), metrics.pixel_share.tolist())
        for name, *values in zip(module.class_names, *columns, strict=True):
            table.add_row(Text(name), *map(percent, values))
        console.print(table)
        console.print(
            f"pixel accuracy {percent(metrics.pixel_accuracy)}; mIoU of always predicting the most "
            f"frequent class {percent(metrics.majority_miou)}"
        )
        if trainer.testing and (boundary := module.boundary_metrics) is not None:
            title = "by distance to the nearest border between classes"
            table = Table("distance", title=title, title_justify="left")
            for name in ("mIoU", "pixel accuracy", "share of pixels"):
                table.add_column(name, justify="right")
            rows = {f"up to {width} px": near for width, near in boundary.within.items()}
            rows[f"more than {max(boundary.within)} px"] = boundary.beyond
            for name, near in rows.items():
                share = float(near.matrix.sum() / metrics.matrix.sum())
                table.add_row(name, *map(percent, (near.miou, near.pixel_accuracy, share)))
            console.print(table)
        if trainer.state.fn != "fit":
            console.print(Text(in_words(self.best["protocol"], str(module.scorer.inference))))

    def _write(self, trainer: Trainer, module: SegmentationModule, file: Path) -> None:
        metrics, stage = _metrics(self.best), "test" if trainer.testing else "val"
        content: dict[str, Any] = metrics.as_dict(stage, module.class_names)
        content |= self.best["when"] | self.origin
        if trainer.testing and module.boundary_metrics is not None:
            content |= module.boundary_metrics.as_dict(stage)
        content[f"{stage}/majority_class_mIoU"] = metrics.majority_miou
        if self._epoch_seconds and trainer.state.fn == "fit":
            seconds = statistics.median(self._epoch_seconds)
            content |= {
                "epochs": trainer.current_epoch,
                "seconds": time.perf_counter() - self._began,
                "median_seconds_per_training_epoch": seconds,
                "median_seconds_per_training_batch": seconds / trainer.num_training_batches,
                "peak_memory_bytes": _peak_memory(trainer.strategy.root_device),
            }
        # JSON has no NaN: a class that does not occur is null.
        for key, value in content.items():
            if isinstance(value, float) and math.isnan(value):
                content[key] = None
        content["protocol"] = self.best["protocol"]
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(file, text.encode())


def _metrics(best: dict[str, Any]) -> SegmentationMetrics:
    return SegmentationMetrics.from_matrix(best["matrix"])


def rank(metrics: SegmentationMetrics) -> float:
    """Return the mIoU, or -1 if it is NaN."""
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


def protocol(trainer: Trainer, module: SegmentationModule, counts: ImageCounts) -> dict[str, Any]:
    """Describe how the metrics of an evaluation were measured, as plain values for JSON.

    All processes must call it, with the counts of their images. Sizes are [height, width], the
    smallest and the largest of them by area. `files_at` is None unless labels were scaled from
    their files' size; `complete` is false if the trainer left images out.
    """
    counts = sum(gather(trainer, counts), Counter())
    labels = {size for _, size, _ in counts}
    files = {size for *_, size in counts if size is not None}
    data = getattr(trainer, "datamodule", None)
    split = "test" if trainer.testing else "val"
    limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    ious = [] if module.metrics is None else module.metrics.iou.tolist()
    return {
        "data": type(data).__name__ if data is not None else None,
        "split": split,
        "same_images_as_val": split == "test" and _tests_on_val(data),
        "images": counts.total(),
        "complete": isinstance(limit, float) and limit == 1,
        "image_sizes": _extremes({size for size, *_ in counts}),
        "fitted_to": getattr(data, "resize_base", None),
        "inference": asdict(module.scorer.inference),
        **module.preprocessing.normalization,
        "padded_to_multiples_of": module.preprocessing.stride,
        "scored_at": _extremes(labels),
        "files_at": _extremes(files) if files - labels else None,
        "ignore_index": module.ignore_index,
        "absent_classes": [module.class_names[i] for i, iou in enumerate(ious) if math.isnan(iou)],
        "precision": str(trainer.precision),
    }


def _tests_on_val(data: Any) -> bool:
    """Return whether a data set's test split is its validation split."""
    if not isinstance(data, SegmentationDataModule):
        return False
    try:
        val, test = data.split("val"), data.split("test")
    except UserError:  # there is no validation split here
        return False
    return [*map(val.name, range(len(val)))] == [*map(test.name, range(len(test)))]


def _extremes(sizes: set[Size]) -> list[list[int]]:
    """Return the smallest and the largest size, or the only one."""
    ordered = [list(size) for size in sorted(sizes, key=lambda size: (size[0] * size[1], size))]
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered


def in_words(found: Mapping[str, Any], inference: str) -> str:
    """Describe a `protocol` in lines for the screen."""
    box, stride = found["fitted_to"], found["padded_to_multiples_of"]
    fitted = f", fitted to {box[0]}×{box[1]} (ratio kept)" if box else ""
    padded = f", padded to multiples of {stride}" if stride > 1 else ""
    absent, measured = ", ".join(found["absent_classes"]), pixel_sizes(found["scored_at"])
    size = f"at the labels' own size, {measured}"
    if found["files_at"]:
        size = f"at {measured}, to which the labels were scaled from "
        size += pixel_sizes(found["files_at"])
    split = SPLIT_NAMES[found["split"]]
    lines = [
        f"images   {found['images']} of the {split} split of {found['data'] or 'the data'}, "
        f"{pixel_sizes(found['image_sizes'])}{fitted}{padded}; {inference}",
        f"metrics  {size}, from one count over all images; the label {found['ignore_index']} is "
        "not counted",
        "means    over the classes that occur in labels or predictions; "
        + (f"absent: {absent}" if absent else "no class is absent"),
    ]
    if found["same_images_as_val"]:
        lines.append(
            "note     this data set's test split is its validation split, by which the best "
            "checkpoint was chosen"
        )
    if not found["complete"]:
        lines.append("note     only a part of the split: the trainer leaves batches out")
    return "\n".join(lines)
