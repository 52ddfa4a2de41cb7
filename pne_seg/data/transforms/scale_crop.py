"""Random scale and random crop in one step, of which only the window is computed."""

import math
from typing import Any, NamedTuple, cast

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from albumentations.core.type_definitions import Targets

from pne_seg.data.images import Pixels, fitted_size

_LARGEST_SIDE = 16_384
_LARGEST_BASE = 65_536
_LARGEST_SCALE = 16
_NEARLY = 1 / 128  # pixels of the source by which a piece may begin beside its place
_SAMPLED = 8  # every how many rows and columns are looked at to guess the frequent classes


def check_size(size: tuple[int, int]) -> None:
    """Refuse a size that no crop has."""
    if not 1 <= min(size) <= max(size) <= _LARGEST_SIDE:
        raise ValueError(f"size must be 1 to {_LARGEST_SIDE} pixels a side, got {size}.")


class Window(NamedTuple):
    """A window of the image as it would be after scaling to `scaled` (height, width), in pixels."""

    scaled: tuple[int, int]
    top: int
    left: int
    height: int
    width: int


class RandomScaleCrop(A.DualTransform):  # type: ignore[misc]  # untyped
    """Scale by a random factor and cut a random window, of which only the pixels are computed.

    The result is that of resizing the whole image (bilinear; labels nearest) and cropping: labels
    to the pixel, images within the rounding of the interpolation. Where the scaled image is smaller
    than the window, so is the result; pad it afterwards.

    Args:
        size: height and width of the window, in pixels.
        base: width and height of the box that the image is fitted to first, ratio kept, see
            `fitted_size`; None takes its own size.
        scale: range of the factor, drawn evenly.
        cat_max_ratio: a window is drawn again while one class has this share, or more, of its
            labeled pixels; 1 takes the first.
        tries: windows that are looked at; the one after them is taken as it is.
        ignore_index: label of pixels without a class.
        p: how often the transform is applied.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        size: tuple[int, int],
        base: tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        tries: int = 10,
        ignore_index: int = 255,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        check_size(size)
        if base is not None and not 1 <= min(base) <= max(base) <= _LARGEST_BASE:
            raise ValueError(f"base must be 1 to {_LARGEST_BASE} pixels a side, got {base}.")
        if not 0 < scale[0] <= scale[1] <= _LARGEST_SCALE:
            raise ValueError(
                f"scale must be two rising factors above 0 and up to {_LARGEST_SCALE}, got {scale}."
            )
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio must be above 0 and up to 1, got {cat_max_ratio}.")
        if tries < 0:
            raise ValueError(f"tries must be 0 or more, got {tries}.")
        self.size = size
        self.base = base
        self.scale = scale
        self.cat_max_ratio = cat_max_ratio
        self.tries = tries
        self.ignore_index = ignore_index

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw factor and window; the labels of the window come along, as they decide on it."""
        mask = data.get("mask")
        height, width = params["shape"][:2]
        factor = self.py_random.uniform(*self.scale)
        scaled = fitted_size((height, width), self.base or (width, height), factor)
        window = self._draw(scaled)
        if mask is None:
            return {"window": window, "decided_on": None, "cut": None}
        cut = crop_labels(mask, window)
        if self.cat_max_ratio < 1:
            for _ in range(self.tries):
                if self._is_varied(cut):
                    break
                window = self._draw(scaled)
                cut = crop_labels(mask, window)
        return {"window": window, "decided_on": mask, "cut": cut}

    def _draw(self, scaled: tuple[int, int]) -> Window:
        height, width = min(self.size[0], scaled[0]), min(self.size[1], scaled[1])
        top = self.py_random.randint(0, scaled[0] - height)
        return Window(scaled, top, self.py_random.randint(0, scaled[1] - width), height, width)

    def _is_varied(self, labels: Pixels) -> bool:
        labeled = np.count_nonzero(labels != self.ignore_index)
        if not labeled:
            return False
        # Counting the few frequent classes decides as counting all would, several times as fast:
        # once the rest is below the share, no class of the rest can reach it.
        sample = labels[::_SAMPLED, ::_SAMPLED].ravel()
        rest = labeled
        for value in np.bincount(sample, minlength=256).argsort()[::-1].tolist():
            if value == self.ignore_index:
                continue
            count = np.count_nonzero(labels == value)
            rest -= count
            if count / labeled >= self.cat_max_ratio:
                return False
            if rest / labeled < self.cat_max_ratio:
                break
        return True

    def apply(self, img: Pixels, window: Window, **params: Any) -> Pixels:
        """Return the window of the scaled image."""
        return crop_image(img, window)

    def apply_to_mask(
        self, mask: Pixels, window: Window, decided_on: Pixels | None, cut: Pixels, **params: Any
    ) -> Pixels:
        """Return the window of the scaled labels."""
        # Not `is`: albumentations hands memory-mapped labels on as another view.
        same = decided_on is not None and _place(mask) == _place(decided_on)
        return cut if same else crop_labels(mask, window)


