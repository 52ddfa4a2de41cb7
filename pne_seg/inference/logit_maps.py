"""Logits at full size without holding them: each map computes any band of its rows on demand.

What the network computed is kept at its own resolution. It is enlarged, cut, mirrored and stitched
for the few rows that are asked for, so that the logits of an image of 2048×1024 in 171 classes
(1.4 GB as float32) are never there at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_ELEMENTS = 2**19
"""Logits of a band: 2 MB as float32, few enough for a processor's cache to help."""
_BAND_ROWS = 8
"""The least rows of a band: enlarging few of them would look at each row below several times."""
_BAND_ELEMENTS_GPU = 2**25
"""On a GPU a band is a handful of kernels, which need more to do."""


@dataclass(frozen=True)
class LogitMap:
    """(B, C, H, W) logits or probabilities, of which bands of rows can be asked for.

    Attributes:
        size: H and W, in pixels.
        rows: called with the first row and the one after the last; returns (B, C, rows, W) float.
    """

    size: tuple[int, int]
    rows: Callable[[int, int], Tensor]

    def bands(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield all rows from the top, as many at a time as keep a band small."""
        height, start, count = self.size[0], 0, 1
        while start < height:
            stop = min(start + count, height)
            band = self.rows(start, stop)
            yield slice(start, stop), band
            most = _BAND_ELEMENTS if band.device.type == "cpu" else _BAND_ELEMENTS_GPU
            count = max(_BAND_ROWS, most * band.shape[-2] // max(1, band.numel()))
            start = stop


def computed(values: Tensor) -> LogitMap:
    """Wrap a (B, C, H, W) tensor; rows are float32, or float64 as they are."""

    def rows(start: int, stop: int) -> Tensor:
        band = values[..., start:stop, :]
        return band if band.dtype == torch.float64 else band.float()

    return LogitMap((values.shape[-2], values.shape[-1]), rows)


def resized(source: LogitMap, size: Sequence[int], align_corners: bool = False) -> LogitMap:
    """Resize bilinearly, equal to `F.interpolate(…, mode="bilinear")` up to rounding."""
    height, width = source.size
    new_height, new_width = size

    def rows(start: int, stop: int) -> Tensor:
        band = source.rows(start, stop) if height == new_height else resized_rows(start, stop)
        if width == new_width:
            return band
        # A batch of lines: the rows are in place.
        lines = F.interpolate(
            band.flatten(0, 2)[None], size=new_width, mode="linear", align_corners=align_corners
        )
        return lines.view(*band.shape[:3], new_width)

    def resized_rows(start: int, stop: int) -> Tensor:
        """Return the rows at the source's width; only those that they lie between are computed."""
        index = torch.arange(start, stop, dtype=torch.float64)
        if align_corners:
            position = index * (height - 1) / max(1, new_height - 1)
        else:
            position = ((index + 0.5) * height / new_height - 0.5).clamp_min(0)
        above = position.floor().clamp_max(height - 1)
        weight = position - above
        upper = above.long()
        lower = (upper + 1).clamp_max(height - 1)
        first, last = int(upper[0]), int(lower[-1])
        band = source.rows(first, last + 1)
        device = band.device
        return torch.lerp(
            band.index_select(-2, (upper - first).to(device)),
            band.index_select(-2, (lower - first).to(device)),
            weight.to(device, band.dtype)[:, None],
        )

    return LogitMap((new_height, new_width), rows)


def cut(source: LogitMap, size: Sequence[int]) -> LogitMap:
    """Take the top left part."""
    height, width = size
    return LogitMap((height, width), lambda start, stop: source.rows(start, stop)[..., :width])


def mirrored(source: LogitMap) -> LogitMap:
    """Exchange left and right."""
    return LogitMap(source.size, lambda start, stop: source.rows(start, stop).flip(-1))


def stitched(
    tiles: Sequence[tuple[int, int, LogitMap]], size: Sequence[int], weight: Tensor
) -> LogitMap:
    """Put windows (first row, first column, logits) together, weighted where they overlap.

    They have one size and cover all pixels; `weight`, (h, w), is above 0 at each of theirs.
    """
    if len(tiles) == 1:
        return tiles[0][2]

    def rows(start: int, stop: int) -> Tensor:
        total: Tensor | None = None
        weights: Tensor | None = None
        for top, left, logits in tiles:
            height, width = logits.size
            first, last = max(start, top), min(stop, top + height)
            if first >= last:
                continue
            band = logits.rows(first - top, last - top)
            part = weight[first - top : last - top].to(band.dtype)
            if total is None or weights is None:
                total = band.new_zeros(*band.shape[:2], stop - start, size[1])
                weights = band.new_zeros(stop - start, size[1])
            place = (..., slice(first - start, last - start), slice(left, left + width))
            total[place] += band * part
            weights[place] += part
        assert total is not None
        assert weights is not None
        return total / weights

    return LogitMap((size[0], size[1]), rows)


def resize_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) bilinearly to `size`, corners not aligned; as it is if it fits."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
