"""ADE20K: 150 classes of scenes, in the form of the scene parsing benchmark of 2016."""

from pathlib import Path
from typing import Any

from pne_seg.data.classes import class_list
from pne_seg.data.download import RemoteFile, fetch_archive
from pne_seg.data.file_datamodule import FileDataModule, find, locate
from pne_seg.data.paired_files import PairedDataset, match

HOME = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_ARCHIVE = RemoteFile(HOME, hash="md5:7328b3957e407ddae1d3cbf487f149ef")
_TOP = "ADEChallengeData2016"
_FOLDERS = ("images/training", "annotations/training")
_CLASSES = class_list("ade20k")


class ADE20K(FileDataModule):
    """ADE20K with 150 classes: 20,210 images to train on and 2,000 to validate.

    The test split is the validation split: the labels of the real one are not public. For
    non-commercial research. Cite Zhou et al., "Scene parsing through ADE20K dataset", CVPR 2017.

    Args:
        root: folder `ADEChallengeData2016`, with `images/` and `annotations/`, the folder around
            it, or `ADEChallengeData2016.zip`, which is read in place.
        crop_size: height and width of training crops, in pixels.
        resize_base: width and height of the box that images are fitted to, see `FileDataModule`.
        eval_batch_size: images per step in evaluation, if their sizes agree.
        **kwargs: the settings of `FileDataModule`.
    """

    class_names = _CLASSES.names
    palette = _CLASSES.palette

    def __init__(
        self,
        root: Path = Path("data/ADEChallengeData2016"),
        crop_size: tuple[int, int] = (512, 512),
        resize_base: tuple[int, int] | None = (2048, 512),
        eval_batch_size: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            root, crop_size, resize_base=resize_base, eval_batch_size=eval_batch_size, **kwargs
        )

    def pairs(self, split: str) -> PairedDataset:
        """Pair `images/training/NAME.jpg` with `annotations/training/NAME.png`, or `validation`."""
        folder = "training" if split == "train" else "validation"
        get = (
            f"Get {HOME} (1 GB) and unpack it there, give its place as root, or set download to "
            "true."
        )
        if self.root.is_dir() and _is_full_package(self.root):
            get = (
                "It is the full ADE20K, whose *_seg.png files have 3 channels and other classes; "
                f"the benchmark of 150 classes is another package.\n  {get}"
            )
        tree = find(self.root, *_FOLDERS, get=get, archives=[f"{_TOP}.zip"])
        pairs = match(
            tree.files(f"images/{folder}"),
            tree.files(f"annotations/{folder}", (".png",)),
            f"Expected images/{folder}/NAME.jpg with annotations/{folder}/NAME.png, as in {HOME}.",
        )
        label_format = _CLASSES.label_format(
            ignored=[0],
            hint="The files of the benchmark hold 0 to 150; converted ones do not fit: unpack "
            f"{_TOP}.zip again.",
        )
        return PairedDataset(pairs, label_format, HOME)

    def fetch(self) -> None:
        """Download and unpack the archive of the benchmark."""
        if locate(self.root, _FOLDERS, archives=[f"{_TOP}.zip"]) is None:
            fetch_archive(_ARCHIVE, self.root, only=f"{_TOP}/")


def _is_full_package(root: Path) -> bool:
    """Return whether the folder, or one below it, is the full data set, not the benchmark's."""
    # The older release has the benchmark's folders, with the labels beside the images.
    signs = ("index_ade20k.*", "images/ADE", "images/training/**/*_seg.png")
    around = [root, *(path for path in root.iterdir() if path.is_dir())]
    return any(next(place.glob(sign), None) is not None for place in around for sign in signs)
