"""Where images and masks lie and which belong together: patterns of folders and of names."""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from pne_seg.data.base import Split
from pne_seg.data.data_file import DataFile
from pne_seg.data.sources import (
    IMAGE_SUFFIXES,
    Tree,
    composed,
    plain_path,
)
from pne_seg.errors import UserError

SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev", "eval"),
    "test": ("test", "testing"),
}
LAYOUTS = (
    ("{images}/{split}", "{masks}/{split}"),
    ("{split}/{images}", "{split}/{masks}"),  # one folder for both where these are "."
)
"""Where the images and the masks of a split lie, if `images` and `masks` have no `{split}`."""
WHOLE = ("{images}", "{masks}")
"""Where those of no split lie; of a split, if `images` and `masks` have `{split}`."""


@dataclass(frozen=True)
class Place:
    """The files of one kind, images or masks: their folder, and what their names have around.

    Args:
        folder: path below the tree's root; `*` stands for any one folder, or in `day_*` for a part
            of its name, which becomes part of the key, and `{split}` for that of a split.
        prefix: what the files' names begin with, before what images and masks have in common.
        suffix: what they end with, such as `_mask`, or `_mask.png` with the extension.
        endings: extensions of such files, in lower case.
    """

    folder: str
    prefix: str = ""
    suffix: str = ""
    endings: tuple[str, ...] = IMAGE_SUFFIXES

    @property
    def parts(self) -> list[str]:
        """The folders of the path."""
        return self.folder.split("/") if self.folder else []

    @property
    def affixed(self) -> bool:
        """Whether the files' names have something of their own."""
        return bool(self.prefix or self.suffix)

    def within(self, pattern: str, **names: str) -> "Place":
        """Return the place that a pattern of `LAYOUTS` gives."""
        for name, text in names.items():  # not `format`: names of folders may have braces
            pattern = pattern.replace(f"{{{name}}}", text)
        return replace(self, folder=plain_path(pattern))

    def folders(self, tree: Tree) -> list[str]:
        """Return the folders that there are of it; one, or any number for a `*`."""
        found = [""]
        for part in self.parts:
            found = [
                f"{folder}/{name}".removeprefix("/")
                for folder in found
                for name in (
                    filter(_star(part).fullmatch, tree.folders(folder)) if "*" in part else [part]
                )
            ]
        return [tree.spelled_path(folder) for folder in found if tree.has(folder)]

    def exists(self, tree: Tree) -> bool:
        """Return whether there is such a folder, or a file of that name."""
        return bool(self.folders(tree)) or tree.file(self.folder) is not None

    def files(self, tree: Tree, suffixes: Collection[str] | None = None) -> list[DataFile]:
        """Return the files in its folders and below them, whatever their names have around.

        They have its `endings`, or others that are given as `suffixes`.
        """
        suffixes = self.endings if suffixes is None else suffixes
        return [file for folder in self.folders(tree) for file in tree.files(folder, suffixes)]

    def inner(self, file: DataFile) -> str | None:
        """Return the file's name without prefix, suffix and extension; None if it lacks them."""
        for name in (file.stem, file.name):
            if (
                name.startswith(self.prefix)
                and name.endswith(self.suffix)
                and len(name) > len(self.prefix) + len(self.suffix)
            ):
                return name[len(self.prefix) : len(name) - len(self.suffix)]
        return None

    def key(self, file: DataFile) -> str:
        """Return what an image and its mask have in common: folders and name, in one Unicode form.

        A file that lacks prefix or suffix goes by its whole name.
        """
        name = file.stem
        if self.affixed:
            name = self.inner(file) or name
        if "*" not in self.folder:
            depth = self.folder.count("/") + bool(self.folder)
            below = file.relative.split("/", depth)[depth]
            return composed(below[: len(below) - len(file.name)] + name)
        folders = file.relative.split("/")[:-1]
        parts = self.folder.split("/")
        stars = [
            text
            for folder, part in zip(folders, parts, strict=False)
            if "*" in part and (found := _star(part).fullmatch(folder))
            for text in found.groups()
        ]
        return composed("/".join([*stars, *folders[len(parts) :], name]))


def _star(part: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, part.split("*"))), re.DOTALL)


