"""The datamodule of data sets that are files: where they lie, the usual augmentation, the cache."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import albumentations as A
from torch.utils.data import DataLoader

from pne_seg.data.archives import exclusive
from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.cache import CachedDataset
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.data.sources import Tree, open_tree
from pne_seg.data.transforms import train_transforms
from pne_seg.errors import UserError
from pne_seg.files import expanded


class FileDataModule(SegmentationDataModule):
    """Images and labels in files, trained on crops of randomly scaled images.

    Args:
        root: folder of the data set, or a zip archive of it, which is read in place.
        crop_size: height and width of training crops, in pixels.
        scale_range: random factor on the size in training, drawn evenly.
        resize_base: width and height of the box that images are fitted to, ratio kept, before
            `scale_range` in training and as they are in evaluation; None leaves their own size.
            Metrics are at the labels' own size.
        cat_max_ratio: no class takes more of the labeled pixels of a crop, in up to ten tries.
        download: whether to fetch what is missing, where the data set's terms allow it.
        cache: folder for decoded images, from which training reads crops without decoding; shared
            by runs and processes. None decodes each time.
        **kwargs: the settings of `SegmentationDataModule`.
    """

    def __init__(
        self,
        root: Path,
        crop_size: tuple[int, int] = (512, 512),
        scale_range: tuple[float, float] = (0.5, 2.0),
        resize_base: tuple[int, int] | None = None,
        cat_max_ratio: float = 0.75,
        download: bool = False,
        cache: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = _spelled(Path(expanded(str(root))))
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.resize_base = resize_base
        self.cat_max_ratio = cat_max_ratio
        self.download = download
        self.cache = None if cache is None else Path(expanded(str(cache)))
        self.default_transforms()  # refuses settings out of range

    @abstractmethod
    def pairs(self, split: Split) -> PairedDataset:
        """Find the split's files; a `UserError` names what is missing or does not match."""

    def fetch(self) -> None:
        """Download what is missing; a `UserError` says why it cannot be, and the steps by hand."""
        raise UserError(
            f"{type(self).__name__} cannot be downloaded: put the files into {self.root} yourself "
            "and leave download out."
        )

    def dataset(self, split: Split) -> SegmentationDataset:
        """Return the split's files, through the cache in training."""
        found = self.pairs(split)
        if self.cache is not None and split == "train":
            return CachedDataset(found, self.cache)
        return found

    def prepare_data(self) -> None:
        """Download what is missing if `download` is set; other processes wait."""
        if not self.download:
            return
        place = self.root.absolute()
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(place.with_name(f".{place.name}.lock"), "fetches the data set"):
                self.fetch()
        except OSError as error:
            raise UserError(
                f"{place.parent} cannot be written ({error.strerror}). Leave download out if the "
                "data set is in place, or choose another root."
            ) from error

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled, augmented batches; what the cache lacks is decoded first."""
        train = self.split("train")
        if isinstance(train, CachedDataset):
            train.fill()
        return super().train_dataloader()

    def default_transforms(self) -> list[A.BasicTransform]:
        """Scale, crop, flip, distort the colors and pad, as the published baselines do."""
        return train_transforms(
            self.crop_size,
            self.resize_base,
            self.scale_range,
            self.cat_max_ratio,
            ignore_index=self.ignore_index,
        )

    def training_size(self) -> tuple[int, int]:
        """Return height and width of a training image after augmentation, in pixels."""
        return self.crop_size if self.transforms is None else super().training_size()


def find(root: Path, *folders: str, get: str, archives: Sequence[str] = ()) -> Tree:
    """Open the tree that holds all of these folders, as `locate` finds it; name what is missing.

    `get` says in the error message how to get the data set.
    """
    tree = locate(root, folders, archives=archives)
    if tree is not None:
        return tree
    absent = [folder for folder in folders if locate(root, [folder], archives=archives) is None]
    looked_for = " and ".join(absent or folders) + ("" if absent else " in one folder")
    raise missing(root, looked_for, get)


def locate(root: Path, *layouts: Sequence[str], archives: Sequence[str] = ()) -> Tree | None:
    """Find the tree of one of the layouts, each a list of folders that must all be there.

    It is `root`, what lies one level below, or an archive: one of `archives` in `root`, or one of
    its own name beside it.
    """

    def holds(tree: Tree) -> bool:
        return any(all(tree.has(folder) for folder in layout) for layout in layouts)

    name = root.absolute().name  # of `.` too
    beside = [root.absolute().with_name(f"{name}.zip")] if name else []
    for path in [root, *(root / name for name in archives), *beside]:
        if not path.is_dir() and not (path.suffix.lower() == ".zip" and path.is_file()):
            continue
        tree = open_tree(path)
        if holds(tree):
            return tree
        below = [place for name in tree.folders() if holds(place := tree.within(name))]
        if len(below) > 1:
            names = ", ".join(map(str, below[:8]))
            raise UserError(f"{root} holds several data sets: {names}. Give one of them as root.")
        if below:
            return below[0]
    return None


def _spelled(root: Path) -> Path:
    """Return the root in the Unicode form that it has on the disk; refuse an address."""
    if re.match(r"[A-Za-z]\w+:/", str(root)):
        raise UserError(f"root must be a folder or a zip archive, got the address {root}.")
    if str(root).isascii() or root.exists():
        return root
    top = Path(root.anchor or ".")
    return top / Tree(top).spelled_path(root.relative_to(root.anchor).as_posix())


def missing(root: Path, looked_for: str, fix: str) -> UserError:
    """Return the error of a data set that is not where it should be."""
    if not root.exists():
        found = "there is no such folder"
    elif root.is_dir():
        names = sorted(path.name for path in root.iterdir())[:8]
        found = f"it holds {', '.join(names)}" if names else "it is empty"
    else:
        found = "it is a file"
    return UserError(f"{root} does not hold {looked_for}: {found}.\n  {fix}")
