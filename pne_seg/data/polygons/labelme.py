"""LabelMe's JSON: one file for each image, with polygons, rectangles, circles and masks."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pne_seg.data.data_file import DataFile
from pne_seg.data.polygons.coco import as_runs
from pne_seg.data.polygons.json_files import kind_of_json, unsupported
from pne_seg.data.polygons.shapes import Annotations, Drawing, Region, Shape, outline, stated_size
from pne_seg.errors import UserError

_POINTS_OF_CIRCLE = 128
_CORNERS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
_NO_AREA = ("point", "points", "line", "linestrip", "multipoints")


def read_labelme(file: DataFile, content: Any, found: Annotations) -> None:
    """Add the content of a file to what was found; points and lines are left out."""
    if (kind := kind_of_json(content)) != "LabelMe":
        if kind == "COCO":
            raise UserError(
                f"{file} is COCO JSON of many images: pass the file itself as polygons, such as "
                f"polygons={file.relative!r}, with {{split}} where there is one for each split."
            )
        raise unsupported(file, kind)
    size = stated_size(content.get("imageHeight"), content.get("imageWidth"), str(file))
    drawing = Drawing(file, file.stem, size)
    if not isinstance(content["shapes"] or [], list):
        raise UserError(f"{file}: shapes must be a list. Save it in LabelMe again.")
    for number, shape in enumerate(content["shapes"] or []):
        where = f"{file}: shape {number}"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not label or not isinstance(label, str):
            raise UserError(f"{where} has no label. Correct it in LabelMe.")
        kind = shape.get("shape_type") or "polygon"
        if kind in _NO_AREA:
            found.leave_out(f"a {kind} has no area", where)
            continue
        region = _region(kind, shape, drawing.size, f"{where} ({label}, {kind})")
        if region is None:
            found.leave_out("they have fewer than three points", where)
        else:
            drawing.shapes.append(Shape(label, region))
    found.drawings.append(drawing)
    used = dict.fromkeys(shape.label for shape in drawing.shapes)
    found.labels = sorted({*found.labels, *used})


def _region(
    kind: str, shape: Mapping[str, Any], size: tuple[int, int] | None, where: str
) -> Region | None:
    points = shape.get("points")
    if kind in _CORNERS:
        corners = outline(points, where)
        return None if corners is None else [corners]
    # Three times the same, as `outline` checks them and wants three.
    two = outline([points, points, points], where) if isinstance(points, list) and points else None
    if two is None or len(two) % 3:
        raise UserError(f"{where}: its points are missing. Correct it in LabelMe.")
    two = two[: len(two) // 3]
    if kind == "rectangle":
        (x, y), (right, bottom) = two.min(0), two.max(0)
        return [np.array([[x, y], [right, y], [right, bottom], [x, bottom]])]
    if kind == "circle" and len(two) == 2:
        angles = np.linspace(0, 2 * np.pi, _POINTS_OF_CIRCLE, endpoint=False)
        radius = float(np.hypot(*(two[1] - two[0])))
        return [two[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)]
    if kind == "mask" and size is not None:
        return as_runs(_pasted(shape.get("mask"), two, size, where))
    raise UserError(
        f"{where}: only polygon, rectangle, circle and mask are areas that can be drawn. Draw it "
        "as a polygon."
    )


def _pasted(
    text: Any, corners: np.ndarray[Any, Any], size: tuple[int, int], where: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return an (H, W) mask with a small one, PNG as Base64, at its place."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
            small = np.asarray(image.convert("L")) > 0
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        raise UserError(f"{where}: its mask is damaged ({error}). Save it again.") from error
    canvas = np.zeros(size, np.bool_)
    x, y = corners.min(0).round().astype(int)
    top, left = max(0, -y), max(0, -x)
    place = canvas[max(0, y) :, max(0, x) :][: small.shape[0] - top, : small.shape[1] - left]
    place |= small[top:, left:][: place.shape[0], : place.shape[1]]
    return canvas
