"""Which images and masks are meant to belong together, by their names: settings to advise."""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

from pne_seg.data.data_file import DataFile
from pne_seg.data.layouts import SPLIT_FOLDERS
from pne_seg.data.sources import IMAGE_SUFFIXES, LABEL_SUFFIXES, composed, open_tree
from pne_seg.errors import DataError, Fix

_SEPARATORS = "_-. "
_MOST_COMPARED = 100  # names that something in common is looked for of
_MOST_FOLDERS = 10
_OPENED = 3  # files of a folder, to tell images and masks

Affixes = tuple[str, str]
"""What a name has before and after something in common with another."""


def nearest_partner(
    alone: Sequence[str], file: DataFile, others: Sequence[DataFile], what: str, settable: bool
) -> tuple[str, list[Fix]]:
    """Describe what could be meant as the partner of the first key, and why it is not taken."""
    name = alone[0].rpartition("/")[2]
    for other in others:
        if other == file or composed(other.stem).casefold() != name.casefold():
            continue
        if not other.name.lower().endswith(IMAGE_SUFFIXES if what == "image" else LABEL_SUFFIXES):
            kind = other.name.rpartition(".")[2].upper()
            return f"{other} lies there, but {what} cannot be {kind} files: save as PNG.", []
        if composed(other.stem) != name:
            return f"{other} lies there: upper and lower case must agree.", []
        return f"{other} lies there, in another folder: sub-folders must agree.", []
    names = {composed(other.stem): other for other in others if other != file}
    keys = [key.rpartition("/")[2] for key in alone]
    if not settable or (found := common_affixes(keys, names)) is None:
        return "", []
    _, _, near, here, there = found
    if (core := _without(name, here)) is not None:
        near = there[0] + core + there[1] if there[0] + core + there[1] in names else near
    arguments = _arguments(there, here) if what == "image" else _arguments(here, there)
    return f"{names[near]} lies there", [Fix("if they belong together", arguments)]


def common_affixes(
    keys: Iterable[str], names: Iterable[str]
) -> tuple[int, str, str, Affixes, Affixes] | None:
    """Find what sets the names of images and masks apart, from the names themselves.

    Returns how many of the first keys are paired, one of the pairs, and what `keys` and `names`
    have around; of all possible, that which pairs the most. None if there is none.
    """
    own, known = {*sorted(keys)[:_MOST_COMPARED]}, {*names}
    orders = sorted(own | known), sorted(own | known, key=lambda name: name[::-1])
    neighbors = [pair for order in orders for pair in pairwise(order)]
    best: tuple[int, str, str, Affixes, Affixes] | None = None
    tried: set[tuple[Affixes, Affixes]] = set()
    for one, other in [*neighbors, *(pair[::-1] for pair in neighbors)]:
        if one not in own or other not in known:
            continue
        for here, there, splits_a_word in _affixes(one, other):
            if here == there or (here, there) in tried:
                continue
            tried.add((here, there))
            cores = (_without(key, here) for key in own)
            count = sum(core is not None and there[0] + core + there[1] in known for core in cores)
            # A part of a word, such as the `r` of `car` beside `cat`, only if it explains all.
            if not count or (splits_a_word and count < max(2, len(own))):
                continue
            found = count, one, other, here, there
            best = max(best or found, found, key=_worth)
    return best


def _worth(found: tuple[int, str, str, Affixes, Affixes]) -> tuple[int, int]:
    """Order by the names that pair; of as many, by how little sets them apart."""
    count, _, _, here, there = found
    return count, -len("".join((*here, *there)))


def _affixes(here: str, there: str) -> Iterator[tuple[Affixes, Affixes, bool]]:
    """Yield what two names could have around something in common, and whether it splits a word."""
    start = posixpath.commonprefix([here, there]).rstrip(_SEPARATORS)
    if start:
        one, other = here[len(start) :], there[len(start) :]
        edges = [rest[0] for rest in (one, other) if rest]
        yield ("", one), ("", other), _splits(start[-1], edges)
    end = posixpath.commonprefix([here[::-1], there[::-1]])[::-1].lstrip(_SEPARATORS)
    if end:
        one, other = here.removesuffix(end), there.removesuffix(end)
        edges = [rest[-1] for rest in (one, other) if rest]
        yield (one, ""), (other, ""), _splits(end[0], edges)


def _splits(letter: str, edges: Iterable[str]) -> bool:
    return not letter.isdigit() and any(edge not in _SEPARATORS for edge in edges)


