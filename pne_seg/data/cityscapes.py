"""Cityscapes: 19 classes of street scenes of 2048×1024 pixels."""

from pathlib import Path
from typing import Any, Literal

from pne_seg.data.base import Split
from pne_seg.data.classes import class_list
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.labels import IGNORE, IndexLabels, LabelTable
from pne_seg.data.pairs import Pair, PairedDataset, match
from pne_seg.data.sources import DataFile, Tree
from pne_seg.errors import UserError

HOME = "https://www.cityscapes-dataset.com/downloads/"
_STEPS = (
    f"The data set needs a login of its own: register at {HOME}, get "
    "leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) and unpack both "
    "into one folder; or `pip install cityscapesscripts`, then `csDownload "
    "leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip`.\n  Give the folder with --data.root."
)
_IMAGE, _LABELS = "_leftImg8bit", "_gtFine"
_AS_DISTRIBUTED, _CONVERTED = "_labelIds.png", "_labelTrainIds.png"
_HIGHEST_ID = 33
_CLASSES = class_list("cityscapes")


class Cityscapes(FileDataModule):
    """Cityscapes with fine annotations: 2,975 images to train on and 500 to validate.

    Reads `*_gtFine_labelIds.png` as distributed, or `*_gtFine_labelTrainIds.png` where only these
    are there. Own, non-commercial terms. Cite Cordts et al., "The Cityscapes dataset for semantic
    urban scene understanding", CVPR 2016.

    Args:
        root: folder with `leftImg8bit/` and `gtFine/`.
        crop_size: height and width of training crops, in pixels.
        resize_base: width and height of the box that images are fitted to, see `FileDataModule`.
        eval_batch_size: images a step in evaluation.
        test_split: what `test` and `predict` take: the validation images, or the 1,525 test images,
            which can be predicted but not scored, as their labels are not public.
        **kwargs: the settings of `FileDataModule`.
    """

    class_names = _CLASSES.names
    palette = _CLASSES.palette

    def __init__(
        self,
        root: Path = Path("data/cityscapes"),
        crop_size: tuple[int, int] = (512, 1024),
        resize_base: tuple[int, int] | None = (2048, 1024),
        eval_batch_size: int = 4,
        test_split: Literal["val", "test"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root,
            crop_size,
            resize_base=resize_base,
            eval_batch_size=eval_batch_size,
            **kwargs,
        )
        self.test_split: Split = test_split

    def pairs(self, split: Split) -> PairedDataset:
        """`leftImg8bit/train/CITY/NAME_leftImg8bit.png` with its labels in `gtFine/`."""
        folder = self.test_split if split == "test" else split
        tree = self._tree()
        image_files = _ending(tree.files(f"leftImg8bit/{folder}", (".png",)), f"{_IMAGE}.png")
        if folder == "test":  # what lies in gtFine/test are dummies
            unlabelled = [Pair(file.stem, file, None) for file in image_files]
            return PairedDataset(unlabelled, IndexLabels(_TABLE), HOME)
        annotations = tree.files(f"gtFine/{folder}", (".png",))
        ending, table = _LABELS + _AS_DISTRIBUTED, _TABLE
        label_files = _ending(annotations, ending)
        if not label_files:
            ending, table = _LABELS + _CONVERTED, _CONVERTED_TABLE
            label_files = _ending(annotations, ending)
        found = match(
            image_files,
            label_files,
            lambda file: file.stem,
            lambda file: file.name.removesuffix(ending) + _IMAGE,
            f"Expected leftImg8bit/{folder}/CITY/NAME{_IMAGE}.png with "
            f"gtFine/{folder}/CITY/NAME{_LABELS}{_AS_DISTRIBUTED}.",
        )
        return PairedDataset(found, IndexLabels(table), HOME)

    def fetch(self) -> None:
        """Say how to get the data set by hand: it needs a login."""
        if locate(self.root, _WANTED) is None:
            raise UserError(f"Cityscapes cannot be downloaded by --data.download true. {_STEPS}")

    def _tree(self) -> Tree:
        tree = locate(self.root, _WANTED)
        if tree is None:
            raise missing(self.root, "leftImg8bit and gtFine", _STEPS)
        return tree


_WANTED = ("leftImg8bit", "gtFine")

# 255 is how 8 bits hold the id −1 of licence plates.
_TABLE = LabelTable.of_values(
    _CLASSES.labels,
    ignored={*range(_HIGHEST_ID + 1), IGNORE} - set(_CLASSES.labels),
    hint=f"The ids of Cityscapes go up to {_HIGHEST_ID}: fetch gtFine_trainvaltest.zip again.",
)
_CONVERTED_TABLE = LabelTable.of_values(
    range(len(_CLASSES.names)), ignored=[IGNORE], hint="Convert the labels again."
)


def _ending(files: list[DataFile], suffix: str) -> list[DataFile]:
    return [file for file in files if file.name.endswith(suffix)]
