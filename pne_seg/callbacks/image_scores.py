"""SegmentationMetrics of each image of a test: a table in a file, and pictures of the worst and the best."""

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

from pne_seg import report
from pne_seg.callbacks.figures import at_labels_size
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics
from pne_seg.module import SegmentationModule
from pne_seg.report.wording import percent

Pixels = npt.NDArray[Any]


@dataclass
class _Shot:
    """An image of the split with its scores; the pixels of the worst and best alone are kept."""

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
    without a labelled pixel have none and are not shown.

    Args:
        num_images: of the worst and of the best that are shown; 0 writes the table alone.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self.folder: Path | None = None  # nothing is written without one
        self._shots: list[_Shot] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._shots = []

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
            shot = _Shot(name, scores.miou, scores.pixel_accuracy, int(scores.matrix.sum()))
            if self.num_images:
                shot.labels, shot.prediction = labels.cpu().numpy(), prediction.cpu().numpy()
                shot.image = at_labels_size(image.permute(1, 2, 0).cpu().numpy(), shot.labels.shape)
            self._shots.append(shot)
        self._keep_extremes()

    def _keep_extremes(self) -> None:
        """Let go of the pixels of all images but the worst and the best so far."""
        candidates = _ranked([shot for shot in self._shots if shot.image is not None])
        unscored = [shot for shot in self._shots if math.isnan(shot.miou)]
        middle = candidates[self.num_images : len(candidates) - self.num_images]
        for shot in (*middle, *unscored):
            shot.drop_pixels()

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
        ranked, count = _ranked(self._shots), self.num_images
        # In a small split an image is shown once.
        extremes = {"worst": ranked[:count], "best": ranked[count:][::-1][:count]}
        for which, shots in extremes.items():
            if not shots:
                continue
            report.validation_mosaic(
                [shot.image for shot in shots if shot.image is not None],
                [shot.labels for shot in shots if shot.labels is not None],
                [shot.prediction for shot in shots if shot.prediction is not None],
                names=[f"{shot.name}, mIoU {percent(shot.miou)}%" for shot in shots],
                class_names=data.class_names,
                palette=np.array(data.palette, dtype=np.uint8),
                ignore_index=data.ignore_index,
                path=self.folder / "figures" / f"{which}.png",
                title=f"The {which} images of the test split, by mIoU",
            )

    def _gather(self, trainer: Trainer) -> None:
        parts: list[list[_Shot]] = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(parts, self._shots)
        self._shots = [shot for part in parts for shot in part]
        self._keep_extremes()

    def _write_table(self, path: Path) -> None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["name", "mIoU", "pixel_accuracy", "labelled_pixels"])
        for shot in sorted(self._shots, key=lambda shot: shot.name):
            values = (shot.miou, shot.pixel_accuracy)
            shown = ["" if math.isnan(value) else f"{value:.6f}" for value in values]
            rows.writerow([shot.name, *shown, shot.pixels])
        write_bytes_atomically(path, text.getvalue().encode())


def _ranked(shots: list[_Shot]) -> list[_Shot]:
    """Those that have a score, the worst first."""
    scored = [shot for shot in shots if not math.isnan(shot.miou)]
    return sorted(scored, key=lambda shot: (shot.miou, shot.name))


def _score(labels: Tensor, prediction: Tensor, module: SegmentationModule) -> SegmentationMetrics:
    classes, labelled = module.num_classes, labels != module.ignore_index
    cells = (labels * classes + prediction)[labelled]
    counts = torch.bincount(cells, minlength=classes**2)
    return SegmentationMetrics.from_matrix(counts.view(classes, classes))
