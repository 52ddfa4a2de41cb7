"""Suspect labels of a test: where the network, confidently, contradicts the label."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console

from pne_seg import visualization
from pne_seg.callbacks.exact_resume import gather
from pne_seg.callbacks.figures import description_of, figure_title
from pne_seg.callbacks.progress import stop_progress
from pne_seg.files import write_bytes_atomically
from pne_seg.module import SegmentationModule
from pne_seg.suspects import SHOWN, SuspectSearch, WorstSuspects


class SuspectLabels(Callback):
    """Write `suspects.csv`, and `figures/suspects.png` with the worst, in a test.

    Args:
        search: what counts as a suspect label.
        num_images: suspects in the picture, 8 at most; 0 writes only the table.
    """

    def __init__(self, search: SuspectSearch, num_images: int = SHOWN) -> None:
        self.search = search
        self.num_images = num_images
        self.folder: Path | None = None  # nothing is written without one
        self.worst: WorstSuspects | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        self.worst = None
        pl_module.log_probabilities = self.folder is not None and self.search.max_rows > 0
        if pl_module.log_probabilities:
            names, ignore = pl_module.class_names, pl_module.ignore_index
            self.worst = WorstSuspects(self.search, names, ignore, min(self.num_images, SHOWN))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: int
    ) -> None:
        assert isinstance(pl_module, SegmentationModule)
        if self.worst is None:
            return
        scored = pl_module.scored
        assert scored is not None
        assert scored.log_probabilities is not None
        for index, name in enumerate(batch["name"]):
            image, labels = batch["image"][index], batch["mask"][index]
            chances = scored.log_probabilities[:, index]
            self.worst.add("test", name, image, labels, scored.classes[index], chances)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        pl_module.log_probabilities = False
        if self.worst is None:
            return
        assert self.folder is not None
        first, *others = gather(trainer, self.worst)
        first.merge(others)
        self.worst = first
        if not trainer.is_global_zero:
            return
        file, picture = self.folder / "suspects.csv", self.folder / "figures" / "suspects.png"
        write_bytes_atomically(file, first.table())
        stop_progress(trainer)
        if crops := first.crops():
            title = figure_title(trainer, "test", "suspect labels")
            with Console(stderr=True).status("Drawing suspects.png …"):
                figure = visualization.suspects_mosaic(crops, description_of(trainer), title=title)
                visualization.save_figure(figure, picture)
        else:
            picture.unlink(missing_ok=True)  # of an earlier test
        rank_zero_info(f"{first} {file}" if first.regions else str(first))
