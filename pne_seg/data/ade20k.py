"""ADE20K: 150 classes of scenes, in the form of the scene parsing benchmark of 2016."""

from pathlib import Path
from typing import Any

from pne_seg.data.archives import extract
from pne_seg.data.base import Split
from pne_seg.data.classes import class_list
from pne_seg.data.download import RemoteFile, fetch
from pne_seg.data.file_datamodule import FileDataModule, locate, missing
from pne_seg.data.images import IMAGE_SUFFIXES
from pne_seg.data.labels import IndexLabels, LabelTable
from pne_seg.data.pairs import PairedDataset, match
from pne_seg.data.sources import DataFile, Tree
from pne_seg.errors import UserError

HOME = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_ARCHIVE = RemoteFile(HOME, md5="7328b3957e407ddae1d3cbf487f149ef")
_TOP = "ADEChallengeData2016"
_FOLDERS: dict[Split, str] = {"train": "training", "val": "validation", "test": "validation"}
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
        eval_batch_size: images a step in evaluation, where their sizes agree.
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

    def pairs(self, split: Split) -> PairedDataset:
        """`images/training/NAME.jpg` with `annotations/training/NAME.png`, or `validation`."""
        tree, folder = self._tree(), _FOLDERS[split]
        files = tree.files(f"images/{folder}", IMAGE_SUFFIXES)
        labels = tree.files(f"annotations/{folder}", (".png",))
        found = match(
            files,
            labels,
            _stem,
            _stem,
            f"Expected images/{folder}/NAME.jpg with annotations/{folder}/NAME.png, as in {HOME}.",
        )
        table = LabelTable.of_values(
            _CLASSES.labels,
            ignored=[0],
            hint="The files of the benchmark hold 0 to 150; converted ones do not fit: unpack "
            "ADEChallengeData2016.zip again.",
        )
        return PairedDataset(found, IndexLabels(table), HOME)

    def fetch(self) -> None:
        """Download and unpack the archive of the benchmark."""
        if locate(self.root, _WANTED, archives=[f"{_TOP}.zip"]) is None:
            archive = fetch(_ARCHIVE, self.root.parent)
            extract(archive, self.root, only=f"{_TOP}/")

    def _tree(self) -> Tree:
        tree = locate(self.root, _WANTED, archives=[f"{_TOP}.zip"])
        if tree is not None:
            return tree
        get = (
            f"Get {HOME} (1 GB) and unpack it there, give its place with --data.root, or add "
            "--data.download true."
        )
        if self.root.is_dir() and _is_full_package(self.root):
            raise UserError(
                f"{self.root} is the full ADE20K, whose *_seg.png files have 3 channels and other "
                f"classes; the benchmark of 150 classes is another package.\n  {get}"
            )
        raise missing(self.root, "images/training and annotations/training", get)


_WANTED = ("images/training", "annotations/training")


def _stem(file: DataFile) -> str:
    return file.stem


def _is_full_package(root: Path) -> bool:
    """Whether the folder, or one below it, is the full data set in place of the benchmark's."""
    signs = ("index_ade20k.pkl", "index_ade20k.mat", "images/ADE")
    around = [root, *(path for path in root.iterdir() if path.is_dir())]
    # The older release has the benchmark's folders, with the labels beside the images.
    return any((place / sign).exists() for place in around for sign in signs) or any(
        next(place.glob("images/training/**/*_seg.png"), None) is not None for place in around
    )
