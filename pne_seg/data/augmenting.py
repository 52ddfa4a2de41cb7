"""What went wrong when a training image was augmented: which image, by which transform."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import albumentations as A
import cv2

from pne_seg.data.images import Pixels
from pne_seg.errors import UserError


@contextmanager
def naming_image(name: str, image: Pixels) -> Iterator[None]:
    """Name an image, its size and the transform on an error of albumentations.

    A mistake in a transform of your own keeps its traceback and gets a note.
    """
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, cv2.error) and error.code == cv2.Error.STS_NO_MEM:
            raise
        height, width = image.shape[:2]
        where = f"{name} ({height} × {width} pixels, height × width)"
        transform = _failing(error)
        if not type(transform).__module__.startswith("albumentations."):
            error.add_note(f"While augmenting {where} by {type(transform).__name__}.")
            raise
        kind = type(transform).__name__
        fix = f"Correct the settings of {kind} so that they suit every image."
        if "Crop" in kind:
            fix = "Put a PadIfNeeded of the crop's size before it, or crop less."
        if isinstance(error, KeyError):
            fix = f"{kind} needs more than an image and its labels: leave it out."
        reason = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')[:300]}"
        raise UserError(f"{where}: {kind} cannot transform it: {reason}. {fix}") from error


def _failing(error: Exception) -> object:
    """Return the innermost transform that was running, None if there is none."""
    running = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    kinds = (A.BasicTransform, A.BaseCompose)
    return next((one for one in [*running][::-1] if isinstance(one, kinds)), None)
