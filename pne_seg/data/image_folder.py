"""A folder of your own images and masks."""

import hashlib
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import Split
from pne_seg.data.classes import OwnClasses, read_classes
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.label_formats import ColorLabels, IndexLabels, LabelFormat
from pne_seg.data.paired_files import Pair, PairedDataset, match
from pne_seg.data.sources import DataFile, Tree, open_tree
from pne_seg.errors import UserError

_CLASS_FILES = ("classes.yaml", "classes.yml")
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_LOSSY = (".jpg", ".jpeg", ".webp")
_SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


class Folder(FileDataModule):
    """Images and masks of the same name, split by folders or by chance.

    Three layouts are read: `images/` and `masks/`, which are split by chance; the same with
    `train/`, `val/` and perhaps `test/` in both; and `train/`, `val/`, `test/` with `images/` and
    `masks/` in each. Sub-folders are kept in the names. Without images for `val`, some are split
    off the training images; without images for `test`, it is `val`.

    Args:
        root: folder or zip archive that holds them.
        classes: names in the order of class indices (the masks then hold 0, 1, …); or names with
            the value of each in the masks; or names with the color of each in the masks; or a YAML
            file with one of these. By default `classes.yaml` in `root`.
        images: name of the folder of images.
        masks: name of the folder of masks.
        mask_suffix: what the masks' names have after the images', such as `_mask`.
        ignore_values: values in the masks of pixels without a class.
        ignore_colors: the same in masks of colors.
        reduce_zero_label: whether the masks hold 0 for pixels without a class, 1 for the first
            class and so on.
        val_fraction: share of the images to validate on, if there are no folders for it.
        test_fraction: share of the images to test on; 0 tests on `val`.
        split_seed: of the split by chance, independent of `seed_everything`.
        crop_size: height and width of training crops, in pixels.
        **kwargs: the settings of `FileDataModule`.
    """

    def __init__(
        self,
        root: Path,
        classes: list[str] | dict[str, int | list[int]] | str | None = None,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        ignore_values: list[int] | None = None,
        ignore_colors: list[list[int]] | None = None,
        reduce_zero_label: bool = False,
        val_fraction: float = 0.2,
        test_fraction: float = 0.0,
        split_seed: int = 0,
        crop_size: tuple[int, int] = (512, 512),
        **kwargs: Any,
    ) -> None:
        super().__init__(root, crop_size, **kwargs)
        if not (val_fraction > 0 <= test_fraction and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} must be above 0, test_fraction {test_fraction} not "
                "below 0, and their sum below 1."
            )
        if images == masks and not mask_suffix:
            raise ValueError("images and masks in one folder need a mask_suffix to tell them.")
        self.images = images
        self.masks = masks
        self.mask_suffix = mask_suffix
        self.fractions = {"val": val_fraction, "test": test_fraction}
        self.split_seed = split_seed
        own = read_classes(self._class_file() if classes is None else classes)
        self.class_names = own.names
        self.palette = own.palette
        self.label_format = _label_format(own, ignore_values, ignore_colors, reduce_zero_label)
        self._pairs: dict[Split, list[Pair]] | None = None

    @property
    def display_name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name.removesuffix(".zip") or super().display_name

    def pairs(self, split: Split) -> PairedDataset:
        """Return the split's images with their masks."""
        if self._pairs is None:
            self._pairs = self._all_pairs()
        return PairedDataset(self._pairs[split], self.label_format, home="")

    def _class_file(self) -> DataFile | str:
        places = [open_tree(self.root)] if self.root.is_dir() else []
        for place in [*places, self._tree()]:
            for name in _CLASS_FILES:
                if (file := place.file(name)) is not None:
                    return file
        return str(self.root / _CLASS_FILES[0])  # whose reading says that it is missing

    def _tree(self) -> Tree:
        by_split = (
            [f"{written}/{self.images}"]
            for name in _SPLIT_NAMES["train"]
            for written in (name, name.capitalize(), name.upper())
        )
        tree = locate(self.root, [self.images, self.masks], *by_split)
        if tree is not None:
            return tree
        raise missing(
            self.root,
            f"{self.images} and {self.masks}",
            "Put the images into the one and the masks, under the images' names, into the other, "
            "or give other names of the two as images and masks.",
        )

    def _all_pairs(self) -> dict[Split, list[Pair]]:
        tree = self._tree()
        found: dict[Split, list[Pair]] = {}
        for split, (images, masks) in self._split_folders(tree).items():
            if split == "test" and not tree.has(masks):  # for prediction only
                files = tree.files(images)
                found[split] = [Pair(_key(file, images), file, None) for file in files]
            else:
                found[split] = self._matched(tree, images, masks)
        if "train" not in found:
            if found:
                raise UserError(
                    f"{tree} has folders for {', '.join(found)}, but none for train. Put the "
                    "training images and masks into folders of that name."
                )
            found["train"] = self._matched(tree, self.images, self.masks)
            total = len(found["train"])
            if self.fractions["test"]:
                self._split_off(found, "test", total)
            self._split_off(found, "val", total)
        elif "val" not in found:
            self._split_off(found, "val", len(found["train"]))
        found.setdefault("test", found["val"])
        return found

    def _split_folders(self, tree: Tree) -> dict[Split, tuple[str, str]]:
        """Find the folders of images and masks of each split, in upper or lower case."""
        names = {*tree.folders(self.images), *tree.folders(self.masks), *tree.folders()}
        found: dict[Split, tuple[str, str]] = {}
        for split, known in _SPLIT_NAMES.items():
            for name in sorted(name for name in names if name.lower() in known):
                for images, masks in (
                    (f"{self.images}/{name}", f"{self.masks}/{name}"),
                    (f"{name}/{self.images}", f"{name}/{self.masks}"),
                ):
                    if not (tree.has(images) or tree.has(masks)):
                        continue
                    if split in found:
                        raise UserError(
                            f"{tree}: {found[split][0]} and {images} are both of the {split} "
                            "split. Keep one of them."
                        )
                    found[split] = images, masks
        # Images and masks beside the splits' folders would be read by nothing.
        inside = tuple(f"{folder}/" for pair in found.values() for folder in pair)
        files = tree.files(self.images) + tree.files(self.masks) if found else []
        if loose := [file for file in files if not file.relative.startswith(inside)]:
            raise UserError(
                f"{loose[0]} belongs to no split ({len(loose)} such files in all), while there are "
                f"folders for {', '.join(found)}. Move it into one, or away."
            )
        return found

    def _matched(self, tree: Tree, images: str, masks: str) -> list[Pair]:
        image_files, mask_files = tree.files(images), tree.files(masks, _MASK_SUFFIXES)
        if images == masks:
            image_files = [file for file in image_files if not file.stem.endswith(self.mask_suffix)]
            mask_files = [file for file in mask_files if file.stem.endswith(self.mask_suffix)]
        if not mask_files and (lossy := tree.files(masks, _LOSSY)):
            raise UserError(
                f"{lossy[0]}: masks must be PNG, BMP or TIFF files; this format changes values as "
                "it compresses. Export them again as PNG."
            )
        return match(
            image_files,
            mask_files,
            f"Expected {images}/NAME.jpg (or .png, …) with {masks}/NAME{self.mask_suffix}.png.",
            lambda file: _key(file, images),
            lambda file: _key(file, masks).removesuffix(self.mask_suffix),
        )

    def _split_off(self, found: dict[Split, list[Pair]], split: Split, total: int) -> None:
        """Move a share of `total` images from training to another split, the same ones each time.

        An image that is added later leaves the others where they are, as far as the counts allow.
        """

        def draw(pair: Pair) -> bytes:
            text = f"{self.split_seed}/{pair.name}"
            return hashlib.blake2b(text.encode(), digest_size=8).digest()

        train = found["train"]
        count = min(len(train), max(1, round(total * self.fractions[split])))
        chosen = {pair.name for pair in sorted(train, key=draw)[:count]}
        found["train"] = [pair for pair in train if pair.name not in chosen]
        found[split] = [pair for pair in train if pair.name in chosen]
        rank_zero_info(
            f"{self.root}: {count} of {total} images are split off for {split}, "
            f"{len(found['train'])} stay for training (split_seed {self.split_seed})."
        )


