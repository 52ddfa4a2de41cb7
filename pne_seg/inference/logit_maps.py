"""Logits at full size without holding them: each map gives any band of its rows on demand.

What the network computed is kept at its own resolution. It is enlarged, cut, mirrored and stitched
for the few rows that are asked for, so that the logits of an image of 2048×1024 in 171 classes
(1.4 GB as float32) are never there at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_ELEMENTS = 2**19
"""Logits of a band: 2 MB as float32, few enough for a processor's cache to help."""
_BAND_ROWS = 8
"""The least rows of a band: enlarging few of them would look at each row below several times."""
_BAND_ELEMENTS_GPU = 2**25
"""On a GPU a band is a handful of kernels, which need more to do."""


class LogitMap(ABC):
    """(B, C, H, W) logits or probabilities, of which bands of rows can be asked for.

    Attributes:
        size: H and W, in pixels.
    """

    size: tuple[int, int]

    @abstractmethod
    def rows(self, start: int, stop: int) -> Tensor:
        """(B, C, stop − start, W) float, the rows from `start` up to `stop`."""

    def bands(self) -> Iterator[tuple[slice, Tensor]]:
        """All rows from the top, as many at a time as keep a band small."""
        height, start, count = self.size[0], 0, 1
        while start < height:
            stop = min(start + count, height)
            band = self.rows(start, stop)
            yield slice(start, stop), band
            start, count = stop, _rows_of_a_band(band)


def _rows_of_a_band(band: Tensor) -> int:
    most = _BAND_ELEMENTS if band.device.type == "cpu" else _BAND_ELEMENTS_GPU
    return max(_BAND_ROWS, most * band.shape[-2] // max(1, band.numel()))


class Computed(LogitMap):
    """Logits as the network returned them, or any other tensor of that shape.

    Args:
        values: (B, C, H, W), of any float type; calculated with as float32, or float64 as it is.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.size = (values.shape[-2], values.shape[-1])

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows, as float32 or float64."""
        band = self.values[..., start:stop, :]
        return band if band.dtype == torch.float64 else band.float()


class Resized(LogitMap):
    """Bilinear resize, equal to `F.interpolate(…, mode="bilinear")` up to rounding.

    Args:
        source: the map to resize.
        size: height and width of the result, in pixels.
        align_corners: whether the centers of the corner pixels stay in place.
    """

    def __init__(self, source: LogitMap, size: Sequence[int], align_corners: bool = False) -> None:
        self.source = source
        self.size = (size[0], size[1])
        self.align_corners = align_corners

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows; of the source only those that they lie between are asked for."""
        band = self._resized_rows(start, stop)
        if self.source.size[1] == self.size[1]:
            return band
        # A batch of lines: the rows are in place.
        lines = F.interpolate(
            band.flatten(0, 2)[None],
            size=self.size[1],
            mode="linear",
            align_corners=self.align_corners,
        )
        return lines.view(*band.shape[:3], self.size[1])

    def _resized_rows(self, start: int, stop: int) -> Tensor:
        """The rows at the source's width."""
        height = self.source.size[0]
        if height == self.size[0]:
            return self.source.rows(start, stop)
        rows = torch.arange(start, stop, dtype=torch.float64)
        if self.align_corners:
            place = rows * (height - 1) / max(1, self.size[0] - 1)
        else:
            place = ((rows + 0.5) * height / self.size[0] - 0.5).clamp_min(0)
        above = place.floor().clamp_max(height - 1)
        weight = place - above
        upper = above.long()
        lower = (upper + 1).clamp_max(height - 1)
        first, last = int(upper[0]), int(lower[-1])
        band = self.source.rows(first, last + 1)
        device = band.device
        return torch.lerp(
            band.index_select(-2, (upper - first).to(device)),
            band.index_select(-2, (lower - first).to(device)),
            weight.to(device, band.dtype)[:, None],
        )


class Cut(LogitMap):
    """The top left part of a map.

    Args:
        source: the map to cut from.
        size: height and width of the part, in pixels.
    """

    def __init__(self, source: LogitMap, size: Sequence[int]) -> None:
        self.source = source
        self.size = (size[0], size[1])

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows' left part."""
        return self.source.rows(start, stop)[..., : self.size[1]]


class Mirrored(LogitMap):
    """A map with left and right exchanged.

    Args:
        source: the map to mirror.
    """

    def __init__(self, source: LogitMap) -> None:
        self.source = source
        self.size = source.size

    def rows(self, start: int, stop: int) -> Tensor:
        """The mirrored rows."""
        return self.source.rows(start, stop).flip(-1)


class Tile(NamedTuple):
    """Logits of a window.

    Attributes:
        top: the window's first row in the image.
        left: its first column.
        logits: of the window.
    """

    top: int
    left: int
    logits: LogitMap


class Stitched(LogitMap):
    """Windows put together, their weighted mean where they overlap.

    Args:
        tiles: windows of one size that leave no pixel out.
        size: height and width of the whole, in pixels.
        weight: (h, w), a window's weight at each of its pixels; above 0.
    """

    def __init__(self, tiles: Sequence[Tile], size: Sequence[int], weight: Tensor) -> None:
        self.tiles = tiles
        self.size = (size[0], size[1])
        self.weight = weight

    def rows(self, start: int, stop: int) -> Tensor:
        """The rows, from the windows that reach into them."""
        if len(self.tiles) == 1:
            return self.tiles[0].logits.rows(start, stop)
        total: Tensor | None = None
        weights: Tensor | None = None
        for top, left, logits in self.tiles:
            height, width = logits.size
            first, last = max(start, top), min(stop, top + height)
            if first >= last:
                continue
            band = logits.rows(first - top, last - top)
            weight = self.weight[first - top : last - top].to(band.dtype)
            if total is None or weights is None:
                total = band.new_zeros(*band.shape[:2], stop - start, self.size[1])
                weights = band.new_zeros(stop - start, self.size[1])
            place = (..., slice(first - start, last - start), slice(left, left + width))
            total[place] += band * weight
            weights[place] += weight
        assert total is not None
        assert weights is not None
        return total / weights


def resize_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to `size`, corners not aligned; as it is if it fits."""
    if logits.shape[-2:] == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
