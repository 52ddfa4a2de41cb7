"""COCO's JSON: images, categories and annotations with polygons or run lengths, in one file."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from pne_seg.data.data_file import DataFile
from pne_seg.data.polygons.shapes import Annotations, Drawing, Region, read_points, stated_size
from pne_seg.errors import UserError


def read_coco(file: DataFile, content: Any, found: Annotations) -> None:
    """Add the content of a file to what was found; crowds are areas of their class.

    Categories come in the order of their ids. Those of one name are one class. One that no
    annotation has, and that others have as their `supercategory`, groups them and is no class.
    """
    images = _entries(file, content, "images", "file_name")
    categories = _entries(file, content, "categories", "name")
    annotations = _entries(file, content, "annotations")
    drawings = {}
    for entry in images:
        size = stated_size(entry.get("height"), entry.get("width"))
        drawings[entry["id"]] = Drawing(file, str(entry["file_name"]), size)
    names: dict[Any, str] = {
        entry["id"]: str(entry["name"])
        for entry in sorted(categories, key=lambda one: (isinstance(one["id"], str), one["id"]))
    }
    for entry in annotations:
        where = f"{file}: annotation {entry.get('id', '?')}"
        for key, known in (("category_id", names), ("image_id", drawings)):
            if not isinstance(entry.get(key), int | float | str) or entry[key] not in known:
                few = ", ".join(map(str, [*known][:10])) + ", …" * (len(known) > 10)
                raise UserError(
                    f"{where} has {key} {entry.get(key)!r}, which is not among the ids "
                    f"{few or '(none)'}. Correct it, or remove the annotation."
                )
        drawing = drawings[entry["image_id"]]
        where = f"{where} (image {drawing.name})"
        if not entry.get("segmentation"):
            found.leave_out("they have a box but no outline", where)
            continue
        region = _region(entry["segmentation"], drawing, where)
        found.add(drawing, names[entry["category_id"]], region, where)
    used = {label for drawing in drawings.values() for label, _ in drawing.shapes}
    parents = [above for one in categories if (above := one.get("supercategory")) != one["name"]]
    found.drawings += drawings.values()
    found.labels += dict.fromkeys(
        name
        for name in names.values()
        if (name in used or name not in parents) and name not in found.labels
    )


def _entries(file: DataFile, content: Mapping[str, Any], key: str, name: str = "") -> list[Any]:
    """Return a list of the file, whose entries have an id and, under its key, a name if given."""
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(
            f"{file}: {key} must be a list of entries, as COCO has it. Export it again."
        )
    for part in ("id", name) if name else ():
        values = [entry.get(part) for entry in entries]
        if not all(isinstance(one, int | float | str) and one != "" for one in values):
            raise UserError(f"{file}: an entry of {key} has no {part}. Export it again.")
        [(twice, count)] = Counter(values).most_common(1) or [(None, 0)]
        if count > 1 and part != "name":
            raise UserError(f"{file}: {key} has the {part} {twice!r} twice. Remove one of them.")
    return entries


def _region(written: Any, drawing: Drawing, where: str) -> Region | None:
    """Read a `segmentation`; None if all of its outlines have too few points."""
    if isinstance(written, dict):
        return _rle(written, drawing, where)
    parts = written if isinstance(written, list) else [written]
    outlines = [
        read_points(part, where)
        for part in ([parts] if isinstance(parts[0], int | float) else parts)
    ]
    return [points for points in outlines if len(points) > 2] or None


def _rle(written: Mapping[str, Any], drawing: Drawing, where: str) -> Region:
    """Check an RLE mask, as pycocotools gives random pixels where it is damaged."""
    from pycocotools import mask

    runs: Any = written.get("counts")
    size: Any = written.get("size")
    runs = _uncompressed(runs) if isinstance(runs, str) else runs
    sound = all(
        isinstance(part, list) and all(isinstance(one, int) and one >= 0 for one in part)
        for part in (runs, size)
    )
    if not sound or len(size) != 2 or sum(runs) != size[0] * size[1]:
        raise UserError(
            f"{where}: its RLE mask is damaged, as its runs do not fill its size {size}. Export "
            "the annotations again."
        )
    drawing.size = drawing.size or (size[0], size[1])
    return cast(dict[str, Any], mask.frPyObjects({"size": size, "counts": runs}, *size))


def _uncompressed(text: str) -> list[int]:
    """Return the runs of COCO's compressed RLE; a negative one if it is damaged.

    Each run is a number of 5 bits a letter, from the third on the difference to the one but last
    (`rleToString` in its maskApi.c).
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
