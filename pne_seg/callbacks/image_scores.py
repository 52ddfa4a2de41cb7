"""Metrics of each image of a test: a table in a file, and pictures of the worst and the best."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pne_seg import visualization
from pne_seg.callbacks.figures import at_labels_size
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics, percent
from pne_seg.module import SegmentationModule

Pixels = npt.NDArray[Any]


@dataclass
class _ScoredImage:
    """An image of the split with its scores; only the worst and the best keep their pixels."""

    name: str
    miou: float
    pixel_accuracy: float
    pixels: int
    image: Pixels | None = None
    labels: Pixels | None = None
    prediction: Pixels | None = None

    def drop_pixels(self) -> None:
        self.image = self.labels = self.prediction = None


class ImageScores(Callback):
    """Writes `images.csv`, and `worst.png` and `best.png` with their wrong pixels to `figures/`.

    An image's mIoU is the mean over the classes that occur in its labels or its prediction. Images
    without a labeled pixel have none and are not shown.

    Args:
        num_images: of the worst and of the best that are shown; 0 writes only the table.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self.folder: Path | None = None  # nothing is written without one
        self._images: list[_ScoredImage] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with no images."""
        self._images = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score each image of the batch."""
        assert isinstance(pl_module, SegmentationModule)
        if self.folder is None:
            return
        rows = zip(batch["name"], batch["image"], batch["mask"], outputs, strict=True)
        for name, image, labels, prediction in rows:
            scores = _score(labels.long(), prediction, pl_module)
            counted = int(scores.matrix.sum())
            entry = _ScoredImage(name, scores.miou, scores.pixel_accuracy, counted)
            if self.num_images:
                entry.labels, entry.prediction = labels.cpu().numpy(), prediction.cpu().numpy()
                pixels = image.permute(1, 2, 0).cpu().numpy()
                entry.image = at_labels_size(pixels, entry.labels.shape)
            self._images.append(entry)
        self._keep_extremes()

    def _keep_extremes(self) -> None:
        """Let go of the pixels of all images but the worst and the best so far."""
        candidates = _ranked([entry for entry in self._images if entry.image is not None])
        unscored = [entry for entry in self._images if math.isnan(entry.miou)]
        middle = candidates[self.num_images : len(candidates) - self.num_images]
        for entry in (*middle, *unscored):
            entry.drop_pixels()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the processes' images together, and write."""
        if self.folder is None:
            return
        if trainer.world_size > 1:
            self._gather(trainer)
        if not trainer.is_global_zero:
            return
        self._write_table(self.folder / "images.csv")
        data = trainer.datamodule.description  # type: ignore[attr-defined]
        ranked, count = _ranked(self._images), self.num_images
        # In a small split an image is shown once.
        extremes = {"worst": ranked[:count], "best": ranked[count:][::-1][:count]}
        for which, images in extremes.items():
            if not images:
                continue
            figure = visualization.validation_mosaic(
                [entry.image for entry in images if entry.image is not None],
                [entry.labels for entry in images if entry.labels is not None],
                [entry.prediction for entry in images if entry.prediction is not None],
                names=[f"{entry.name}, mIoU {percent(entry.miou)}%" for entry in images],
                class_names=data.class_names,
                palette=np.array(data.palette, dtype=np.uint8),
                ignore_index=data.ignore_index,
                title=f"The {which} images of the test split, by mIoU",
            )
            visualization.save_figure(figure, self.folder / "figures" / f"{which}.png")

    def _gather(self, trainer: Trainer) -> None:
        parts: list[list[_ScoredImage]] = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(parts, self._images)
        self._images = [entry for part in parts for entry in part]
        self._keep_extremes()

    def _write_table(self, path: Path) -> None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["name", "mIoU", "pixel_accuracy", "labeled_pixels"])
        for entry in sorted(self._images, key=lambda entry: entry.name):
            values = (entry.miou, entry.pixel_accuracy)
            shown = ["" if math.isnan(value) else f"{value:.6f}" for value in values]
            rows.writerow([entry.name, *shown, entry.pixels])
        write_bytes_atomically(path, text.getvalue().encode())


def _ranked(images: list[_ScoredImage]) -> list[_ScoredImage]:
    """Those that have a score, the worst first."""
    scored = [entry for entry in images if not math.isnan(entry.miou)]
    return sorted(scored, key=lambda entry: (entry.miou, entry.name))


def _score(labels: Tensor, prediction: Tensor, module: SegmentationModule) -> SegmentationMetrics:
    classes, labeled = module.num_classes, labels != module.ignore_index
    cells = (labels * classes + prediction)[labeled]
    counts = torch.bincount(cells, minlength=classes**2)
    return SegmentationMetrics.from_matrix(counts.view(classes, classes))
