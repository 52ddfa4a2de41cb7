"""Settings with which a command that ran out of memory takes less of it."""

import traceback
from typing import Any

from pne_seg.data import SegmentationDataModule
from pne_seg.module import SegmentationModule

_WINDOW = 512


def less_memory(
    error: BaseException,
    model: SegmentationModule,
    data: SegmentationDataModule,
    trainer: dict[str, Any] | None,
) -> str:
    """Return what to set, in lines of flags that parse as they are.

    Args:
        error: that says that memory ran out.
        model: that was run.
        data: that it was run on.
        trainer: the trainer's settings in a training; None in an evaluation.
    """
    frames = traceback.extract_tb(error.__traceback__)
    evaluates = any(frame.name in ("validation_step", "_evaluate") for frame in frames)
    if trainer is None or evaluates:
        return _in_evaluation(model, data)
    lines = []
    images, size = data.batch_size, getattr(data, "crop_size", None)
    stride = model.preprocessing.stride
    part = next((n for n in range(2, images + 1) if images % n == 0), 1)  # 2 if images is even
    if part > 1 and _can_train(model, images // part, size or (4 * stride, 4 * stride)):
        accumulated = int(trainer.get("accumulate_grad_batches") or 1) * part
        lines.append(
            f"  With the same images per optimizer step: --data.batch_size {images // part} "
            f"--trainer.accumulate_grad_batches {accumulated}"
        )
    if size is not None and data.transforms is None:
        smaller = [max(stride, side // 2 // stride * stride) for side in size]
        if smaller != [*size] and _can_train(model, images, smaller):
            lines.append(f"  With smaller crops: --data.crop_size '{smaller}'")
    return "\n".join(lines) or "  Use smaller images, a smaller network, or --trainer.precision."


def _in_evaluation(model: SegmentationModule, data: SegmentationDataModule) -> str:
    inference = model.scorer.inference
    lines = []
    if data.eval_batch_size > 1:
        lines.append(f"  Images per step: --data.eval_batch_size {data.eval_batch_size // 2}")
    if inference.window is None:
        lines.append(
            f"  Images in windows: --model.inference.window '[{_WINDOW}, {_WINDOW}]' "
            "(another protocol: say so with the metrics)"
        )
    elif inference.windows_per_pass > 1:
        half = inference.windows_per_pass // 2
        lines.append(f"  Windows per pass: --model.inference.windows_per_pass {half}")
    return "\n".join(lines) or "  Use a smaller window: --model.inference.window"


def _can_train(model: SegmentationModule, images: int, size: Any) -> bool:
    try:
        model.requirements.check(images, *size)
    except ValueError:
        return False
    return True
