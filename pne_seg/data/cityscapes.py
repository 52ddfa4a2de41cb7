"""Cityscapes: 19 classes of street scenes of 2048×1024 pixels."""

from pathlib import Path
from typing import Any, Literal

from pne_seg.data.classes import class_list
from pne_seg.data.file_datamodule import FileDataModule, find
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.paired_files import Pair, PairedDataset, match

HOME = "https://www.cityscapes-dataset.com/downloads/"
_STEPS = (
    f"The data set needs a login: register at {HOME}, get "
    "leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) and unpack both "
    "into one folder; or `pip install cityscapesscripts`, then `csDownload "
    "leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip`.\n  Give the folder as root."
)
_IMAGE = "_leftImg8bit"
_LABELS, _CONVERTED = "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
_FOLDERS = ("leftImg8bit", "gtFine")
_HIGHEST_ID = 33
_NO_CLASS = 255  # in converted labels; and how 8 bits hold the id −1 of license plates
_CLASSES = class_list("cityscapes")


class Cityscapes(FileDataModule):
    """Cityscapes with fine annotations: 2,975 images to train on and 500 to validate.

    Reads `*_gtFine_labelIds.png` as distributed, or `*_gtFine_labelTrainIds.png` if there are only
    these. Own, non-commercial terms. Cite Cordts et al., "The Cityscapes dataset for semantic
    urban scene understanding", CVPR 2016.

    Args:
        root: folder with `leftImg8bit/` and `gtFine/`.
        crop_size: height and width of training crops, in pixels.
        resize_base: width and height of the box that images are fitted to, see `FileDataModule`.
        eval_batch_size: images per step in evaluation.
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
            root, crop_size, resize_base=resize_base, eval_batch_size=eval_batch_size, **kwargs
        )
        self.test_split = test_split

    def pairs(self, split: str) -> PairedDataset:
        """Pair `leftImg8bit/train/CITY/NAME_leftImg8bit.png` with its labels in `gtFine/`."""
        folder = self.test_split if split == "test" else split
        tree = find(self.root, *_FOLDERS, get=_STEPS)
        images = tree.files(f"leftImg8bit/{folder}", (f"{_IMAGE}.png",))
        ending, labels = _LABELS, tree.files(f"gtFine/{folder}", (_LABELS,))
        label_format = IndexLabels(
            _CLASSES.labels,
            ignored={*range(_HIGHEST_ID + 1), _NO_CLASS} - set(_CLASSES.labels),
            hint=f"The ids of Cityscapes go up to {_HIGHEST_ID}: fetch gtFine_trainvaltest.zip "
            "again.",
        )
        if folder == "test":  # what lies in gtFine/test are dummies
            unlabeled = [Pair(file.stem, file, None) for file in images]
            return PairedDataset(unlabeled, label_format, HOME)
        if not labels:
            ending, labels = _CONVERTED, tree.files(f"gtFine/{folder}", (_CONVERTED,))
            label_format = IndexLabels(
                range(len(_CLASSES.names)), [_NO_CLASS], hint="Convert the labels again."
            )
        pairs = match(
            images,
            labels,
            f"Expected leftImg8bit/{folder}/CITY/NAME{_IMAGE}.png with "
            f"gtFine/{folder}/CITY/NAME{_LABELS}.",
            label_key=lambda file: file.name.removesuffix(ending) + _IMAGE,
        )
        return PairedDataset(pairs, label_format, HOME)

    def fetch(self) -> None:
        """Say how to get the data set by hand: it needs a login."""
        find(self.root, *_FOLDERS, get=f"Cityscapes cannot be downloaded automatically. {_STEPS}")
