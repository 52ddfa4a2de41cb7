"""Which image an entry of a COCO file means, and in which split it is."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.layouts import SPLIT_FOLDERS, Place
from pne_seg.data.paired_files import Pair, by_key
from pne_seg.data.polygons.drawn_masks import DrawnMasks, path_parts
from pne_seg.data.sources import Tree, composed, open_tree
from pne_seg.errors import UserError
from pne_seg.files import expanded

Images = Mapping[Split | None, tuple[Place, Sequence[DataFile]]]
"""The images of each split, or of None without splits."""


_Lying = tuple[Split | None, str, DataFile]  # an image with its split and its key


def find_coco(tree: Tree, root: Path, given: str) -> dict[Split | None, DataFile]:
    """Find the COCO file of each split, or of None the one for all.

    Args:
        tree: where the images are.
        root: folder or archive that the tree is in.
        given: path below one of both, or absolute; `{split}` stands for the name of a split.
    """
    places = [tree, open_tree(root)]
    found: dict[Split | None, DataFile] = {}
    if "{split}" not in given:
        if file := next(filter(None, (place.file(given) for place in places)), None):
            return {None: file}
        if (path := Path(expanded(given))).is_absolute() and path.exists():
            return {None: open_file(path)}
    for split, known in SPLIT_FOLDERS.items() if "{split}" in given else ():
        for name in (form for one in known for form in (one, one.capitalize(), one.upper())):
            path_of = given.replace("{split}", name)
            file = next(filter(None, (place.file(path_of) for place in places)), None)
            if file is not None and found.setdefault(split, file) != file:
                raise UserError(f"{found[split]} and {file} are both of the {split} split.")
    if not found:
        others = [file.relative for file in places[1].files("", (".json",))[:5]]
        lie = f"these JSON files lie there: {', '.join(others)}" if others else "no JSON lies there"
        raise UserError(f"{root}: there is no {given}; {lie}. Correct polygons.")
    return found


def coco_pairs(
    images: Images, files: Mapping[Split | None, DataFile], masks: DrawnMasks
) -> dict[Split | None, list[Pair]]:
    """Pair images with the masks of COCO files; an image that no file names has None.

    Args:
        images: as they lie.
        files: the COCO file of each split; of None one for all.
        masks: their masks.
    """
    found: dict[Split | None, dict[str, Pair]] = {}
    missing: list[str] = []
    named: dict[DataFile, tuple[Split | None, str]] = {}
    for split, source in files.items():
        here: Images = {split: images[split]} if split in images else images
        lying = [
            (part, key, image)
            for part, (place, several) in here.items()
            for key, image in by_key(several, place.key).items()
        ]
        endings = _by_ending(lying)
        for name in masks.names(source):
            meant = _meant(name, endings)
            if meant is None:
                missing.append(f"{source} has {name}")
                continue
            part, key, image = meant
            if image in named:
                raise _named_twice(source, image, named[image], (split, name))
            named[image] = split, name
            pair = Pair(key, image, masks.mask(source, name))
            found.setdefault(split if part is None else part, {})[key] = pair
    if missing:
        raise UserError(
            f"{missing[0]}, an image that is not there ({len(missing)} such images in all). Put "
            "it into its place, correct images, or remove it from the file."
        )
    for part, (place, several) in images.items():
        for image in several:
            if image not in named:
                key = place.key(image)
                found.setdefault(part, {})[key] = Pair(key, image, None)
    return {part: [pairs[key] for key in sorted(pairs)] for part, pairs in found.items()}


def _named_twice(
    source: DataFile,
    image: DataFile,
    one: tuple[Split | None, str],
    other: tuple[Split | None, str],
) -> UserError:
    if one[0] != other[0]:
        return UserError(
            f"{source}: {image} is in the {one[0]} split too. Remove it from one of the files."
        )
    return UserError(
        f"{source}: {one[1]} and {other[1]} can only mean {image}. Put the missing image into its "
        "place, or correct its name."
    )


def _by_ending(lying: Iterable[_Lying]) -> dict[str, _Lying | None]:
    """Return the image of each ending of the images' paths; None where several share it."""
    endings: dict[str, _Lying | None] = {}
    for one in lying:
        path = composed(one[2].relative)
        for written in (path, path.rpartition(".")[0]):
            for ending in _endings(written.split("/")):
                endings[ending] = None if ending in endings else one
    return endings


def _meant(name: str, endings: Mapping[str, _Lying | None]) -> _Lying | None:
    """Return the image whose path agrees with the longest end of a name, or but for its ending."""
    for written in (name, name.rpartition(".")[0]):
        for ending in _endings(path_parts(written)):
            if ending in endings:
                return endings[ending]
    return None


def _endings(parts: Sequence[str]) -> Iterable[str]:
    return ("/".join(parts[start:]) for start in range(len(parts)))
