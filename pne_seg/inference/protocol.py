"""The protocol of inference: whole images or sliding windows, scales, mirrored or not."""

from dataclasses import dataclass

from pne_seg.inference.windows import Weighting

_OVERLAP = 1 / 3
_LARGEST_SCALE = 16


@dataclass(frozen=True)
class Inference:
    """The protocol of validation, test and prediction.

    Args:
        window: height and width of sliding windows, in pixels of the image that the network sees;
            None shows it the whole image.
        stride: vertical and horizontal step from one window to the next, in pixels; by default
            what `overlap` says.
        overlap: share of a window that the next one covers again, below 1; a third if neither this
            nor `stride` is given.
        blend: weighting of a window's pixels where windows overlap: `even` (constant), or
            `gaussian`, which counts a window's center most.
        windows_per_pass: windows in a batch of the network (MONAI's `sw_batch_size`); more are
            faster on a GPU and take more memory.
        scales: factors on the image's size. Of several, the class probabilities are averaged at the
            image's size; `[0.5, 0.75, 1, 1.25, 1.5, 1.75]` is the published baselines' choice.
        flip: whether to predict each mirrored image too, and average.

    Raises:
        ValueError: a setting out of range, or both `stride` and `overlap`.
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
        if self.window is None:
            if self.stride is not None or self.overlap is not None:
                raise ValueError("inference.stride and inference.overlap need inference.window.")
        elif len(self.window) != 2 or min(self.window) < 1:
            raise ValueError(f"inference.window must be [height, width], got {[*self.window]}.")
        if self.stride is not None:
            self._check_stride(self.stride)
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise ValueError(
                f"inference.overlap must be at least 0 and below 1, got {self.overlap}."
            )
        if self.blend not in ("even", "gaussian"):
            raise ValueError(f"inference.blend must be even or gaussian, got {self.blend!r}.")
        if self.windows_per_pass < 1:
            raise ValueError(
                f"inference.windows_per_pass must be 1 or more, got {self.windows_per_pass}."
            )
        if not self.scales or not all(0 < scale <= _LARGEST_SCALE for scale in self.scales):
            raise ValueError(
                f"inference.scales must be one or more factors above 0 and up to {_LARGEST_SCALE}, "
                f"got {[*self.scales]}."
            )
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(f"inference.scales has a factor twice: {[*self.scales]}.")

    def _check_stride(self, stride: tuple[int, ...]) -> None:
        assert self.window is not None
        if self.overlap is not None:
            raise ValueError("inference.stride and inference.overlap say the same: give one.")
        if len(stride) != 2 or min(stride) < 1:
            raise ValueError(f"inference.stride must be [down, right], got {[*stride]}.")
        if stride[0] > self.window[0] or stride[1] > self.window[1]:
            raise ValueError(
                f"inference.stride {[*stride]} is longer than the window {[*self.window]}: pixels "
                "between the windows would be left out."
            )

    @property
    def views(self) -> list[tuple[float, bool]]:
        """Each scale, unmirrored and, with `flip`, mirrored."""
        return [(scale, flip) for scale in self.scales for flip in (False, True)[: 1 + self.flip]]

    @property
    def steps(self) -> tuple[int, int]:
        """Vertical and horizontal step from one window to the next, in pixels.

        Raises:
            ValueError: there are no windows.
        """
        if self.window is None:
            raise ValueError("A whole image has no windows.")
        if self.stride is not None:
            return self.stride
        share = 1 - (_OVERLAP if self.overlap is None else self.overlap)
        height, width = (max(1, round(side * share)) for side in self.window)
        return height, width

    @property
    def label(self) -> str:
        """A part of a file name that tells protocols apart: `window512x512-341x341_flip`, say.

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
        """In words, for reports: `windows of 512×512, 341×341 apart; scales 0.5, 1; mirrored`."""
        parts = ["whole images"]
        if self.window is not None:
            height, width = self.window
            down, right = self.steps
            parts = [f"windows of {height}×{width}, {down}×{right} apart, {self.blend} weight"]
        if self.scales != (1.0,):
            named = ", ".join(f"{scale:g}" for scale in self.scales)
            parts.append(f"scale{'s' * (len(self.scales) > 1)} {named}")
        if self.flip:
            parts.append("and mirrored")
        return "; ".join(parts)


WHOLE_IMAGES = Inference()
"""Each image whole, at one scale, not mirrored."""
