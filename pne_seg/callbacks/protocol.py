"""The protocol of an evaluation: which images were evaluated, and how."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Trainer

from pne_seg.data.base import SegmentationDataModule
from pne_seg.description import pixel_sizes
from pne_seg.errors import UserError
from pne_seg.inference import Inference
from pne_seg.module import Batch, SegmentationModule

Size = tuple[int, int]
"""Height and width."""
ImageCounts = Counter[tuple[Size, Size, Size | None]]
"""Images by the sizes of their input before padding, their labels, and their file if known."""


def count_images(batch: Batch) -> ImageCounts:
    """Count the images of a batch by their sizes."""
    (*_, height, width), (*_, rows, columns) = batch["image"].shape, batch["mask"].shape
    files = batch.get("source_size") or [None] * len(batch["image"])
    return Counter(
        ((height, width), (rows, columns), None if size is None else (size[0], size[1]))
        for size in files
    )


def protocol(trainer: Trainer, module: SegmentationModule, counts: ImageCounts) -> dict[str, Any]:
    """Describe how the metrics of an evaluation were measured, as plain values for JSON.

    All processes must call it. Sizes are [height, width], the smallest and the largest of them by
    area. `files_at` is None unless labels were scaled from their files' size; `complete` is false
    if the trainer left images out.

    Args:
        trainer: after the evaluation.
        module: the evaluated one.
        counts: the images of this process.
    """
    if trainer.world_size > 1:
        parts: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(parts, counts)
        counts = sum(parts, Counter())
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


def in_words(found: Mapping[str, Any], inference: Inference) -> str:
    """Describe a `protocol` in lines for the screen."""
    box, stride = found["fitted_to"], found["padded_to_multiples_of"]
    fitted = f", fitted to {box[0]}×{box[1]} (ratio kept)" if box else ""
    padded = f", padded to multiples of {stride}" if stride > 1 else ""
    absent, measured = ", ".join(found["absent_classes"]), pixel_sizes(found["scored_at"])
    size = f"at the labels' own size, {measured}"
    if found["files_at"]:
        size = f"at {measured}, to which the labels were scaled from "
        size += pixel_sizes(found["files_at"])
    split = {"val": "validation", "test": "test"}[found["split"]]
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
