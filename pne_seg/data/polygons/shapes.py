"""What annotations hold: the areas of one image with their labels, and how these are drawn."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pne_seg.data.data_file import DataFile
from pne_seg.data.images import Pixels
from pne_seg.errors import UserError

Region = list[npt.NDArray[np.float64]] | tuple[int, ...]
"""Outlines, (N, 2) x and y each, whose union it is; or the runs of COCO's RLE, by columns."""

_REACH = 10  # times an image's longer side that an outline may lie away from it


@dataclass(frozen=True, slots=True)
class Shape:
    """One area."""

    label: str
    region: Region


@dataclass(slots=True)
class Drawing:
    """The areas of one image."""

    source: DataFile  # the JSON file
    name: str  # what the file calls the image
    size: tuple[int, int] | None  # height and width as the file has them
    shapes: list[Shape] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.source) if self.source.stem == self.name else f"{self.source}: {self.name}"


@dataclass
class Annotations:
    """What some JSON files hold."""

    labels: list[str] = field(default_factory=list)  # every one, in the order of the classes
    drawings: list[Drawing] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # shapes by the reason
    first_left_out: dict[str, str] = field(default_factory=dict)  # where, by the reason

    @property
    def counts(self) -> dict[str, int]:
        """Shapes of each label, 0 included."""
        used = Counter(shape.label for drawing in self.drawings for shape in drawing.shapes)
        return {label: used[label] for label in self.labels}

    def check_units(self) -> None:
        """Refuse points in fractions of the image's size, where all are below 1."""
        outlines = [
            (drawing, part)
            for drawing in self.drawings
            for shape in drawing.shapes
            for part in shape.region
            if isinstance(part, np.ndarray)
        ]
        if outlines and all(np.abs(points).max() <= 1 for _, points in outlines):
            raise UserError(
                f"{outlines[0][0].source}: all points are between 0 and 1, as fractions of the "
                "image's size are. Points must be in pixels; export them so."
            )

    def leave_out(self, why: str, where: object, count: int = 1) -> None:
        """Count shapes that are not drawn."""
        self.left_out[why] += count
        self.first_left_out.setdefault(why, str(where))

    def remarks(self) -> list[str]:
        """Describe what is not drawn, one line for each reason."""
        return [
            f"{count} shape{'s' * (count > 1)} left out: {why} (first: {self.first_left_out[why]})."
            for why, count in sorted(self.left_out.items())
        ]


def stated_size(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """Read the size of an image; None if it is not stated."""
    if not height or not width:
        return None
    try:
        return int(height), int(width)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{where}: its size is {width!r}×{height!r}, which are no numbers of pixels. Correct "
            "it."
        ) from error


def outline(values: Any, where: str) -> npt.NDArray[np.float64] | None:
    """Read numbers as (N, 2) points; None if they are fewer than three points.

    Args:
        values: x, y, x, y, …, or pairs of them.
        where: names the shape in error messages.
    """
    try:
        points = np.asarray(values, np.float64).reshape(-1)
    except (ValueError, TypeError, OverflowError):
        points = np.array([np.nan])
    if len(points) % 2 or not np.isfinite(points).all():
        raise UserError(f"{where}: its points must be pairs of numbers x and y. Correct it.")
    return points.reshape(-1, 2) if len(points) >= 6 else None


def draw(
    drawing: Drawing,
    size: tuple[int, int],
    values: Mapping[str, int],
    smallest_on_top: bool,
) -> tuple[Pixels, int]:
    """Draw the areas of an image into (H, W) values of their labels, 0 elsewhere.

    A pixel belongs to an outline that has its center inside, as in COCO's own tools.

    Args:
        drawing: the areas.
        size: height and width.
        values: of each label, 1 to 255.
        smallest_on_top: whether larger areas are drawn first; in the order of the file otherwise.

    Returns:
        The image, and the number of shapes that cover no pixel of it.
    """
    from pycocotools import mask

    encoded = [
        _encoded_runs(shape.region, size, drawing)
        if isinstance(shape.region, tuple)
        else _encoded_outlines(shape.region, size, drawing, shape.label)
        for shape in drawing.shapes
    ]
    areas = [int(mask.area(one)) for one in encoded]
    order = range(len(areas))
    canvas = np.zeros(size, np.uint8)
    for number in sorted(order, key=lambda one: -areas[one]) if smallest_on_top else order:
        inside = mask.decode(encoded[number]).view(np.bool_)
        canvas[inside] = values[drawing.shapes[number].label]
    return canvas, areas.count(0)


def _encoded_outlines(
    outlines: Sequence[npt.NDArray[np.float64]],
    size: tuple[int, int],
    drawing: Drawing,
    label: str,
) -> dict[str, Any]:
    """Return the RLE of the union of outlines."""
    from pycocotools import mask

    points = np.concatenate(outlines)
    if np.abs(points).max() > (1 + _REACH) * max(size):  # it would take as much memory
        x, y = points[np.abs(points).max(1).argmax()]
        raise UserError(
            f"{drawing}: a point of {label!r} is at x {x:g}, y {y:g}, far outside of an image of "
            f"{size[1]}×{size[0]}. Points must be in pixels of the image; correct it."
        )
    merged = mask.merge(mask.frPyObjects([one.reshape(-1).tolist() for one in outlines], *size))
    return cast(dict[str, Any], merged)


def _encoded_runs(runs: Sequence[int], size: tuple[int, int], drawing: Drawing) -> dict[str, Any]:
    from pycocotools import mask

    if min(runs) < 0 or sum(runs) != size[0] * size[1]:
        raise UserError(
            f"{drawing}: an RLE mask has {sum(runs)} pixels, the image {size[0] * size[1]}. Export "
            "the annotations again."
        )
    encoded = mask.frPyObjects({"size": list(size), "counts": list(runs)}, *size)
    return cast(dict[str, Any], encoded)
