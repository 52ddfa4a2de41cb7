"""LabelMe's JSON: one file for each image, with polygons, rectangles, circles and masks."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pne_seg.data.data_file import DataFile
from pne_seg.data.polygons.shapes import Annotations, Drawing, Region, read_points, stated_size
from pne_seg.errors import UserError

_CORNERS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
_NO_AREA = ("point", "points", "line", "linestrip", "multipoints")


def read_labelme(file: DataFile, content: Any, found: Annotations) -> None:
    """Add the content of a file to what was found; points and lines are left out."""
    size = stated_size(content.get("imageHeight"), content.get("imageWidth"))
    drawing = Drawing(file, file.relative, size)
    shapes = content["shapes"] or []
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise UserError(f"{file}: shapes must be a list of shapes. Save it in LabelMe again.")
    for number, shape in enumerate(shapes):
        where = f"{file}: shape {number}"
        label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
        if not label or not isinstance(label, str):
            raise UserError(f"{where} has no label. Correct it in LabelMe.")
        if kind in _NO_AREA:
            found.leave_out(f"a {kind} has no area", where)
            continue
        where += f" ({label}, {kind})"
        found.add(drawing, label, _region(kind, shape, size, where), where)
    found.drawings.append(drawing)
    found.labels = sorted({*found.labels, *(label for label, _ in drawing.shapes)})


def _region(
    kind: str, shape: Mapping[str, Any], size: tuple[int, int] | None, where: str
) -> Region | None:
    points = read_points(shape.get("points"), where)
    if kind in _CORNERS:
        return [points] if len(points) > 2 else None
    if kind == "rectangle" and len(points):
        (left, top), (right, bottom) = points.min(0), points.max(0)
        return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
        radius = float(np.hypot(*(points[1] - points[0])))
        return [points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)]
    if kind == "mask" and len(points) and size is not None:
        left, top = points.min(0).round().astype(int).tolist()
        return _pasted(shape.get("mask"), (left, top), size, where)
    raise UserError(
        f"{where}: only a polygon, a rectangle, a circle and a mask with their points are areas "
        "that can be drawn. Draw it as a polygon."
    )


def _pasted(text: Any, corner: tuple[int, int], size: tuple[int, int], where: str) -> Region:
    """Return a mask of the image, with a small one, PNG as Base64, at its place."""
    from pycocotools import mask

    canvas = Image.new("L", size[::-1])
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as small:
            canvas.paste(small.convert("L"), corner)
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise UserError(f"{where}: its mask is damaged ({error}). Save it again.") from error
    return dict(mask.encode(np.asfortranarray(np.asarray(canvas) > 0).view(np.uint8)))
