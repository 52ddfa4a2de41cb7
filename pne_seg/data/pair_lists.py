"""Splits and pairs that text files list: names line by line, or a CSV of images and masks."""

import csv
import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.layouts import SPLIT_FOLDERS
from pne_seg.data.paired_files import Pair
from pne_seg.data.sources import LABEL_SUFFIXES, Tree, composed, open_tree
from pne_seg.errors import UserError
from pne_seg.files import expanded
from pne_seg.settings_files import decoded

_COLUMNS = {
    "image": ("image", "images", "image_path", "img", "img_path", "filename", "file_name"),
    "mask": ("mask", "masks", "mask_path", "label", "label_path", "annotation"),
    "split": ("split", "subset", "set"),
}


def listed_names(tree: Tree, folder: str) -> dict[Split, tuple[DataFile, list[str]]]:
    """Return for each split its list, `train.txt` and so on, with the names in it.

    Args:
        tree: the data set; paths in lists are below it.
        folder: path of the lists below it, or absolute.
    """
    root = tree
    if (elsewhere := Path(expanded(folder))).is_absolute() and elsewhere.is_dir():
        tree, folder = open_tree(elsewhere), ""
    if not tree.has(folder):
        raise UserError(f"{tree}: there is no folder {folder} of lists. Correct split_lists.")
    texts = {file.stem.lower(): file for file in tree.files(folder, (".txt",))}
    found: dict[Split, tuple[DataFile, list[str]]] = {}
    for split, known in SPLIT_FOLDERS.items():
        for file in (texts[name] for name in known if name in texts):
            if split in found:
                raise UserError(
                    f"{found[split][0]} and {file} both list the {split} split. Remove one."
                )
            lines = [
                _plain(line).removeprefix(f"{root}/").lstrip("/")
                for line in decoded(file.read_bytes(), str(file)).splitlines()
            ]
            found[split] = file, [line for line in lines if line]
    if not found:
        raise UserError(f"{tree}: {folder} holds no train.txt, val.txt or test.txt.")
    if {"train", "val"} <= found.keys() and (both := {*found["train"][1]} & {*found["val"][1]}):
        raise UserError(
            f"{found['train'][0]} and {found['val'][0]} both list {min(both)!r} ({len(both)} such "
            "names in all): the validation would be on images of the training. Remove it from one."
        )
    return found


def choose(pairs: Mapping[str, Pair], file: DataFile, names: Iterable[str]) -> list[Pair]:
    """Return the pairs that a list names, by their key, or by the image's path or name."""
    spelled: dict[str, str] = {}
    for key, pair in pairs.items():
        path = composed(pair.image.relative)
        folder, name = path.removesuffix(pair.image.name), pair.image.name
        for text in (pair.image.stem, name, f"{folder}{pair.image.stem}", path):
            # A name that several images have stands for none of them.
            spelled[text] = key if spelled.get(text, key) == key else ""
    spelled |= {key: key for key in pairs}
    chosen: dict[str, Pair] = {}
    for name in names:
        key = spelled.get(name, "")
        if not key:
            why = "several images are called" if name in spelled else "no image is called"
            raise UserError(
                f"{file} lists {name!r}, as {why}. Write the name of an image on each line; pairs "
                "of paths belong into a CSV file (pairs_csv)."
            )
        chosen[key] = pairs[key]
    return [chosen[key] for key in sorted(chosen)]


def read_pairs(
    tree: Tree, given: str, endings: tuple[str, ...] = LABEL_SUFFIXES
) -> dict[Split | None, list[Pair]]:
    """Read a CSV file with the columns image, mask and perhaps split; None stands for no split.

    Paths are below the data set's folder, beside the CSV file, or absolute.
    """
    table = tree.file(given) or open_file(Path(expanded(given)))
    lines = decoded(table.read_bytes(), str(table)).splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    head = lines[first] if lines else ""
    delimiter = max(",;\t", key=head.count)
    rows = csv.DictReader(lines[first:], delimiter=delimiter, skipinitialspace=True)
    columns: dict[str, str] = {}
    for name in rows.fieldnames or ():
        plain = "_".join(name.lower().split())
        for kind in (kind for kind, known in _COLUMNS.items() if plain in known):
            if kind in columns:
                raise UserError(
                    f"{table}: the columns {columns[kind]} and {name} could both be of the {kind}. "
                    "Rename or remove one."
                )
            columns[kind] = name
    if not {"image", "mask"} <= columns.keys():
        raise UserError(
            f"{table}: expected a first line such as image,mask,split, got {head!r}. Add the names "
            "of the columns; split may be left out."
        )
    beside = table.relative.rpartition("/")[0]
    found: dict[Split | None, dict[str, Pair]] = {}
    seen: dict[str, int] = {}
    for row in rows:
        line = first + rows.line_num
        image, mask, part = ((row.get(columns.get(kind, "")) or "").strip() for kind in _COLUMNS)
        if not image and not mask:
            continue
        split = _split(part, f"{table}, line {line}") if "split" in columns else None
        file, labels = (
            _file(tree, beside, path, f"{table}, line {line}") if path else None
            for path in (image, mask)
        )
        if file is None:
            raise UserError(f"{table}, line {line}: names no image.")
        if labels is not None and not labels.name.lower().endswith(endings):
            raise UserError(f"{labels}: masks must be PNG, BMP or TIFF files. Save it as PNG.")
        folders = [part for part in _plain(image).split("/")[:-1] if part not in ("", ".", "..")]
        name = "/".join([*folders, file.stem])
        if name in seen:
            raise UserError(
                f"{table}: lines {seen[name]} and {line} both name {image}. Remove one."
            )
        seen[name] = line
        found.setdefault(split, {})[name] = Pair(name, file, labels)
    if not found:
        raise UserError(f"{table}: has no rows below its first line. Add one for each image.")
    return {split: [pairs[name] for name in sorted(pairs)] for split, pairs in found.items()}


def split_off(pairs: Iterable[Pair], count: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Draw some pairs by their names, the same ones each time; return the others and these.

    A pair that is added later leaves the others where they are, as far as the counts allow.
    """

    def draw(pair: Pair) -> bytes:
        name = f"{seed}/{pair.name}".encode(errors="surrogateescape")  # names that are no UTF-8
        return hashlib.blake2b(name, digest_size=8).digest()

    pairs = list(pairs)
    chosen = {pair.name for pair in sorted(pairs, key=draw)[:count]}
    others = [pair for pair in pairs if pair.name not in chosen]
    return others, [pair for pair in pairs if pair.name in chosen]


def _split(text: str, where: str) -> Split:
    for split, known in SPLIT_FOLDERS.items():
        if text.lower() in known:
            return split
    raise UserError(f"{where}: split must be train, val or test, got {text!r}.")


def _file(tree: Tree, beside: str, path: str, where: str) -> DataFile:
    plain = _plain(path)
    for relative in (plain, posixpath.join(beside, plain)) if not plain.startswith("/") else ():
        if (file := tree.file(posixpath.normpath(relative))) is not None:
            return file
    if (elsewhere := Path(expanded(plain))).is_absolute() and elsewhere.exists():
        return open_file(elsewhere)
    raise UserError(f"{where}: there is no {path} in {tree}. Correct the path.")


def _plain(path: str) -> str:
    """Write a path as in a tree, whatever system wrote it."""
    plain = composed(path.strip()).replace("\\", "/")
    return plain.removeprefix("./")
