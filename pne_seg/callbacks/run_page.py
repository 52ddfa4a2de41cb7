"""The page of a run: written when its training ends, and again when its best weights are tested."""

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from pne_seg.callbacks.figures import Example, Figures
from pne_seg.callbacks.image_scores import ImageScores
from pne_seg.callbacks.progress import device_name
from pne_seg.callbacks.stop_on_signal import Stopped
from pne_seg.callbacks.summary import Summary, in_words
from pne_seg.callbacks.suspect_labels import SuspectLabels
from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.description import SPLIT_NAMES
from pne_seg.files import write_bytes_atomically
from pne_seg.module import Batch, SegmentationModule
from pne_seg.page.run_content import PAGE, Group, ShownImage, read_facts, run_html
from pne_seg.runs import METRICS, read_metrics, run_of_checkpoint

Settings = Sequence[tuple[str, str, str]]
"""Settings with their value and their default."""


class RunPage(Callback):
    """Write `report.html` in the run's folder, also when the training is stopped or fails.

    It comes after the callbacks that it shows: metrics of the summary, images of the figures and
    the worst of all images. A failure to write it is a warning. A test rewrites the page that the
    training left, with the test's metrics, images and suspect labels.
    """

    def __init__(
        self,
        figures: Figures,
        summary: Summary,
        images: ImageScores,
        suspects: SuspectLabels | None = None,
    ) -> None:
        self.figures = figures
        self.summary = summary
        self.images = images
        self.suspects = suspects
        self.folder: Path | None = None  # of the run; if None, nothing is written
        self.about: dict[str, Any] = {"name": "", "seed": None}
        self.settings: Callable[[], Settings] = tuple  # those that differ from their defaults
        self._began = time.time()
        self._resumed: Path | None = None
        self._batch: list[int] = []  # images, height and width
        self._worst: list[ShownImage] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.time()
        self._resumed = Path(trainer.ckpt_path) if trainer.ckpt_path else None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if not self._batch:
            images, _, *size = batch["image"].shape
            self._batch = [images, *size]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SegmentationModule)
        best = self.figures.best
        if self._is_on(trainer) and best is not None and best.metrics is pl_module.metrics:
            self._worst = _shown(self.images.extremes()["worst"], pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module, "")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if trainer.state.fn != "fit" or not trainer.global_step:
            return
        ended = f"The training failed at step {trainer.global_step}: {exception}"
        if isinstance(exception, Stopped):
            name = signal.Signals(exception.signum).name
            ended = f"The training was stopped by {name} after step {exception.step}."
        elif isinstance(exception, KeyboardInterrupt):
            ended = f"The training was interrupted after step {trainer.global_step}."
        self._write(trainer, pl_module, ended)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.summary.best["protocol"]["complete"]:
            self._write(trainer, pl_module, "")

    def _is_on(self, trainer: Trainer) -> bool:
        return self.folder is not None and self.figures.num_images > 0 and trainer.is_global_zero

    def _write(self, trainer: Trainer, module: LightningModule, ended: str) -> None:
        if not self._is_on(trainer):
            return
        assert self.folder is not None
        assert isinstance(module, SegmentationModule)
        try:
            facts = (
                read_facts(self.folder) if trainer.testing else self._facts(trainer, module, ended)
            )
            split = "test" if trainer.testing else "val"
            if facts is None:  # a test of a run without a page
                return
            if self.summary.best:
                facts[split] = _evaluation(self.summary.best, module)
            page = run_html(self.folder, facts, self._groups(module, split))
            write_bytes_atomically(self.folder / PAGE, page.encode())
            rank_zero_info(f"Page of the run: {self.folder / PAGE}")
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            rank_zero_warn(f"{self.folder / PAGE} was not written: {reason[:300]}")

    def _groups(self, module: SegmentationModule, split: str) -> list[Group]:
        where = SPLIT_NAMES[split]
        groups: list[Group] = []
        if (best := self.figures.best) is not None:
            when = f", after epoch {best.epoch}" if split == "val" else ""
            text = (
                f"Evenly over the {where} split{when}. The slider goes from label to prediction; "
                "wrong pixels are orange, ignored ones blue."
            )
            groups.append(("Examples", text, _shown(best.examples, module)))
        worst = self._worst
        if split == "test":
            worst = _shown(self.images.extremes()["worst"], module)
        text = f"The {where} images with the lowest mIoU over the classes that occur in each."
        groups.append(("Worst images", text, worst))
        if self.suspects is not None and self.suspects.worst is not None:
            text = (
                "Regions where the network is confident of another class than the label, the worst "
                "first. All are in suspects.csv."
            )
            crops = [
                Example(caption, crop.image, crop.labels, crop.prediction)
                for caption, crop in self.suspects.worst.crops()
            ]
            groups.append(("Suspect labels", text, _shown(crops, module)))
        return groups

    def _facts(self, trainer: Trainer, module: SegmentationModule, ended: str) -> dict[str, Any]:
        """Describe the training in plain values."""
        assert self.folder is not None
        data: SegmentationDataModule = trainer.datamodule  # type: ignore[attr-defined]
        for logger in trainer.loggers:
            logger.save()
        resumed = run_of_checkpoint(self._resumed) if self._resumed else None
        splits: dict[str, Split] = {"training": "train", "validation": "val"}
        return {
            **self.about,
            "version": self.folder.name,
            "method": _method(module, data),
            "ended": ended,
            "resumed": str(self._resumed or ""),
            "resumed_run": str(resumed.folder) if resumed is not None else "",
            "began": time.strftime("%Y-%m-%d %H:%M", time.localtime(self._began)),
            "seconds": time.time() - self._began,
            "steps": trainer.global_step,
            "epochs": trainer.current_epoch,
            "data": data.description.as_dict(),
            "splits": {name: len(data.split(split)) for name, split in splits.items()},
            "batch": self._batch,
            "settings": list(self.settings()),
            "cost": _cost(trainer, module, self.folder),
        }


