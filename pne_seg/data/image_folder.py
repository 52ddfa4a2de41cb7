"""A folder of your own images and masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import Split
from pne_seg.data.classes import read_classes
from pne_seg.data.data_file import DataFile
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.folder_labels import label_format, polygon_classes
from pne_seg.data.layouts import SPLIT_FOLDERS, Place, files_of_both, folder_below, split_places
from pne_seg.data.pair_lists import choose, listed_names, read_pairs, split_off
from pne_seg.data.paired_files import Pair, PairedDataset, by_key, match
from pne_seg.data.partners import layout_error
from pne_seg.data.polygons import PolygonMasks
from pne_seg.data.polygons.json_files import no_masks
from pne_seg.data.sources import IMAGE_SUFFIXES, LABEL_SUFFIXES, Tree, open_tree, plain_path
from pne_seg.errors import DataError, Fix, UserError

_CLASS_FILES = ("classes.yaml", "classes.yml")


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
            file with one of these. By default `classes.yaml` in `root`, or else the labels of the
            polygons: COCO's by their ids, LabelMe's sorted.
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
        polygons: COCO's JSON file, or a folder of LabelMe's, below `root`, in place of masks; with
            `{split}` where there is one for each split. Masks are drawn once and kept.
        background: class of pixels in no polygon, the first one unless `classes` has it elsewhere;
            None leaves them without a class.
        ignore_labels: labels of polygons whose pixels have no class.
        drawn_masks: folder for the masks that are drawn; by default `NAME_drawn_masks` beside
            `root`, if that is called NAME.
        skip_unlabeled: whether images without a mask are left out; an error otherwise.
        ignore_values: values in the masks of pixels without a class.
        ignore_colors: the same in masks of colors.
        reduce_zero_label: whether the masks hold 0 for pixels without a class, 1 for the first
            class and so on.
        mask_tolerance: what a value, or each of red, green and blue, may differ by from those of
            `classes`; masks in JPEG and WebP files are then read too. Pixels that differ by more
            are ignored, an area of them is an error.
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
        polygons: str | None = None,
        background: str | None = "background",
        ignore_labels: Sequence[str] = ("__ignore__",),
        drawn_masks: Path | None = None,
        skip_unlabeled: bool = False,
        ignore_values: list[int] | None = None,
        ignore_colors: list[list[int]] | None = None,
        reduce_zero_label: bool = False,
        mask_tolerance: int = 0,
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
        images, masks = folder_below(self.root, images), folder_below(self.root, masks)
        self.images = Place(plain_path(images), image_prefix, image_suffix)
        endings = IMAGE_SUFFIXES if mask_tolerance else LABEL_SUFFIXES
        self.masks = Place(plain_path(masks), mask_prefix, mask_suffix, endings)
        if polygons is None and replace(self.masks, endings=self.images.endings) == self.images:
            raise ValueError(
                "images and masks in one folder need a mask_suffix or another prefix or suffix to "
                "tell them."
            )
        self.split_lists = split_lists
        self.pairs_csv = pairs_csv
        self.skip_unlabeled = skip_unlabeled
        self.fractions = {"val": val_fraction, "test": test_fraction}
        self.split_seed = split_seed
        self._pairs: dict[Split, list[Pair]] | None = None
        self.polygons: PolygonMasks | None = None
        if polygons is not None:
            self.polygons = PolygonMasks(self.root, polygons, drawn_masks)
            self.masks = self.polygons.place(self.images, mask_prefix, mask_suffix)
        file = self._class_file() if classes is None else classes
        if self.polygons is None:
            own = read_classes(str(self.root / _CLASS_FILES[0]) if file is None else file)
            self.label_format = label_format(
                own, ignore_values, ignore_colors, reduce_zero_label, mask_tolerance
            )
        else:
            if pairs_csv or ignore_values or ignore_colors or reduce_zero_label or mask_tolerance:
                raise ValueError(
                    "pairs_csv, ignore_values, ignore_colors, reduce_zero_label and mask_tolerance "
                    "are for masks: leave them out with polygons."
                )
            self._found = self._given_splits(self._tree())
            if not self.polygons.is_coco:
                self._found = self.polygons.of_labelme(self._found)
            own, self.label_format = polygon_classes(
                self.polygons.counts,
                None if file is None else read_classes(file),
                background,
                ignore_labels,
            )
        self.class_names = own.names
        self.palette = own.palette

    @property
    def display_name(self) -> str:
        """The folder's name."""
        return self.root.resolve().name.removesuffix(".zip") or super().display_name

    def pairs(self, split: Split) -> PairedDataset:
        """Return the split's images with their masks."""
        if self._pairs is None:
            self._pairs = self._all_pairs()
        return PairedDataset(self._pairs[split], self.label_format, home="")

    def _class_file(self) -> DataFile | None:
        places = [open_tree(self.root)] if self.root.is_dir() else []
        files = (place.file(name) for place in [*places, self._tree()] for name in _CLASS_FILES)
        return next((file for file in files if file is not None), None)

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
        looked_for = " and ".join(dict.fromkeys([images or "images", masks or "masks"]))
        raise layout_error(self.root, looked_for) or missing(
            self.root,
            looked_for,
            "Put the images into the one and the masks, under the images' names, into the other, "
            "or give other names of the two as images and masks. Images and masks side by side "
            'need images=".", masks="." and a mask_suffix such as _mask. COCO or LabelMe '
            "JSON needs polygons.",
        )

    def _all_pairs(self) -> dict[Split, list[Pair]]:
        if self.polygons is None:
            found = self._given_splits(self._tree())
        else:
            found = self._found
            self.polygons.draw()
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
                for split, pairs in read_pairs(tree, self.pairs_csv, self.masks.endings).items()
            }
        drawn: dict[Split | None, list[Pair]] = {}
        if self.polygons is not None and self.polygons.is_coco:
            drawn = self.polygons.of_coco(tree, self.images, self.split_lists is not None)
        if self.split_lists is not None:
            lists = listed_names(tree, self.split_lists)
            everything = {pair.name: pair for pairs in drawn.values() for pair in pairs}
            if not drawn:
                image_files, mask_files = files_of_both(tree, self.images, self.masks)
                masks = by_key(mask_files, self.masks.key)
                images = by_key(image_files, self.images.key)
                everything = {key: Pair(key, file, masks.get(key)) for key, file in images.items()}
            return {
                split: self._labeled(choose(everything, *names), split)
                for split, names in lists.items()
            }
        if drawn:
            labeled = {split: self._labeled(pairs, split) for split, pairs in drawn.items()}
            return {split: pairs for split, pairs in labeled.items() if pairs}
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
        apart = images.folder != masks.folder
        if not mask_files and apart and (error := no_masks(masks.files(tree, [""]), masks.folder)):
            raise error
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
            f"Expected {image}.jpg (or .png, …) with {mask}{masks.endings[0]}.",
            images.key,
            masks.key,
            lambda what: (images if what == "image" else masks).files(tree, [""]),
            settable=True,
        )

    def _split_off(self, found: dict[Split, list[Pair]], split: Split, total: int) -> None:
        """Move a share of `total` images from training to another split."""
        count = min(len(found["train"]), max(1, round(total * self.fractions[split])))
        found["train"], found[split] = split_off(found["train"], count, self.split_seed)
        rank_zero_info(
            f"{self.root}: {count} of {total} images are split off for {split}, "
            f"{len(found['train'])} stay for training (split_seed {self.split_seed})."
        )
