"""The protocol of inference: whole images or sliding windows, scales, mirrored or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["even", "gaussian"]

_LARGEST_SCALE = 16
_SIGMA = 1 / 8  # of the Gaussian weight, in sides of the window, as in nnU-Net


@dataclass(frozen=True)
class Inference:
    """The protocol of validation, test and prediction.

    Args:
        window: height and width of sliding windows, in pixels of the image that the network sees;
            None shows it the whole image.
        stride: vertical and horizontal step from one window to the next, in pixels; by default
            from `overlap`.
        overlap: share of a window that the next one covers again, below 1; a third if neither this
            nor `stride` is given.
        blend: weighting of a window's pixels where windows overlap: `even` (constant), or
            `gaussian`, which counts a window's center most.
        windows_per_pass: windows in a batch of the network (MONAI's `sw_batch_size`); more are
            faster on a GPU and take more memory.
        scales: factors on the image's size. Of several, the class probabilities are averaged at the
            image's size; `[0.5, 0.75, 1, 1.25, 1.5, 1.75]` is the published baselines' choice.
        flip: whether to predict each mirrored image too, and average.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    overlap: float | None = None
    blend: Weighting = "even"
    windows_per_pass: int = 4
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        # YAML and JSON give lists.
        for name in ("window", "stride", "scales"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if error := self._error():
            raise ValueError(error)

    def _error(self) -> str | None:
        """Return what is wrong with the settings, if anything."""
        if self.window is None:
            if self.stride is not None or self.overlap is not None:
                return "inference.stride and inference.overlap need inference.window."
        elif len(self.window) != 2 or min(self.window) < 1:
            return f"inference.window must be [height, width], got {[*self.window]}."
        if self.window is not None and self.stride is not None:
            if self.overlap is not None:
                return "inference.stride and inference.overlap say the same: give one."
            if len(self.stride) != 2 or min(self.stride) < 1:
                return f"inference.stride must be [down, right], got {[*self.stride]}."
            if self.stride[0] > self.window[0] or self.stride[1] > self.window[1]:
                return (
                    f"inference.stride {[*self.stride]} is longer than the window "
                    f"{[*self.window]}: pixels between the windows would be left out."
                )
        if self.overlap is not None and not 0 <= self.overlap < 1:
            return f"inference.overlap must be at least 0 and below 1, got {self.overlap}."
        if self.blend not in ("even", "gaussian"):
            return f"inference.blend must be even or gaussian, got {self.blend!r}."
        if self.windows_per_pass < 1:
            return f"inference.windows_per_pass must be 1 or more, got {self.windows_per_pass}."
        scales = [*self.scales]
        if not scales or not all(0 < scale <= _LARGEST_SCALE for scale in scales):
            return (
                "inference.scales must be one or more factors above 0 and up to "
                f"{_LARGEST_SCALE}, got {scales}."
            )
        if len({*scales}) < len(scales):
            return f"inference.scales has a factor twice: {scales}."
        return None

    @property
    def views(self) -> list[tuple[float, bool]]:
        """Each scale, unmirrored and, with `flip`, mirrored."""
        flips = (False, True) if self.flip else (False,)
        return [(scale, flip) for scale in self.scales for flip in flips]

    @property
    def steps(self) -> tuple[int, int]:
        """Vertical and horizontal step from one window to the next, in pixels."""
        if self.window is None:
            raise ValueError("A whole image has no windows.")
        if self.stride is not None:
            return self.stride
        share = 1 - (1 / 3 if self.overlap is None else self.overlap)
        height, width = (max(1, round(side * share)) for side in self.window)
        return height, width

    @property
    def label(self) -> str:
        """A part of a file name that tells protocols apart, such as `window512x512-341x341_flip`.

        Empty for whole images at one scale.
        """
        parts = []
        if self.window is not None:
            (height, width), (down, right) = self.window, self.steps
            parts.append(f"window{height}x{width}-{down}x{right}")
            if self.blend != "even":
                parts.append(self.blend)
        if self.scales != (1.0,):
            parts.append("scales" + "-".join(f"{scale:g}" for scale in self.scales))
        if self.flip:
            parts.append("flip")
        return "_".join(parts)

    def __str__(self) -> str:
        """Describe it for reports: `windows of 512×512, 341×341 apart; scales 0.5, 1; mirrored`."""
        parts = ["whole images"]
        if self.window is not None:
            (height, width), (down, right) = self.window, self.steps
            parts = [f"windows of {height}×{width}, {down}×{right} apart, {self.blend} weight"]
        if self.scales != (1.0,):
            named = ", ".join(f"{scale:g}" for scale in self.scales)
            parts.append(f"scale{'s' * (len(self.scales) > 1)} {named}")
        if self.flip:
            parts.append("and mirrored")
        return "; ".join(parts)


WHOLE_IMAGES = Inference()
"""Each image whole, at one scale, not mirrored."""


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return the first pixels of the windows along one side, as mmsegmentation places them.

    They are `stride` apart from 0 on; the last one is moved back to end with the side. A window
    longer than the side lies at 0, and the caller cuts it.
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def window_positions(
    size: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> list[tuple[int, int]]:
    """Return top and left of each window over an image of a size, row by row."""
    tops, lefts = (window_starts(*side) for side in zip(size, window, stride, strict=True))
    return [(top, left) for top in tops for left in lefts]


def window_weight(size: Sequence[int], weighting: Weighting) -> Tensor:
    """Return the (h, w) weight of a window's pixels in the mean of overlapping windows."""
    if weighting == "even":
        return torch.ones(*size)
    rows, columns = (
        torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (_SIGMA * side)) ** 2)
        for side in size
    )
    return rows[:, None] * columns[None, :]
