"""Which image an entry of a COCO file means, and in which split it is."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.data_file import DataFile, PlainFile
from pne_seg.data.layouts import SPLIT_FOLDERS
from pne_seg.data.paired_files import Pair
from pne_seg.data.polygons.drawn_masks import DrawnMasks, path_parts
from pne_seg.data.sources import Tree, open_tree
from pne_seg.errors import UserError
from pne_seg.files import expanded

Image = tuple[Split | None, str, DataFile]
"""An image with its split, None without splits, and its key."""


def find_coco(tree: Tree, root: Path, given: str) -> dict[Split | None, DataFile]:
    """Find the COCO file of each split, or of None the one for all, below the tree or its root."""
    forms: dict[str, Split | None] = {"": None}
    if "{split}" in given:
        forms = {
            form: split
            for split, known in SPLIT_FOLDERS.items()
            for name in known
            for form in (name, name.capitalize(), name.upper())
        }
    places = [tree, open_tree(root)]
    found: dict[Split | None, DataFile] = {}
    for form, split in forms.items():
        path = expanded(given.replace("{split}", form))
        file = next((file for place in places if (file := place.file(path))), None)
        if file is None and Path(path).is_absolute() and Path(path).exists():
            anchor = Path(path).anchor
            file = PlainFile(anchor, Path(path).relative_to(anchor).as_posix())
        other = found.setdefault(split, file) if file else None
        # Some systems find a file by its name in capitals too.
        if file and other and str(file).lower() != str(other).lower():
            raise UserError(f"{other} and {file} are both of the {split} split. Keep one of them.")
    if not found:
        others = [file.relative for file in places[1].files("", (".json",))[:5]]
        lie = f"these JSON files lie there: {', '.join(others)}" if others else "no JSON lies there"
        raise UserError(f"{root}: there is no {given}; {lie}. Correct polygons.")
    return found


def coco_pairs(
    images: Sequence[Image], files: Mapping[Split | None, DataFile], masks: DrawnMasks
) -> dict[Split | None, list[Pair]]:
    """Pair images with the masks of COCO files by split; an image that no file names has None."""
    named: dict[DataFile, tuple[Split | None, DataFile, str]] = {}
    missing: list[str] = []
    for split, file in files.items():
        inside = [one for one in images if one[0] == split] if split else []
        endings = _by_ending(inside or images)
        for name in masks.names(file):
            if (image := _meant(name, endings)) is None:
                missing.append(f"{file} has {name}")
            elif other := named.get(image):
                raise UserError(
                    f"{image} is meant by {other[2]} in {other[1]} and by {name} in {file}. "
                    "Remove one of them, or put the missing image into its place."
                )
            else:
                named[image] = split, file, name
    if missing:
        raise UserError(
            f"{missing[0]}, an image that is not there ({len(missing)} such images in all). Put "
            "it into its place, correct images, or remove it from the file."
        )
    found: dict[Split | None, list[Pair]] = {}
    for part, key, image in sorted(images, key=lambda one: one[1]):
        split, source, name = named.get(image, (None, None, ""))
        pair = Pair(key, image, masks.mask(source, name) if source else None)
        found.setdefault(part or split, []).append(pair)
    return found


def _by_ending(images: Iterable[Image]) -> dict[str, DataFile | None]:
    """Return the image of each ending of the images' paths; None where several share it."""
    found: dict[str, DataFile | None] = {}
    for *_, image in images:
        for ending in _endings(image.relative):
            found[ending] = None if ending in found else image
    return found


def _meant(name: str, images: Mapping[str, DataFile | None]) -> DataFile | None:
    """Return the image whose path agrees with the longest end of a name."""
    return next((images[ending] for ending in _endings(name) if ending in images), None)


def _endings(path: str) -> list[str]:
    """Return the ends of a path, from the longest on, and these but for the extension."""
    forms = dict.fromkeys([path, path.rpartition(".")[0] or path])
    parts = [path_parts(form) for form in forms]
    return ["/".join(names[start:]) for names in parts for start in range(len(names))]
