"""Scores as tables on the screen, in percent, with the protocol that they were measured by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pne_seg.boundaries import BoundaryScores
from pne_seg.data.base import SegmentationDataModule
from pne_seg.description import pixel_sizes
from pne_seg.errors import UserError
from pne_seg.metrics import Scores, percent
from pne_seg.module import Batch, SegmentationModule


class Seen:
    """How many images an evaluation saw, and of which sizes.

    Attributes:
        images: their number.
        inputs: (height, width) of the images as the network got them, before padding.
        labels: (height, width) of their labels.
        files: (height, width) of the images as distributed, where they say it.
    """

    def __init__(self) -> None:
        self.images = 0
        self.inputs: set[tuple[int, int]] = set()
        self.labels: set[tuple[int, int]] = set()
        self.files: set[tuple[int, int]] = set()

    def add(self, batch: Batch) -> None:
        """Note a batch."""
        images, labels = batch["image"], batch["mask"]
        self.images += len(images)
        self.inputs.add((images.shape[-2], images.shape[-1]))
        self.labels.add((labels.shape[-2], labels.shape[-1]))
        self.files.update((height, width) for height, width in batch.get("source_size", ()))

    def gather(self, trainer: Trainer) -> None:
        """Bring together what the processes saw."""
        if trainer.world_size == 1:
            return
        parts: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, vars(self))
        self.images = sum(part["images"] for part in parts)
        for kind in ("inputs", "labels", "files"):
            setattr(self, kind, set().union(*(part[kind] for part in parts)))


def protocol(trainer: Trainer, module: SegmentationModule, seen: Seen) -> dict[str, Any]:
    """How the scores of an evaluation came about, as plain values for JSON.

    All processes must call it. Sizes are [height, width], the smallest and the largest of them by
    area. `files_at` is there where labels were scaled from their files' size; `complete` is false
    where the trainer was told to leave images out.
    """
    seen.gather(trainer)
    data = getattr(trainer, "datamodule", None)
    split = "test" if trainer.testing else "val"
    limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    scores = module.scores
    absent = [] if scores is None else [i for i, iou in enumerate(scores.iou) if math.isnan(iou)]
    return {
        "data": type(data).__name__ if data is not None else None,
        "split": split,
        "same_images_as_val": split == "test" and _tests_on_val(data),
        "images": seen.images,
        "complete": isinstance(limit, float) and limit == 1,
        "image_sizes": _extremes(seen.inputs),
        "fitted_to": getattr(data, "resize_base", None),
        "inference": asdict(module.scorer.inference),
        **module.preprocessing.normalization,
        "padded_to_multiples_of": module.preprocessing.stride,
        "scored_at": _extremes(seen.labels),
        "files_at": _extremes(seen.files) if seen.files - seen.labels else None,
        "ignore_index": module.ignore_index,
        "absent_classes": [module.class_names[i] for i in absent],
        "precision": str(trainer.precision),
    }


def _tests_on_val(data: Any) -> bool:
    """Whether a data set's test split is its validation split, as where no other labels are."""
    if not isinstance(data, SegmentationDataModule):
        return False
    try:
        val, test = (
            [split.name(index) for index in range(len(split))]
            for split in (data.split("val"), data.split("test"))
        )
    except UserError:  # there is no validation split here
        return False
    return val == test


def _extremes(sizes: set[tuple[int, int]]) -> list[list[int]]:
    """The only size, or the smallest and the largest."""
    ordered = [list(size) for size in sorted(sizes, key=lambda size: (size[0] * size[1], size))]
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else ordered


def print_protocol(module: SegmentationModule, found: Mapping[str, Any]) -> None:
    """Print what `protocol` found, in words."""
    box, stride = found["fitted_to"], found["padded_to_multiples_of"]
    fitted = f", fitted to {box[0]}×{box[1]} (ratio kept)" if box else ""
    padded = f", padded to multiples of {stride}" if stride > 1 else ""
    absent, scored = found["absent_classes"], pixel_sizes(found["scored_at"])
    files = found["files_at"]
    size = f"at the labels' own size, {scored}"
    if files:
        size = f"at {scored}, to which the labels were scaled from {pixel_sizes(files)}"
    split = {"val": "validation", "test": "test"}[found["split"]]
    lines = [
        f"images   {found['images']} of the {split} split of {found['data'] or 'the data'}, "
        f"{pixel_sizes(found['image_sizes'])}{fitted}{padded}; {module.scorer.inference}",
        f"scores   {size}, from one count over all images; the label {found['ignore_index']} is "
        "not counted",
        "means    over the classes that occur in labels or predictions; "
        + (f"absent: {', '.join(absent)}" if absent else "no class is absent"),
    ]
    if found["same_images_as_val"]:
        lines.append(
            "note     this data set's test split is its validation split, by which the best "
            "checkpoint was chosen"
        )
    if not found["complete"]:
        lines.append("note     a part of the split alone: the trainer leaves batches out")
    _console().print(Text("\n".join(lines)))


def print_scores(
    scores: Scores, class_names: Sequence[str], stage: str, when: Mapping[str, Any]
) -> None:
    """Print IoU, accuracy and share of pixels of each class, and the means."""
    title = f"{stage} scores in percent" + (
        f" (best epoch, {when['epoch']}; step {when['step']})" if when else ""
    )
    table = _table(title, show_footer=True)
    table.add_column("class", footer="mean over classes that occur")
    table.add_column("IoU", justify="right", footer=percent(scores.miou))
    table.add_column("accuracy", justify="right", footer=percent(scores.macc))
    table.add_column("share of pixels", justify="right")
    columns = (scores.iou.tolist(), scores.accuracy.tolist(), scores.pixel_share.tolist())
    for name, *values in zip(class_names, *columns, strict=True):
        table.add_row(Text(name), *map(percent, values))
    _console().print(table)
    _console().print(
        f"pixel accuracy {percent(scores.pixel_accuracy)}; "
        f"mIoU of always saying the most frequent class {percent(scores.majority_miou)}"
    )


def print_boundary_scores(found: BoundaryScores) -> None:
    """Print the means by the distance to the nearest border between classes."""
    table = _table("by distance to the nearest border between classes")
    for name in ("distance", "mIoU", "pixel accuracy", "share of pixels"):
        table.add_column(name, justify="left" if name == "distance" else "right")
    rows = {f"up to {width} px": scores for width, scores in found.within.items()}
    last = max(found.within)
    rows[f"more than {last} px"] = found.beyond
    total = int(found.within[last].matrix.sum() + found.beyond.matrix.sum())
    for name, scores in rows.items():
        share = int(scores.matrix.sum()) / total if total else float("nan")
        values = (scores.miou, scores.pixel_accuracy, share)
        table.add_row(name, *map(percent, values))
    _console().print(table)


def _table(title: str, show_footer: bool = False) -> Table:
    return Table(title=title, title_justify="left", show_footer=show_footer)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width to fold the table to
    return console
