"""Which images and masks are meant to belong together, by their names: settings to advise."""

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from pne_seg.data.data_file import DataFile
from pne_seg.data.layouts import SPLIT_FOLDERS
from pne_seg.data.sources import IMAGE_SUFFIXES, LABEL_SUFFIXES, Tree, composed, open_tree
from pne_seg.errors import DataError, Fix

_SEPARATORS = "_-. "
_MOST_COMPARED = 100  # names that a hint is looked for in
_LOOKED_AT = 2000  # files of a tree
_OPENED = 3  # files of a folder, to tell images and masks


def nearest_partner(
    alone: Sequence[str], file: DataFile, others: Sequence[DataFile], what: str, settable: bool
) -> tuple[str, list[Fix]]:
    """Describe what could be meant as the partner of the first key, and why it is not taken."""
    name = alone[0].rpartition("/")[2]
    for other in others:
        if other == file or composed(other.stem).casefold() != name.casefold():
            continue
        kind = other.name.rpartition(".")[2]
        if not other.name.lower().endswith(IMAGE_SUFFIXES if what == "image" else LABEL_SUFFIXES):
            why = f"{what} cannot be {kind.upper()} files: save as PNG."
            return f"{other} lies there, but {why}", []
        if composed(other.stem) != name:
            return f"{other} lies there: upper and lower case must agree.", []
        return f"{other} lies there, in another folder: sub-folders must agree.", []
    if not settable:
        return "", []
    names = {composed(other.stem): other for other in others if other != file}
    keys = [key.rpartition("/")[2] for key in alone[:_MOST_COMPARED]]
    found = common_affixes(name, keys, names)
    if found is None:
        return "", []
    near, here, there = found
    kinds = ("mask", "image") if what == "image" else ("image", "mask")
    arguments = {
        f"{kind}_{side}": text
        for kind, affixes in zip(kinds, (here, there), strict=True)
        for side, text in zip(("prefix", "suffix"), affixes, strict=True)
        if text
    }
    return f"{names[near]} lies there", [Fix("if they belong together", arguments)]


Affixes = tuple[str, str]
"""What a name has before and after something in common with another."""


def common_affixes(
    name: str, keys: Sequence[str], names: Collection[str]
) -> tuple[str, Affixes, Affixes] | None:
    """Find what sets the names of images and masks apart, from the names themselves.

    Returns the partner of `name`, with what `keys` and `names` have around; of all possible, that
    which pairs the most keys. None if there is none.
    """
    best: tuple[int, str, Affixes, Affixes] | None = None
    known = {*names}
    for other in [*names][:_MOST_COMPARED]:
        for here, there, splits_a_word in _affixes(name, other):
            cores = (_without(key, here) for key in keys)
            count = sum(core is not None and there[0] + core + there[1] in known for core in cores)
            # A part of a word, such as the `r` of `car` beside `cat`, only if it explains all.
            if count > (best[0] if best else 0) and not (
                splits_a_word and count < max(2, len(keys))
            ):
                best = count, other, here, there
    return best[1:] if best else None


def _affixes(here: str, there: str) -> Iterator[tuple[Affixes, Affixes, bool]]:
    """Yield what two names could have around something in common, and whether it splits a word."""
    first, last = (
        posixpath.commonprefix([here, there]),
        posixpath.commonprefix([here[::-1], there[::-1]])[::-1],
    )
    for common, at_end in ((first.rstrip(_SEPARATORS), True), (last.lstrip(_SEPARATORS), False)):
        if not common:
            continue
        rests = [
            name[len(common) :] if at_end else name[: len(name) - len(common)]
            for name in (here, there)
        ]
        edges = [rest[0 if at_end else -1] for rest in rests if rest]
        is_whole = all(
            edge in _SEPARATORS or common[-1 if at_end else 0].isdigit() for edge in edges
        )
        one, other = (("", rest) if at_end else (rest, "") for rest in rests)
        yield one, other, not is_whole


def _without(name: str, affixes: tuple[str, str]) -> str | None:
    prefix, suffix = affixes
    if name.startswith(prefix) and name.endswith(suffix):
        return name[len(prefix) : len(name) - len(suffix)]
    return None


def layout_error(root: Path, looked_for: str) -> DataError | None:
    """Return the error of images and masks in folders of other names, or side by side in one.

    None if nothing pairs, or is not found at all.
    """
    if not root.exists() or (found := _layout(open_tree(root))) is None:
        return None
    return DataError(f"{root} does not hold {looked_for}. {found[0]}", [found[1]])