def _label_format(
    own: OwnClasses,
    ignore_values: list[int] | None,
    ignore_colors: list[list[int]] | None,
    reduce_zero_label: bool,
) -> LabelFormat:
    if own.colors is not None:
        if ignore_values is not None or reduce_zero_label:
            raise ValueError(
                "ignore_values and reduce_zero_label are for masks of values; the classes have "
                "colors: use ignore_colors."
            )
        return ColorLabels(own.colors, [(r, g, b) for r, g, b in ignore_colors or []])
    if ignore_colors is not None:
        raise ValueError("ignore_colors needs a color for each class.")
    if reduce_zero_label and own.values is not None:
        raise ValueError("reduce_zero_label is for classes without values of their own.")
    values = own.values or tuple(range(reduce_zero_label, len(own.names) + reduce_zero_label))
    default = [255] if 255 not in values else []
    ignored = {*(default if ignore_values is None else ignore_values)}
    hint = "Correct the masks, add the missing class to classes, or the value to ignore_values."
    if reduce_zero_label:
        ignored.add(0)
    return IndexLabels(values, ignored, hint=hint)


def _key(file: DataFile, folder: str) -> str:
    """Return the file's path below `folder`, without its extension."""
    return file.relative.removeprefix(f"{folder}/").removesuffix(file.name) + file.stem