def folder_below(root: Path, given: str) -> str:
    """Return an absolute path to a folder as a path below `root`; anything else as it is."""
    if "**" in given:
        raise ValueError(f"{given}: ** is not read. Write one * for each folder on the way.")
    path = Path(given)
    if not path.is_absolute() or not path.is_dir():
        return given
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"{given} lies outside of root {root}. Give a path below root, or another root that "
            "holds both."
        )
    return path.resolve().relative_to(root.resolve()).as_posix()


def split_places(tree: Tree, images: Place, masks: Place) -> dict[Split, tuple[Place, Place]]:
    """Find the places of images and masks of each split, in upper or lower case.

    What belongs to no split, beside those that are there, is an error: nothing would read it.
    """
    layouts = (WHOLE,) if "{split}" in images.folder + masks.folder else LAYOUTS
    if layouts is not LAYOUTS and not all("{split}" in at.folder for at in (images, masks)):
        raise UserError(
            f"{tree}: {{split}} is in only one of {images.folder} and {masks.folder}. Write it in "
            "both, or in none."
        )
    names = {
        written
        for known in SPLIT_FOLDERS.values()
        for name in known
        for written in (name, name.capitalize(), name.upper())
    }
    if layouts is LAYOUTS:
        tops = ["", *images.folders(tree), *masks.folders(tree)]
        names &= {name for top in tops for name in tree.folders(top)}
    found: dict[Split, tuple[Place, Place]] = {}
    for split, known in SPLIT_FOLDERS.items():
        for name in sorted(name for name in names if name.lower() in known):
            for pattern in layouts:
                fill = {"images": images.folder, "masks": masks.folder, "split": name}
                places = images.within(pattern[0], **fill), masks.within(pattern[1], **fill)
                if not any(place.exists(tree) for place in places):
                    continue
                if found.setdefault(split, places) != places:
                    raise UserError(
                        f"{tree}: {found[split][0].folder} and {places[0].folder} are both of the "
                        f"{split} split. Keep one of them."
                    )
    known_names = {name for known in SPLIT_FOLDERS.values() for name in known}
    for name in tree.folders() if found and layouts is LAYOUTS and images.folder else ():
        inner = [f"{name}/{place.folder}" for place in (images, masks)]
        if name.lower() not in known_names and all(map(tree.has, inner)):
            raise UserError(
                f"{tree}: {name} holds {images.folder} and {masks.folder} but is no split, while "
                f"there are folders for {', '.join(found)}. Rename it to train, val or test, or "
                "move it away."
            )
    inside = tuple(
        f"{folder}/" for pair in found.values() for place in pair for folder in place.folders(tree)
    )
    files = [file for place in (images, masks) for file in place.files(tree)] if found else []
    if loose := [file for file in files if not file.relative.startswith(inside)]:
        raise UserError(
            f"{loose[0]} belongs to no split ({len(loose)} such files in all), while there are "
            f"folders for {', '.join(found)}. Move it into one, or away."
        )
    return found


def files_of_both(tree: Tree, images: Place, masks: Place) -> tuple[list[DataFile], list[DataFile]]:
    """Return the files of images and of masks, also where the one folder holds the other's.

    In one folder for both the names tell them apart: a mask has the masks' prefix and suffix, or
    lacks the images'. What is no mask is an image, so that nothing is left out.
    """
    image_files, mask_files = images.files(tree), masks.files(tree)
    if not {*images.endings} & {*masks.endings}:  # the extension tells them apart
        return image_files, mask_files
    if images.folder == masks.folder:
        if masks.affixed:
            kept = {file for file in mask_files if masks.inner(file) is not None}
        else:
            kept = {file for file in mask_files if images.inner(file) is None}
        mask_files = [file for file in mask_files if file in kept]
        return [file for file in image_files if file not in kept], mask_files
    above = tuple(f"{folder}/" for folder in images.folders(tree) if folder)
    below = tuple(f"{folder}/" for folder in masks.folders(tree) if folder)
    if below and (not above or any(folder.startswith(above) for folder in below)):
        image_files = [file for file in image_files if not file.relative.startswith(below)]
    if above and (not below or any(folder.startswith(below) for folder in above)):
        mask_files = [file for file in mask_files if not file.relative.startswith(above)]
    return image_files, mask_files