def _shown(examples: Sequence[Example], module: SegmentationModule) -> list[ShownImage]:
    return [ShownImage.of(*example, ignore=module.ignore_index) for example in examples]


def _evaluation(best: Mapping[str, Any], module: SegmentationModule) -> dict[str, Any]:
    """Return the counts of the best evaluation, when it was, and its protocol in words."""
    words = in_words(best["protocol"], str(module.scorer.inference))
    return {"matrix": best["matrix"].tolist(), "when": best["when"], "protocol": words}


def _method(module: SegmentationModule, data: SegmentationDataModule) -> str:
    """Name network, training-only terms and data in a line."""
    name = getattr(module.network, "name", None)  # smp's, such as unet-resnet34
    parts = [name if isinstance(name, str) else type(module.network).__name__]
    parts += [type(term).__name__ for term in module.terms]
    return f"{' + '.join(parts)}, trained on {type(data).__name__}"


def _cost(trainer: Trainer, module: SegmentationModule, folder: Path) -> list[tuple[str, str]]:
    count = sum(parameter.numel() for parameter in module.network.parameters())
    more = sum(parameter.numel() for parameter in module.parameters()) - count
    rows = [
        ("device", device_name(trainer)),
        ("precision", str(trainer.precision)),
        ("parameters of the network", f"{count:,}"),
        ("parameters for training only", f"{more:,}"),
    ]
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else {}
    if (seconds := metrics.get("median_seconds_per_training_batch")) is not None:
        rows.append(("median seconds per training batch", f"{seconds:.3f}"))
    if (memory := metrics.get("peak_memory_bytes")) is not None:
        whose = "GPU" if trainer.strategy.root_device.type == "cuda" else "whole process"
        rows.append(("peak memory", f"{memory / 1e9:.2f} GB ({whose})"))
    return rows
