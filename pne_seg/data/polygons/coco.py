"""COCO's JSON: images, categories and annotations with polygons or run lengths, in one file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pne_seg.data.data_file import DataFile
from pne_seg.data.polygons.json_files import kind_of_json, unsupported
from pne_seg.data.polygons.shapes import Annotations, Drawing, Region, Shape, outline, stated_size
from pne_seg.errors import UserError

_NO_OUTLINE = "they have a box but no outline"
_TOO_FEW = "they have fewer than three points"


def read_coco(file: DataFile, content: Any, found: Annotations) -> None:
    """Add the content of a file to what was found; crowds are areas of their class.

    Categories come in the order of their ids. Those of one name are one class. One that no
    annotation has, and that others have as their `supercategory`, groups them and is no class.
    """
    if (kind := kind_of_json(content)) != "COCO":
        if kind == "LabelMe":
            raise UserError(
                f"{file} is LabelMe JSON of one image: pass the folder of such files as polygons."
            )
        raise unsupported(file, kind)
    images, annotations, categories = (
        _entries(file, content, key) for key in ("images", "annotations", "categories")
    )
    names: dict[Any, str] = {
        _value(file, entry, "id", "a category"): str(_value(file, entry, "name", "a category"))
        for entry in sorted(categories, key=lambda entry: _sortable(entry.get("id")))
    }
    drawings: dict[Any, Drawing] = {}
    by_name: dict[str, Any] = {}
    for entry in images:
        number = _value(file, entry, "id", "an image")
        name = str(_value(file, entry, "file_name", f"image {number}"))
        if number in drawings or by_name.setdefault(name, number) != number:
            raise UserError(f"{file}: image {number}, {name}, is there twice. Remove one of them.")
        size = stated_size(entry.get("height"), entry.get("width"), f"{file}: {name}")
        drawings[number] = Drawing(file, name, size)
    boxes = 0
    for entry in annotations:
        where = f"{file}: annotation {entry.get('id', '?')}"
        category, image = entry.get("category_id"), entry.get("image_id")
        if not _is_key(category) or category not in names:
            known = ", ".join(map(str, list(names)[:10])) + (", …" if len(names) > 10 else "")
            raise UserError(
                f"{where} has category_id {category!r}; categories has {known or 'none'}. Correct "
                "it, or add the category."
            )
        if not _is_key(image) or image not in drawings:
            raise UserError(
                f"{where} has image_id {image!r}, which is not in images. Correct it, or remove it."
            )
        drawing = drawings[image]
        where = f"{where} (image {drawing.name})"
        region = _region(entry.get("segmentation"), drawing.size, where)
        if region is None:
            boxes += not entry.get("segmentation")
            found.leave_out(_TOO_FEW if entry.get("segmentation") else _NO_OUTLINE, where)
        else:
            drawing.shapes.append(Shape(names[category], region))
    if annotations and boxes == len(annotations):
        raise UserError(
            f"{file}: none of its {boxes} annotations has an outline (segmentation), so that it is "
            "for detection of boxes. Export polygons or masks."
        )
    used = {shape.label for drawing in drawings.values() for shape in drawing.shapes}
    groups = {str(entry.get("supercategory")) for entry in categories} - used
    groups &= {name for name in names.values() if _groups(name, categories)}
    found.drawings += drawings.values()
    found.labels += dict.fromkeys(
        name for name in names.values() if name not in groups and name not in found.labels
    )


def _groups(name: str, categories: list[dict[str, Any]]) -> bool:
    return any(one.get("supercategory") == name != one.get("name") for one in categories)


def _entries(file: DataFile, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"{file}: {key} must be a list of entries, as COCO has it. Export it again."
        )
    return entries


def _value(file: DataFile, entry: Mapping[str, Any], key: str, what: str) -> Any:
    value = entry.get(key)
    if not _is_key(value):
        raise UserError(f"{file}: {what} has no {key}. Export it again.")
    return value


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str) and value != ""


def _sortable(number: Any) -> tuple[bool, Any]:
    return isinstance(number, str), number if isinstance(number, int | str) else 0


def _region(written: Any, size: tuple[int, int] | None, where: str) -> Region | None:
    if isinstance(written, dict):
        return _runs(written, size, where)
    if not isinstance(written, list) or not written:
        return None
    parts = [written] if isinstance(written[0], int | float) else written
    outlines = [points for part in parts if (points := outline(part, where)) is not None]
    return list(outlines) or None


def _runs(written: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> tuple[int, ...]:
    """Read the runs of an RLE mask, compressed as a text or not."""
    counts, stated = written.get("counts"), written.get("size")
    if size is not None and stated is not None and stated != list(size):
        raise UserError(
            f"{where}: its RLE mask is {stated} (height, width), the image {list(size)}. Export "
            "the annotations again."
        )
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    if (
        not isinstance(counts, list)
        or not all(isinstance(run, int) for run in counts)
        or not counts
    ):
        raise UserError(f"{where}: its RLE mask is damaged. Export the annotations again.")
    return tuple(counts)


def _uncompressed(text: str) -> list[int] | None:
    """Return the runs of COCO's compressed RLE, so that their sum can be checked; None if damaged.

    pycocotools gives random pixels where they are too few. Each run is a number of 5 bits a letter,
    from the third on the difference to the one but last (`rleToString` in its maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs


def as_runs(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[int, ...]:
    """Return the runs of an (H, W) mask, by columns, the first of them outside of it."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(int(run) for run in np.diff([0, *edges, mask.size]))