def _place(pixels: Pixels) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return pixels.ctypes.data, pixels.shape, pixels.strides


def crop_labels(labels: Pixels, window: Window) -> Pixels:
    """Cut a window of (H, W) labels resized as `cv2.resize` does to the nearest pixel.

    Only the window's pixels are read.
    """
    if window.scaled == (window.height, window.width) != labels.shape:
        return cast(
            Pixels, cv2.resize(labels, window.scaled[::-1], interpolation=cv2.INTER_NEAREST)
        )
    rows = _nearest(labels.shape[0], window.scaled[0], window.top, window.height)
    columns = _nearest(labels.shape[1], window.scaled[1], window.left, window.width)
    cut = labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if cut.shape[0] > len(rows):  # the fewer rows, the less work for the columns
        cut = cut.take(rows - rows[0], 0)
    if cut.shape[1] != len(columns):
        # As rows of the transposed labels, columns are twice as fast, the way there included.
        cut = cv2.transpose(cv2.transpose(cut).take(columns - columns[0], 0))
    if cut.shape[0] < len(rows):
        cut = cut.take(rows - rows[0], 0)
    return np.ascontiguousarray(cut)


def _nearest(source: int, scaled: int, start: int, count: int) -> npt.NDArray[np.intp]:
    """Return the `source` pixels that `cv2.resize` takes for pixels of the scaled line."""
    step = 1 / (scaled / source)  # OpenCV's own rounding
    indices = np.floor(np.arange(start, start + count) * step).astype(np.intp)
    return np.asarray(np.minimum(indices, source - 1), np.intp)


def crop_image(image: Pixels, window: Window) -> Pixels:
    """Cut a window of a bilinearly resized (H, W, 3) image; little more than its pixels is read.

    `cv2.resize` of a piece gives the window exactly if the piece begins where a pixel of the scaled
    image begins with one of the source. The last such place before the window is taken, or one that
    is nearly so; there is one, be it the image's own beginning.
    """
    height, width = image.shape[:2]
    top, bottom, rows_before = _piece(height, window.scaled[0], window.top, window.height)
    left, right, columns_before = _piece(width, window.scaled[1], window.left, window.width)
    piece = image[top:bottom, left:right]
    if window.scaled == (height, width):
        return np.ascontiguousarray(piece)
    if piece.shape != image.shape:
        resized = cv2.resize(
            piece,
            None,
            fx=window.scaled[1] / width,
            fy=window.scaled[0] / height,
            interpolation=cv2.INTER_LINEAR,
        )
        cut = resized[rows_before:, columns_before:][: window.height, : window.width]
        # A piece that keeps its size OpenCV copies, whatever the factors; it is cut short where the
        # factors are in the hundreds.
        if resized.shape != piece.shape and cut.shape[:2] == (window.height, window.width):
            return np.ascontiguousarray(cut)
    resized = cv2.resize(image, window.scaled[::-1], interpolation=cv2.INTER_LINEAR)
    cut = resized[window.top :, window.left :][: window.height, : window.width]
    return np.ascontiguousarray(cut)


def _piece(source: int, scaled: int, start: int, count: int) -> tuple[int, int, int]:
    """Return begin and end of a piece of the source, and its resized pixels before the window."""
    if scaled == source:
        return start, start + count, 0
    if count == scaled:
        return 0, source, 0
    step = source / scaled
    leads = np.arange(start + 1)
    places = (start - leads) * step
    # The first pixel that is kept must lie between two pixels of the piece, as in the whole image.
    serves = (np.abs(places - np.rint(places)) <= _NEARLY) & ((leads + 0.5) * step >= 0.5)
    serves[start] = True
    lead = int(serves.argmax())
    first = round(float(places[lead]))
    # Two pixels more than are needed: the resized copy may be rounded down by one.
    last = first + math.ceil((lead + count) * step) + math.ceil(step) + 1
    return first, min(last, source), lead
