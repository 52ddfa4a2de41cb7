"""Pictures of a run, written without being asked."""

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from pne_seg import visualization
from pne_seg.data.base import SegmentationDataModule
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule


@dataclass
class _Examples:
    """Some images of a split with labels and predictions, and the split's scores."""

    images: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    scores: SegmentationMetrics | None = None
    epoch: int = 0


class Figures(Callback):
    """Writes PNGs to `figures/` in the run's folder.

    `train_batch` shows the first augmented batch with its labels; `curves` losses and mIoU;
    `predictions` images with label, prediction and wrong pixels, `class_iou` and
    `confusion_matrix` the epoch with the best mIoU. They are drawn when the run ends, also when it
    is interrupted.

    Args:
        num_images: images in the mosaics, 8 at most; 0 writes no figure at all.

    Raises:
        ValueError: a number of images outside 0 to 8.
    """

    def __init__(self, num_images: int = 6) -> None:
        most = visualization.MAX_IMAGES
        if not 0 <= num_images <= most:
            raise ValueError(f"num_images must be 0 to {most}, got {num_images}.")
        self.num_images = num_images
        self.folder: Path | None = None  # of the run; nothing is drawn without one
        self._batch_drawn = False
        self._examples = _Examples()
        self._best: _Examples | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch, exactly as the network gets it."""
        if self._batch_drawn or not self._active(trainer):
            return
        self._batch_drawn = True
        count = self.num_images
        figure = visualization.training_mosaic(
            _channels_last(batch["image"][:count]),
            _arrays(batch["mask"][:count]),
            title="Training images as the network gets them",
            **self._look(trainer),
        )
        self._save(figure, "train_batch")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep some images of the split."""
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
        self._keep(trainer, int(batches[dataloader_idx]), batch, batch_idx, outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the epoch if it is the best."""
        examples, self._examples = self._examples, _Examples()
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationModule):
            return
        examples.scores, examples.epoch = pl_module.metrics, trainer.current_epoch
        if self._best is None or _miou(examples) > _miou(self._best):
            self._best = examples
        if trainer.state.fn == "validate":
            self._draw(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the split."""
        if isinstance(pl_module, SegmentationModule):
            self._examples.scores = pl_module.metrics
        self._best = self._examples
        self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the run."""
        self._draw(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is of an interrupted run."""
        if isinstance(exception, KeyboardInterrupt):
            self._draw(trainer)

    def _keep(
        self, trainer: Trainer, batches: int, batch: Any, batch_idx: int, predictions: Tensor
    ) -> None:
        if trainer.sanity_checking or not self._active(trainer):
            return
        # Evenly over the batches: neighbors are often frames of one video.
        shares = np.arange(self.num_images) / self.num_images
        places = (shares * batches - batch_idx) * len(predictions)
        here = sorted({int(place) for place in places if 0 <= place < len(predictions)})
        labels = _arrays(batch["mask"][here])
        images = _channels_last(batch["image"][here])
        self._examples.images += [
            at_labels_size(image, label.shape) for image, label in zip(images, labels, strict=True)
        ]
        self._examples.labels += labels
        self._examples.predictions += _arrays(predictions[here])
        self._examples.names += [batch["name"][place] for place in here]

    def _draw(self, trainer: Trainer) -> None:
        if not self._active(trainer):
            return
        if trainer.state.fn == "fit":
            history = _history(trainer)
            if history:
                self._save(visualization.plot_curves(history, title="Training"), "curves")
        best = self._best
        if best is None or best.scores is None:
            return
        look = self._look(trainer)
        when = {
            "fit": f"validation split, epoch {best.epoch}, the best",
            "validate": "validation split",
            "test": "test split",
        }[trainer.state.fn.value if trainer.state.fn else "fit"]
        if best.images:
            figure = visualization.validation_mosaic(
                best.images,
                best.labels,
                best.predictions,
                names=best.names,
                title=f"Predictions ({when})",
                **look,
            )
            self._save(figure, "predictions")
        figure = visualization.plot_class_iou(
            look["class_names"],
            best.scores.iou.numpy(),
            pixel_share=best.scores.pixel_share.numpy(),
            title=f"IoU by class ({when})",
        )
        self._save(figure, "class_iou")
        figure = visualization.plot_confusion_matrix(
            best.scores.matrix.numpy(), look["class_names"], title=f"Confusion ({when})"
        )
        self._save(figure, "confusion_matrix")

    def _active(self, trainer: Trainer) -> bool:
        return self.folder is not None and self.num_images > 0 and trainer.is_global_zero

    def _save(self, figure: Any, name: str) -> None:
        assert self.folder is not None
        visualization.save_figure(figure, self.folder / "figures" / f"{name}.png")

    def _look(self, trainer: Trainer) -> dict[str, Any]:
        data: SegmentationDataModule = trainer.datamodule  # type: ignore[attr-defined]
        return {
            "class_names": list(data.class_names),
            "palette": np.array(data.palette, dtype=np.uint8),
            "ignore_index": data.ignore_index,
        }


def _miou(examples: _Examples) -> float:
    score = examples.scores.miou if examples.scores is not None else float("nan")
    return -1.0 if np.isnan(score) else score


def _arrays(maps: Tensor) -> list[Any]:
    return list(maps.cpu().numpy())


def _channels_last(images: Tensor) -> list[Any]:
    return list(images.permute(0, 2, 3, 1).cpu().numpy())


def at_labels_size(image: Any, size: tuple[int, int]) -> Any:
    """An image at its labels' height and width; it was fitted to another for the network."""
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1])


def _history(trainer: Trainer) -> dict[str, list[tuple[float, float]]]:
    """Every logged value by name as (step, value), from the run's `metrics.csv`."""
    history: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):
            continue
        logger.save()
        path = Path(logger.experiment.metrics_file_path)
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for key, value in row.items():
                    if value and key not in ("step", "epoch"):
                        history[key].append((float(row["step"]), float(value)))
    return history
