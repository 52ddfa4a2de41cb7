"""Pictures of a run."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from pne_seg import visualization
from pne_seg.callbacks.progress import stop_progress
from pne_seg.callbacks.summary import rank
from pne_seg.description import SPLIT_NAMES, DataDescription
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import Batch
from pne_seg.runs import read_history
from pne_seg.tracking import log_figure, log_table, logged_step


class Example(NamedTuple):
    """An image, its labels and its prediction as arrays of the labels' size."""

    name: str
    image: Any
    labels: Any
    prediction: Any


class BestEpoch(NamedTuple):
    """The best evaluation so far."""

    metrics: SegmentationMetrics
    examples: list[Example]
    epoch: int
    step: int  # as loggers count, from 0


def take_examples(batch: Batch, predictions: Tensor, indices: Iterable[int]) -> list[Example]:
    """Copy some samples of a batch."""
    examples = []
    for index in indices:
        labels = batch["mask"][index].cpu().numpy()
        image = batch["image"][index].permute(1, 2, 0).cpu().numpy()
        if image.shape[:2] != labels.shape:  # it was fitted to another size for the network
            image = cv2.resize(image, labels.shape[::-1])
        prediction = predictions[index].cpu().numpy()
        examples.append(Example(batch["name"][index], image, labels, prediction))
    return examples


class Figures(Callback):
    """Write PNGs to `figures/` in the run's folder.

    `train_batch` shows the first augmented batch with its labels; `curves` losses and mIoU;
    `predictions` images with label, prediction and wrong pixels, `class_iou` and
    `confusion_matrix` the epoch with the best mIoU. They are drawn when the run ends, also when it
    is interrupted.

    Args:
        num_images: images in the mosaics, 8 at most; 0 writes no figure at all.
    """

    def __init__(self, num_images: int = 6) -> None:
        most = visualization.MAX_IMAGES
        if not 0 <= num_images <= most:
            raise ValueError(f"num_images must be 0 to {most}, got {num_images}.")
        self.num_images = num_images
        self.folder: Path | None = None  # of the run; nothing is drawn without one
        self._batch_drawn = False
        self._examples: list[Example] = []
        self.best: BestEpoch | None = None

    def on_train_batch_start(self, trainer: Trainer, _: Any, batch: Any, batch_idx: int) -> None:
        """Draw the first batch, exactly as the network gets it."""
        if self._batch_drawn or not self._active(trainer):
            return
        self._batch_drawn = True
        images = batch["image"][: self.num_images].permute(0, 2, 3, 1).cpu().numpy()
        labels = batch["mask"][: self.num_images].cpu().numpy()
        title = figure_title(trainer, "train", "images as the network gets them")
        figure = visualization.training_mosaic(images, labels, description_of(trainer), title=title)
        self._save(trainer, figure, "train_batch", logged_step(trainer))

    def on_validation_batch_end(
        self, trainer: Trainer, _: Any, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        if trainer.sanity_checking or not self._active(trainer):
            return
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        # Evenly over the batches: neighbors are often frames of one video.
        shares = np.arange(self.num_images) / self.num_images
        indices = (shares * int(batches[loader]) - batch_idx) * len(outputs)
        here = sorted({int(index) for index in indices if 0 <= index < len(outputs)})
        self._examples += take_examples(batch, outputs, here)

    def on_test_batch_end(self, *args: Any) -> None:
        self.on_validation_batch_end(*args)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        examples, self._examples = self._examples, []
        metrics: Any = getattr(pl_module, "metrics", None)
        if trainer.sanity_checking or not isinstance(metrics, SegmentationMetrics):
            return
        if self.best is None or trainer.testing or rank(metrics) > rank(self.best.metrics):
            step = logged_step(trainer)
            self.best = BestEpoch(metrics, examples, trainer.current_epoch, step)
        if trainer.state.fn != "fit":
            self._draw(trainer)

    on_test_end = on_validation_end

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer)

    def on_exception(self, trainer: Trainer, _: Any, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if self.folder is None or not trainer.is_global_zero:
            return
        if self.best is not None:
            self._log_table(trainer, self.best)
        if self._active(trainer):
            stop_progress(trainer)
            with Console(stderr=True).status("Drawing figures …"):
                self._draw_all(trainer)

    def _draw_all(self, trainer: Trainer) -> None:
        if trainer.state.fn == "fit":
            for logger in trainer.loggers:
                logger.save()
            if self.folder is not None and (history := read_history(self.folder)):
                heading = figure_title(trainer, "train", "losses and mIoU")
                figure = visualization.plot_curves(history, title=heading)
                last = max(step for values in history.values() for step, _ in values)
                self._save(trainer, figure, "curves", last - 1)
        if self.best is None:
            return
        metrics, examples, epoch, step = self.best
        split = "test" if trainer.state.fn == "test" else "val"
        when = f", epoch {epoch} (best)" if trainer.state.fn == "fit" else ""

        def title(what: str) -> str:
            return figure_title(trainer, split, f"{what}{when}")

        data = description_of(trainer)
        if examples:
            figure = mosaic(examples, data, title("predictions"))
            self._save(trainer, figure, "predictions", step)
        names, shares = data.class_names, metrics.pixel_share.numpy()
        figure = visualization.plot_class_iou(
            names, metrics.iou.numpy(), pixel_share=shares, title=title("IoU by class")
        )
        self._save(trainer, figure, "class_iou", step)
        figure = visualization.plot_confusion_matrix(
            metrics.matrix.numpy(), names, title=title("confusions")
        )
        self._save(trainer, figure, "confusion_matrix", step)

    def _log_table(self, trainer: Trainer, best: BestEpoch) -> None:
        metrics = best.metrics
        columns = ["class", "IoU", "accuracy", "share of pixels"]
        values = (metrics.iou.tolist(), metrics.accuracy.tolist(), metrics.pixel_share.tolist())
        rows = [list(row) for row in zip(description_of(trainer).class_names, *values, strict=True)]
        log_table(trainer.loggers, "classes", columns, rows, best.step)

    def _active(self, trainer: Trainer) -> bool:
        return self.folder is not None and self.num_images > 0 and trainer.is_global_zero

    def _save(self, trainer: Trainer, figure: Any, name: str, step: int) -> None:
        assert self.folder is not None
        file = self.folder / "figures" / f"{name}.png"
        visualization.save_figure(figure, file)
        log_figure(trainer.loggers, file, step)


def mosaic(examples: Sequence[Example], data: DataDescription, title: str) -> Any:
    """Draw examples with their labels, predictions and wrong pixels."""
    names, images, labels, predictions = map(list, zip(*examples, strict=True))
    return visualization.validation_mosaic(
        images, labels, predictions, names=names, data=data, title=title
    )


def figure_title(trainer: Trainer, split: str, what: str) -> str:
    """Return a title such as `Scenes · validation · predictions`."""
    name: str = trainer.datamodule.display_name  # type: ignore[attr-defined]
    return f"{name} · {SPLIT_NAMES[split]} · {what}"


def description_of(trainer: Trainer) -> DataDescription:
    """Return the description of the trainer's data."""
    data: DataDescription = trainer.datamodule.description  # type: ignore[attr-defined]
    return data
