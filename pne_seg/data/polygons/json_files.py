"""Read JSON files of annotations, and name the kinds that are not supported."""

import json
import re
from collections.abc import Iterable
from typing import Any

from pne_seg.data.data_file import DataFile
from pne_seg.errors import DataError, Fix, UserError

_SUPPORTED = (
    "polygons must be the path of a COCO JSON file, or a folder with one LabelMe JSON file for "
    "each image. Export as one of these, or as PNG masks."
)
# Keys that tell each; those after a `/` are of the first entry of a list, or in a mapping.
_KINDS = {
    "LabelMe": {"shapes"},
    "COCO panoptic JSON, whose areas lie in PNG files": {"annotations/segments_info"},
    "COCO captions": {"annotations/caption"},
    "COCO": {"images", "annotations"},
    "COCO without annotations": {"images", "categories"},
    "VIA (VGG Image Annotator) JSON": {"_via_img_metadata"},
    "VIA JSON": {"first/regions"},
    "Supervisely JSON": {"objects", "size"},
    "Cityscapes' JSON (run createTrainIdLabelImgs of cityscapesScripts)": {"objects", "imgHeight"},
    "GeoJSON": {"type", "features"},
    "Labelbox JSON": {"data_row"},
    "Label Studio JSON": {"list/annotations"},
    "a list of COCO annotations or results": {"list/image_id"},
}
_YOLO = re.compile(rb"\s*\d+( [\d.eE+-]+){4,}\s")  # a class and four numbers or more


def read_json(file: DataFile) -> tuple[str, Any]:
    """Return the tool or format that a JSON file comes from, by its keys, and the content."""
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}). Export it again.") from error
    keys: set[str] = set()
    lists = {"list": content}
    if isinstance(content, dict):
        keys = {*content}
        lists = {"annotations": content.get("annotations"), "first": [*content.values()]}
    for name, entries in lists.items():
        if isinstance(entries, list) and entries and isinstance(entries[0], dict):
            keys |= {f"{name}/{key}" for key in entries[0]}
    kinds = (kind for kind, own in _KINDS.items() if own <= keys)
    return next(kinds, "JSON of an unknown kind"), content


def unsupported(file: object, kind: str) -> UserError:
    """Return the error of annotations of another kind."""
    return UserError(f"{file} is {kind}. {_SUPPORTED}")


def no_masks(files: Iterable[DataFile], folder: str) -> UserError | None:
    """Return the error of a folder of masks that has files of other kinds only."""
    for file in files:
        ending = file.name.lower().rpartition(".")[2]
        if ending in ("jpg", "jpeg", "webp"):
            return DataError(
                f"{file}: masks must be PNG, BMP or TIFF files; this format changes values as it "
                "compresses. Export them again as PNG",
                [Fix("to take the nearest class", {"mask_tolerance": 20})],
            )
        if ending == "json":
            kind, _ = read_json(file)
            if kind in ("LabelMe", "COCO"):
                given = file.relative if kind == "COCO" else folder or "."
                return DataError(
                    f"{file} is {kind} JSON, and there are no masks beside it",
                    [Fix("to draw its polygons", {"polygons": given})],
                )
            return unsupported(file, kind)
        if ending == "txt" and _YOLO.match(file.read_bytes()[:1000]):
            return unsupported(file, "a YOLO text file of boxes or polygons")
        if ending == "xml":
            cvat = b"<annotations" in file.read_bytes()[:4000]
            return unsupported(file, "CVAT XML" if cvat else "Pascal VOC XML of boxes")
    return None
