"""What annotations hold: the areas of one image with their labels, and how these are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pne_seg.data.data_file import DataFile
from pne_seg.data.images import Pixels
from pne_seg.errors import UserError

Region = list[npt.NDArray[np.float64]] | dict[str, Any]
"""Outlines, (N, 2) x and y each, whose union it is; or an RLE mask as pycocotools has it."""

_REACH = 10  # times an image's longer side that an outline may lie away from it


@dataclass(slots=True)
class Drawing:
    """The areas of one image."""

    source: DataFile  # the JSON file
    name: str  # path of the image as the file has it, or of the file if it is for one image
    size: tuple[int, int] | None  # height and width as the file has them
    shapes: list[tuple[str, Region]] = field(default_factory=list)  # with their labels

    def __str__(self) -> str:
        one = self.source.relative == self.name
        return str(self.source) if one else f"{self.source}: {self.name}"


@dataclass
class Annotations:
    """What some JSON files hold."""

    labels: list[str] = field(default_factory=list)  # every one, in the order of the classes
    drawings: list[Drawing] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # where, by the reason

    def check(self, files: str) -> None:
        """Refuse what gives no masks."""
        regions = [region for drawing in self.drawings for _, region in drawing.shapes]
        if not regions:
            remarks = " ".join(["there is no area to draw.", *self.remarks()])
            raise UserError(f"{files}: {remarks} Annotate some images.")
        if len(self.labels) > 255:
            raise UserError(
                f"{files}: {len(self.labels)} labels; 8-bit masks hold 255. Leave some out."
            )
        if all(isinstance(one, list) and np.abs(np.concatenate(one)).max() <= 1 for one in regions):
            raise UserError(
                f"{files}: all points are between 0 and 1, as fractions of the image's size are. "
                "Points must be in pixels; export them so."
            )

    def add(self, drawing: Drawing, label: str, region: Region | None, where: str) -> None:
        """Take a shape in; None has too few points."""
        if region is None:
            self.leave_out("they have fewer than three points", where)
        else:
            drawing.shapes.append((label, region))

    def leave_out(self, why: str, where: str) -> None:
        """Note a shape that is not drawn."""
        self.left_out.setdefault(why, []).append(where)

    def remarks(self) -> list[str]:
        """Describe what is not drawn, one line for each reason."""
        return [
            f"{len(shapes)} shape{'s' * (len(shapes) > 1)} left out: {why} (first: {shapes[0]})."
            for why, shapes in sorted(self.left_out.items())
        ]


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Return the size of an image, None unless it is stated in numbers."""
    numbers = isinstance(height, int) and isinstance(width, int) and height > 0 < width
    return (height, width) if numbers else None


def read_points(values: Any, where: str) -> npt.NDArray[np.float64]:
    """Read x, y, x, y, …, or pairs of them; `where` names the shape in error messages."""
    try:
        points = np.asarray(values, np.float64).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        points = np.full((1, 2), np.nan)
    if not np.isfinite(points).all():
        raise UserError(f"{where}: its points must be pairs of numbers x and y. Correct it.")
    return points


def draw(
    drawing: Drawing, size: tuple[int, int], values: Mapping[str, int], smallest_on_top: bool
) -> tuple[Pixels, int]:
    """Draw areas into (H, W) values of their labels, 0 elsewhere; smaller ones on top, or later.

    A pixel belongs to an outline that has its center inside, as in COCO's own tools. The number of
    shapes that cover no pixel comes along.
    """
    from pycocotools import mask

    encoded = []
    for label, region in drawing.shapes:
        if isinstance(region, list):
            points = np.concatenate(region)
            x, y = points[np.abs(points).max(1).argmax()]
            if max(abs(x), abs(y)) > (1 + _REACH) * max(size):  # it would take as much memory
                raise UserError(
                    f"{drawing}: a point of {label!r} is at x {x:g}, y {y:g}, far outside of an "
                    f"image of {size[1]}×{size[0]}. Points must be in pixels of the image; correct "
                    "it."
                )
            region = mask.merge(mask.frPyObjects([part.ravel().tolist() for part in region], *size))
        elif (*region["size"],) != size:
            raise UserError(
                f"{drawing}: an RLE mask of {label!r} is {region['size']} (height, width), the "
                f"image {list(size)}. Export the annotations again."
            )
        encoded.append((int(mask.area(region)), values[label], region))
    if smallest_on_top:
        encoded.sort(key=lambda one: -one[0])
    canvas = np.zeros(size, np.uint8)
    for _, value, region in encoded:
        canvas[mask.decode(region).view(np.bool_)] = value
    return canvas, sum(not area for area, *_ in encoded)
