"""A folder of your own images and masks."""

import hashlib
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import Split
from pne_seg.data.classes import OwnClasses, read_classes
from pne_seg.data.data_file import DataFile
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.label_formats import ColorLabels, IndexLabels, LabelFormat
from pne_seg.data.layouts import SPLIT_FOLDERS, Place, files_of_both, split_places
from pne_seg.data.pair_lists import choose, listed_names, read_pairs
from pne_seg.data.paired_files import Pair, PairedDataset, by_key, match
from pne_seg.data.partners import layout_error
from pne_seg.data.sources import Tree, open_tree, plain_path
from pne_seg.errors import DataError, Fix, UserError

_CLASS_FILES = ("classes.yaml", "classes.yml")
_LOSSY = (".jpg", ".jpeg", ".webp")


class Folder(FileDataModule):
    """Images and masks of the same name, split by folders, by lists or by chance.

    Three layouts are read: `images/` and `masks/`, which are split by chance; the same with
    `train/`, `val/` and perhaps `test/` in both; and `train/`, `val/`, `test/` with `images/` and
    `masks/` in each, or, where both are ".", with images and masks side by side. Sub-folders are
    kept in the names. Without images for `val`, some are split off the training images; without
    images for `test`, it is `val`.

    Args:
        root: folder or zip archive that holds them.
        classes: names in the order of class indices (the masks then hold 0, 1, …); or names with
            the value of each in the masks; or names with the color of each in the masks; or a YAML
            file with one of these. By default `classes.yaml` in `root`.
        images: folder of images, below `root`. `*` stands for any one folder, and `{split}` for
            `train`, `val` or `test`, such as in `{split}2017`.
        masks: folder of masks; may be the one of the images.
        image_prefix: what the images' names have before what they share with the masks'.
        image_suffix: what they have after it, such as `_sat` or `_sat.jpg`.
        mask_prefix: the same of the masks' names.
        mask_suffix: the same, such as `_mask`.
        split_lists: folder of `train.txt`, `val.txt` and perhaps `test.txt`, which have the name of
            an image on each line; other images are left out.
        pairs_csv: CSV file with the columns image and mask, paths below `root`, and perhaps split;
            in place of all of the above.
        skip_unlabeled: whether images without a mask are left out; an error otherwise.
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
        image_prefix: str = "",
        image_suffix: str = "",
        mask_prefix: str = "",
        mask_suffix: str = "",
        split_lists: str | None = None,
        pairs_csv: str | None = None,
        skip_unlabeled: bool = False,
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
        self.images = Place(plain_path(images), image_prefix, image_suffix)
        self.masks = Place(plain_path(masks), mask_prefix, mask_suffix)
        if self.images == self.masks:
            raise ValueError(
                "images and masks in one folder need a mask_suffix or another prefix or suffix to "
                "tell them."
            )
        self.split_lists = split_lists
        self.pairs_csv = pairs_csv
        self.skip_unlabeled = skip_unlabeled
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
        images, masks = self.images.folder, self.masks.folder
        if self.pairs_csv is not None or "*" in images + masks or "{split}" in images + masks:
            return open_tree(self.root)
        by_split = [
            [plain_path(f"{written}/{images}")]
            for name in SPLIT_FOLDERS["train"]
            for written in (name, name.capitalize(), name.upper())
        ]
        tree = locate(self.root, *([[images, masks]] if images else []), *by_split)
        if tree is None and not images:  # "." is there in any case
            tree = locate(self.root, [images, masks])
        if tree is not None:
            return tree
        looked_for = f"{images or 'images'} and {masks or 'masks'}"
        raise layout_error(self.root, looked_for) or missing(
            self.root,
            looked_for,
            "Put the images into the one and the masks, under the images' names, into the other, "
            "or give other names of the two as images and masks. Images and masks side by side "
            'need images=".", masks="." and a mask_suffix such as _mask.',
        )

    def _all_pairs(self) -> dict[Split, list[Pair]]:
        found = self._given_splits(self._tree())
        if "train" not in found and None not in found:
            raise UserError(
                f"{self.root} has {', '.join(map(str, found))}, but nothing for train. Add a "
                "folder or a list of that name."
            )
        splits: dict[Split, list[Pair]] = {
            split: pairs for split, pairs in found.items() if split is not None
        }
        if None in found:
            splits["train"] = found[None]
            if self.fractions["test"]:
                self._split_off(splits, "test", len(found[None]))
        if "val" not in splits:
            total = len(found[None]) if None in found else len(splits["train"])
            self._split_off(splits, "val", total)
        splits.setdefault("test", splits["val"])
        return splits

    def _given_splits(self, tree: Tree) -> dict[Split | None, list[Pair]]:
        """Return the pairs by split, as folders, lists or the CSV give them; of None without."""
        if self.pairs_csv is not None:
            return {
                split: self._labeled(pairs, split)
                for split, pairs in read_pairs(tree, self.pairs_csv).items()
            }
        if self.split_lists is not None:
            lists = listed_names(tree, self.split_lists)
            image_files, mask_files = files_of_both(tree, self.images, self.masks)
            masks = by_key(mask_files, self.masks.key)
            images = by_key(image_files, self.images.key)
            everything = {key: Pair(key, file, masks.get(key)) for key, file in images.items()}
            return {
                split: self._labeled(choose(everything, *names), split)
                for split, names in lists.items()
            }
        places = split_places(tree, self.images, self.masks)
        if not places:
            return {None: self._matched(tree, self.images, self.masks)}
        return {split: self._matched(tree, *both, split) for split, both in places.items()}

    def _labeled(self, pairs: list[Pair], split: Split | None) -> list[Pair]:
        """Refuse or leave out images without masks, except where a test split has none at all."""
        alone = [pair for pair in pairs if pair.labels is None]
        if not alone or (split == "test" and len(alone) == len(pairs)):  # for prediction only
            return pairs
        if not self.skip_unlabeled:
            raise DataError(
                f"{alone[0].image} has no labels ({len(alone)} such files in all). Add the masks",
                [Fix("to leave such images out", {"skip_unlabeled": True})],
                [str(pair.image) for pair in alone],
            )
        rank_zero_info(
            f"{self.root}: {len(alone)} of {len(pairs)} images of "
            f"{split or 'the data set'} have no mask and are left out (skip_unlabeled)."
        )
        return [pair for pair in pairs if pair.labels is not None]

    def _matched(
        self, tree: Tree, images: Place, masks: Place, split: Split | None = None
    ) -> list[Pair]:
        image_files, mask_files = files_of_both(tree, images, masks)
        if (
            not mask_files
            and (lossy := masks.files(tree, _LOSSY))
            and images.folder != masks.folder
        ):
            raise UserError(
                f"{lossy[0]}: masks must be PNG, BMP or TIFF files; this format changes values as "
                "it compresses. Export them again as PNG."
            )
        if (split == "test" and not mask_files) or self.skip_unlabeled:
            labels = by_key(mask_files, masks.key)
            pairs = [
                Pair(key, image, labels.get(key))
                for key, image in by_key(image_files, images.key).items()
            ]
            pairs = self._labeled(pairs, split)
            if not mask_files:
                return pairs
            image_files = [pair.image for pair in pairs]
        image, mask = (
            plain_path(f"{place.folder}/{place.prefix}NAME{place.suffix}")
            for place in (images, masks)
        )
        return match(
            image_files,
            mask_files,
            f"Expected {image}.jpg (or .png, …) with {mask}.png.",
            images.key,
            masks.key,
            lambda what: (images if what == "image" else masks).files(tree, [""]),
            settable=True,
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
    hint = "Correct the masks, or add the missing class to classes."
    if reduce_zero_label:
        ignored.add(0)
    takes = ["ignore_values"]
    if own.values is None and not reduce_zero_label:
        takes.append("reduce_zero_label")
    return IndexLabels(values, ignored, hint=hint, takes=takes)