def _layout(tree: Tree) -> tuple[str, Fix] | None:
    """Return what lies where, and the arguments of `Folder`."""
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    kinds: dict[str, dict[str, DataFile]] = defaultdict(dict)  # by folder, then by the name in it
    files = tree.files("", IMAGE_SUFFIXES)[:_LOOKED_AT]
    paths = {
        file: [part for part in file.relative.split("/")[:-1] if part.lower() not in splits]
        for file in files
    }
    above = (
        posixpath.commonpath(["/".join(path) or "." for path in paths.values()]) if paths else ""
    )
    depth = len([part for part in above.split("/") if part not in ("", ".")])
    for file, path in paths.items():
        folder, inner = "/".join(path[: depth + 1]), "/".join([*path[depth + 1 :], file.name])
        kinds[folder][inner] = file
    if len(kinds) == 1:
        ((folder, beside),) = kinds.items()
        return _side_by_side(folder, beside)
    pairs = (
        (len(_stems(kinds[one]) & _stems(kinds[other])), one, other)
        for one in kinds
        for other in kinds
        if one < other
    )
    shared, one, other = max(pairs, default=(0, "", ""))
    affixes: tuple[Affixes, Affixes] = ("", ""), ("", "")
    if shared < 2 and (found := _affixed(kinds)):
        one, other, affixes = found
    elif not shared:
        return None
    if _looks_like_masks(kinds[one].values(), kinds[other].values()):
        one, other, affixes = other, one, affixes[::-1]
    image, mask = (next(iter(kinds[name].values())) for name in (one, other))
    arguments = {"images": one or ".", "masks": other or ".", **_arguments(*affixes)}
    return f"{image} and {mask} lie there", _meant(arguments)


def _meant(arguments: Mapping[str, str]) -> Fix:
    usual = {"images": "images", "masks": "masks"}
    chosen = {name: text for name, text in arguments.items() if usual.get(name) != text}
    return Fix("if these are image and mask", chosen or dict(arguments))


def _arguments(image: Affixes, mask: Affixes) -> dict[str, str]:
    return {
        f"{kind}_{side}": text
        for kind, affixes in (("image", image), ("mask", mask))
        for side, text in zip(("prefix", "suffix"), affixes, strict=True)
        if text
    }


def _stems(files: Iterable[str]) -> set[str]:
    return {composed(name.rpartition(".")[0]) for name in files}


def _affixed(
    kinds: Mapping[str, Mapping[str, DataFile]],
) -> tuple[str, str, tuple[Affixes, Affixes]] | None:
    """Find two folders whose names pair but for something before or after."""
    for one in kinds:
        for other in kinds:
            names = [*_stems(kinds[one])][:_MOST_COMPARED]
            if one < other and (found := common_affixes(names[0], names, _stems(kinds[other]))):
                return one, other, found[1:]
    return None


def _side_by_side(folder: str, files: Mapping[str, DataFile]) -> tuple[str, Fix] | None:
    """Find what tells masks from images in one folder."""
    place = {"images": folder or ".", "masks": folder or "."}
    names = [composed(name) for name in files]
    stems = [name.rpartition(".")[0] for name in names]
    if len(set(stems)) <= len(stems) / 2:  # `a.jpg` beside `a.png`
        endings = sorted({name.rpartition(".")[2] for name in names})
        labels = [kind for kind in endings if f".{kind.lower()}" in LABEL_SUFFIXES]
        if len(endings) != 2 or not labels:
            return None
        of = {kind: [files[name] for name in files if name.endswith(kind)] for kind in endings}
        first, second = endings
        mask = labels[0] if len(labels) == 1 else second
        if len(labels) == 2 and not _looks_like_masks(of[second], of[first]):
            mask = first
        other = first if mask == second else second
        said = f"{of[other][0]} and {of[mask][0]} lie there"
        return said, _meant({**place, "mask_suffix": f".{mask}"})
    best: tuple[int, str, str, Affixes, Affixes] | None = None
    known = {stem.rpartition("/")[2] for stem in stems}
    ordered, by_ends = sorted(known), sorted(known, key=lambda name: name[::-1])
    tried: set[tuple[Affixes, Affixes]] = set()
    for one, other in [*pairwise(ordered), *pairwise(by_ends)]:
        for here, there, splits_a_word in _affixes(one, other):
            if splits_a_word or here == there or (here, there) in tried:
                continue
            tried.add((here, there))
            cores = [core for name in known if (core := _without(name, here)) is not None]
            count = sum(there[0] + core + there[1] in known for core in cores)
            if count > (best[0] if best else 0):
                best = count, one, other, here, there
    if best is None or best[0] < len(known) / 3:
        return None
    _, one, other, here, there = best
    of_name = {composed(file.stem): file for file in files.values()}
    image, mask_file = of_name[one], of_name[other]
    if (any(here) and any(there) and _looks_like_masks([image], [mask_file])) or not any(there):
        here, there, image, mask_file = there, here, mask_file, image
    return (
        f"{image} and {mask_file} lie there",
        _meant({**place, **_arguments(here, there)}),
    )


def _looks_like_masks(those: Iterable[DataFile], others: Iterable[DataFile]) -> bool:
    """Return whether the first files look more like masks than the others: they compress better."""

    def sizes(files: Iterable[DataFile]) -> tuple[bool, int]:
        some = [*files][:_OPENED]
        is_lossy = not all(file.name.lower().endswith(LABEL_SUFFIXES) for file in some)
        return is_lossy, sum(len(file.read_bytes()) for file in some) // max(1, len(some))

    return sizes(those) < sizes(others)
