"""Read JSON files of annotations, and name the kinds that are not supported."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pne_seg.data.data_file import DataFile
from pne_seg.errors import DataError, Fix, UserError

SUPPORTED = (
    "Supported are COCO (one JSON file) and LabelMe (a folder of JSON files, one for each image): "
    "export as one of these, or as PNG masks."
)

_NUMBERS = re.compile(rb"\s*\d+( [\d.eE+-]+){4,}\s")  # a class and four numbers or more


def parse_json(file: DataFile, data: bytes) -> Any:
    """Parse the content of a JSON file; a `UserError` says where it is broken."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}, line {error.lineno}, column {error.colno}: broken JSON ({error.msg}). Export "
            "it again."
        ) from error
    except RecursionError as error:
        raise UserError(f"{file}: broken JSON (nested too deep). Export it again.") from error


def kind_of_json(content: Any) -> str:
    """Name the tool or format that a JSON file comes from, by its keys."""
    first = content
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and first.keys() & {"annotations", "completions"}:
            return "Label Studio JSON"
        return "a list of COCO annotations or results" if _has(first, "image_id") else "a list"
    if not isinstance(content, dict):
        return "no annotations"
    annotations = content.get("annotations")
    if _has(content, "shapes"):
        return "LabelMe"
    if isinstance(annotations, list) and any(_has(one, "segments_info") for one in annotations):
        return "COCO panoptic JSON, whose areas lie in PNG files"
    if isinstance(annotations, list) and any(_has(one, "caption") for one in annotations):
        return "COCO captions"
    if _has(content, "images", "annotations"):
        return "COCO"
    if _has(content, "images", "categories"):
        return "COCO without annotations"
    if _has(content, "_via_img_metadata") or any(_has(one, "regions") for one in content.values()):
        return "VIA (VGG Image Annotator) JSON"
    if _has(content, "objects", "size"):
        return "Supervisely JSON"
    if _has(content, "objects", "imgHeight"):
        return "Cityscapes' JSON (run createTrainIdLabelImgs of cityscapesScripts)"
    if content.get("type") == "FeatureCollection":
        return "GeoJSON"
    if _has(content, "data_row"):
        return "Labelbox JSON"
    return "JSON of an unknown kind"


def unsupported(file: object, kind: str) -> UserError:
    """Return the error of annotations of another kind."""
    return UserError(f"{file} is {kind}, which `polygons` does not read. {SUPPORTED}")


def no_masks(files: Sequence[DataFile], folder: str) -> UserError | None:
    """Return the error of a folder without masks, if it has annotations of other kinds.

    Args:
        files: all that lie in it.
        folder: its path as the settings have it.
    """
    for file in files:
        ending = file.name.lower().rpartition(".")[2]
        kind = None
        if ending in ("jpg", "jpeg", "webp"):
            return DataError(
                f"{file}: masks must be PNG, BMP or TIFF files; this format changes values as it "
                "compresses. Export them again as PNG",
                [Fix("to take the nearest class", {"mask_tolerance": 20})],
            )
        if ending == "json":
            kind = kind_of_json(parse_json(file, file.read_bytes()))
            if kind in ("LabelMe", "COCO"):
                given = file.relative if kind == "COCO" else folder or "."
                return DataError(
                    f"{file} is {kind} JSON, and there are no masks beside it",
                    [Fix("to draw its polygons", {"polygons": given})],
                )
        elif ending == "txt" and _NUMBERS.match(file.read_bytes()[:1000]):
            kind = "a YOLO text file of boxes or polygons"
        elif ending == "xml":
            text = file.read_bytes()[:4000].decode("utf-8", "replace")
            kind = "CVAT XML" if "<annotations" in text else "Pascal VOC XML of boxes"
        if kind is not None and not kind.startswith("no annotations"):
            return unsupported(file, kind)
    return None


def _has(content: Any, *keys: str) -> bool:
    return isinstance(content, dict) and all(key in content for key in keys)