def _without(name: str, affixes: Affixes) -> str | None:
    prefix, suffix = affixes
    if name.startswith(prefix) and name.endswith(suffix):
        return name[len(prefix) : len(name) - len(suffix)]
    return None


def _arguments(image: Affixes, mask: Affixes) -> dict[str, str]:
    texts = dict(zip(("image_prefix", "image_suffix"), image, strict=True))
    texts |= zip(("mask_prefix", "mask_suffix"), mask, strict=True)
    return {name: text for name, text in texts.items() if text}


def layout_error(root: Path, looked_for: str) -> DataError | None:
    """Return the error of images and masks in folders of other names, or side by side in one.

    None if nothing pairs, or is not found at all.
    """
    if not root.exists():
        return None
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    files = {
        file: [part for part in file.relative.split("/")[:-1] if part.lower() not in splits]
        for file in open_tree(root).files("", IMAGE_SUFFIXES)
    }
    depth = len(posixpath.commonprefix([*files.values()]))
    kinds: dict[str, dict[str, DataFile]] = defaultdict(dict)  # by folder, then by the name in it
    for file, path in files.items():
        inner = composed("/".join([*path[depth + 1 :], file.stem]))
        kinds["/".join(path[: depth + 1])][inner] = file
    found = _side_by_side([*files]) if len(kinds) == 1 else _in_two_folders(kinds)
    if found is None:
        return None
    image, mask, affixes = found
    places = ["/".join(files[file][: depth + 1]) or "." for file in (image, mask)]
    folders = dict(zip(("images", "masks"), places, strict=True))
    arguments = {name: text for name, text in folders.items() if name != text}  # the defaults
    arguments |= _arguments(*affixes)
    message = f"{root} does not hold {looked_for}. {image} and {mask} lie there"
    return DataError(message, [Fix("if these are image and mask", arguments or folders)])


Example = tuple[DataFile, DataFile, tuple[Affixes, Affixes]]
"""An image and a mask, and what the names of each kind have around."""


def _in_two_folders(kinds: dict[str, dict[str, DataFile]]) -> Example | None:
    """Find the two folders whose names pair best, as they are or but for something around."""
    folders = sorted(kinds.values(), key=len, reverse=True)[:_MOST_FOLDERS]
    pairs = [(len({*one} & {*other}), one, other) for one, other in combinations(folders, 2)]
    shared, one, other = max(
        pairs, key=lambda pair: (pair[0], _differ(*pair[1:])), default=(0, {}, {})
    )
    affixes: tuple[Affixes, Affixes] = ("", ""), ("", "")
    if shared < 2:
        for _, first, second in pairs:
            if found := common_affixes(first, second):
                one, other, affixes = first, second, found[3:]
                break
        else:
            if not shared:
                return None
    examples = [[*folder.values()] for folder in (one, other)]
    endings = [{file.name.rpartition(".")[2] for file in some} for some in examples]
    if endings[0] == endings[1] and len(endings[0]) > 1:
        return None  # images and masks within each, as in a folder for each scene
    if _looks_like_masks(*examples):
        return examples[1][0], examples[0][0], affixes[::-1]
    return examples[0][0], examples[1][0], affixes


def _differ(one: dict[str, DataFile], other: dict[str, DataFile]) -> bool:
    """Return whether the first files are of different kinds, as images and masks often are."""
    first, second = (next(iter(files.values())).name for files in (one, other))
    return first.rpartition(".")[2] != second.rpartition(".")[2]


def _side_by_side(files: Sequence[DataFile]) -> Example | None:
    """Find what tells masks from images in one folder."""
    named, whole = (
        {composed(getattr(file, part)): file for file in files} for part in ("stem", "name")
    )
    if len(named) <= len(whole) / 2:  # `a.jpg` beside `a.png`
        named = whole
    found = common_affixes(named, named)
    if found is None or found[0] < min(len(named), _MOST_COMPARED) / 3:
        return None
    _, one, other, here, there = found
    if not any(there):  # what has something around is the mask, if nothing else tells
        one, other, here, there = other, one, there, here
    if _looks_like_masks([named[one]], [named[other]]):
        one, other, here, there = other, one, there, here
    return named[one], named[other], (here, there)


def _looks_like_masks(those: Sequence[DataFile], others: Sequence[DataFile]) -> bool:
    """Return whether the first files look more like masks than the others: they compress better."""

    def size(files: Sequence[DataFile]) -> tuple[bool, int]:
        some = files[:_OPENED]
        is_lossy = not all(file.name.lower().endswith(LABEL_SUFFIXES) for file in some)
        return is_lossy, sum(len(file.read_bytes()) for file in some) // len(some)

    return size(those) < size(others)
