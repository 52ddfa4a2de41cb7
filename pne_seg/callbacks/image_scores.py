"""Metrics of every image, and the pixels of the worst and the best."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from pne_seg import visualization
from pne_seg.callbacks.exact_resume import gather
from pne_seg.callbacks.figures import Example, description_of, figure_title, mosaic, take_examples
from pne_seg.callbacks.progress import stop_progress
from pne_seg.files import write_bytes_atomically
from pne_seg.metrics import SegmentationMetrics, percent
from pne_seg.module import SegmentationModule


@dataclass
class _ScoredImage:
    """An image of the split with its metrics; only the worst and the best keep their pixels."""

    name: str
    miou: float
    pixel_accuracy: float
    pixels: int
    example: Example | None = None


class ImageScores(Callback):
    """Write `images.csv`, and `worst.png` and `best.png` with their wrong pixels to `figures/`.

    An image's mIoU is the mean over the classes that occur in its labels or its prediction. Images
    without a labeled pixel have none and are not shown. In a training nothing is written, and
    `extremes` are of the images that the first process saw in the latest validation.

    Args:
        num_images: of the worst and of the best that are shown; 0 writes only the table.
    """

    def __init__(self, num_images: int = 4) -> None:
        self.num_images = num_images
        self.folder: Path | None = None  # nothing is written without one
        self._images: list[_ScoredImage] = []
        self._held: list[_ScoredImage] = []  # those that keep their pixels

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._images, self._held = [], []

    on_validation_start = on_test_start

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if self.num_images and trainer.is_global_zero and not trainer.sanity_checking:
            self.on_test_batch_end(trainer, *args)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if self.folder is None:
            return
        classes = pl_module.num_classes
        for index, name in enumerate(batch["name"]):
            labels = batch["mask"][index].long()
            cells = (labels * classes + outputs[index])[labels != pl_module.ignore_index]
            counts = torch.bincount(cells, minlength=classes**2).view(classes, classes)
            metrics = SegmentationMetrics.from_matrix(counts)
            pixels = int(metrics.matrix.sum())
            scored = _ScoredImage(name, metrics.miou, metrics.pixel_accuracy, pixels)
            if self._is_extreme(scored):  # copying all images would take longer than scoring them
                (scored.example,) = take_examples(batch, outputs, [index])
                self._held.append(scored)
            self._images.append(scored)
        self._keep_extremes()

    def _is_extreme(self, scored: _ScoredImage) -> bool:
        """Return whether an image is among the worst or the best so far."""
        held, count = _ranked(self._held), self.num_images
        if not count or not scored.pixels or len(held) < 2 * count:
            return bool(count and scored.pixels)
        return not _order(held[count - 1]) <= _order(scored) <= _order(held[-count])

    def _keep_extremes(self) -> None:
        """Drop the pixels of all images except the worst and the best so far."""
        held, count = _ranked(self._held), self.num_images
        for scored in held[count : len(held) - count]:
            scored.example = None
        self._held = [scored for scored in held if scored.example is not None]

    def extremes(self) -> dict[str, list[Example]]:
        """Return the worst and the best images, their mIoU in their name; each image once."""
        ranked, count = _ranked(self._images), self.num_images
        extremes = {"worst": ranked[:count], "best": ranked[count:][::-1][:count]}
        return {
            which: [
                image.example._replace(name=f"{image.name}, mIoU {percent(image.miou)}%")
                for image in images
                if image.example is not None
            ]
            for which, images in extremes.items()
        }

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.folder is None:
            return
        self._images = [scored for part in gather(trainer, self._images) for scored in part]
        self._held = [scored for scored in self._images if scored.example is not None]
        self._keep_extremes()
        if not trainer.is_global_zero:
            return
        self._write_table(self.folder / "images.csv")
        stop_progress(trainer)
        for which, examples in self.extremes().items():
            if examples:
                title = figure_title(trainer, "test", f"the {which} images by mIoU")
                with Console(stderr=True).status(f"Drawing {which}.png …"):
                    figure = mosaic(examples, description_of(trainer), title)
                    visualization.save_figure(figure, self.folder / "figures" / f"{which}.png")

    def _write_table(self, path: Path) -> None:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["name", "mIoU", "pixel_accuracy", "labeled_pixels"])
        for image in sorted(self._images, key=lambda image: image.name):
            values = (image.miou, image.pixel_accuracy)
            shown = ["" if math.isnan(value) else f"{value:.6f}" for value in values]
            rows.writerow([image.name, *shown, image.pixels])
        write_bytes_atomically(path, text.getvalue().encode())


def _ranked(images: Sequence[_ScoredImage]) -> list[_ScoredImage]:
    """Return those with a labeled pixel, the worst first."""
    return sorted((image for image in images if image.pixels), key=_order)


def _order(image: _ScoredImage) -> tuple[float, str]:
    return image.miou, image.name
