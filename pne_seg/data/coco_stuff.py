"""COCO-Stuff: 171 classes of things and stuff, in the versions of 164,000 and 10,000 images."""

from pathlib import Path
from typing import Any, Literal

from pne_seg.data.classes import class_list
from pne_seg.data.data_file import DataFile
from pne_seg.data.download import RemoteFile, fetch, fetch_archive
from pne_seg.data.file_datamodule import FileDataModule, find, locate, missing
from pne_seg.data.label_formats import IGNORE, IndexLabels, LabelFormat
from pne_seg.data.mat import MatLabels
from pne_seg.data.paired_files import PairedDataset, match
from pne_seg.data.sources import Tree
from pne_seg.errors import UserError
from pne_seg.files import expanded

HOME = "https://github.com/nightrome/cocostuff"
HOME_10K = "https://github.com/nightrome/cocostuff10k"
_CLASSES = class_list("coco_stuff")
_CONVERTED = "_labelTrainIds"
_HIGHEST_ID = 181

# Dropped ids are ignored: the published files hold none.
LABELS_164K = IndexLabels(
    _CLASSES.labels,
    ignored={*range(_HIGHEST_ID + 1), IGNORE} - set(_CLASSES.labels),
    hint=f"The ids of COCO-Stuff 164k go up to {_HIGHEST_ID}: fetch its pixel maps again.",
)
_VALUES_10K = [label + 1 for label in _CLASSES.labels]
LABELS_10K = IndexLabels(
    _VALUES_10K,
    ignored=set(range(_HIGHEST_ID + 2)) - set(_VALUES_10K),
    hint=f"The ids of COCO-Stuff 10k go up to {_HIGHEST_ID + 1}: fetch its annotations again.",
)
# As mmsegmentation's scripts convert them: 164k to class indices, 10k to one more, 0 for no class.
LABELS_164K_CONVERTED = IndexLabels(
    range(len(_CLASSES.names)), [IGNORE], hint="Convert the labels again."
)
LABELS_10K_CONVERTED = IndexLabels(
    range(1, len(_CLASSES.names) + 1), [0, IGNORE], hint="Convert the labels again."
)

_SERVER = "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset"
_PIXEL_MAPS = "stuffthingmaps_trainval2017.zip"
_ARCHIVES_164K = {
    "train2017.zip": RemoteFile(
        "http://images.cocodataset.org/zips/train2017.zip",
        size=19_336_861_798,
        hash="sha256:69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    "val2017.zip": RemoteFile(
        "http://images.cocodataset.org/zips/val2017.zip",
        size=815_585_330,
        hash="sha256:4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
    _PIXEL_MAPS: RemoteFile(f"{_SERVER}/{_PIXEL_MAPS}"),  # no hash of it is published
}
_ARCHIVE_10K = RemoteFile(f"{_SERVER}/cocostuff-10k-v1.1.zip")  # nor of this


class COCOStuff(FileDataModule):
    """COCO-Stuff with 171 classes, as 164k (118,287 / 5,000 images) or as 10k (9,000 / 1,000).

    "COCO-Stuff" in most papers on this subject is the 10k version; both have the same classes. The
    test split is the validation split (of 10k: what its list calls test). Annotations CC BY 4.0,
    images under Flickr's terms. Cite Caesar et al., "COCO-Stuff: thing and stuff classes in
    context", CVPR 2018.

    Args:
        version: `164k` or `10k`.
        root: folder of the data set; by default `data/coco_stuff164k` or `data/coco_stuff10k`.
            164k: `images/` and `annotations/` with `train2017/` and `val2017/` in each, or the
            archives `train2017.zip`, `val2017.zip` and `stuffthingmaps_trainval2017.zip`, which are
            read in place. 10k: `images/`, `annotations/` with `.mat` files and `imageLists/`.
        crop_size: height and width of training crops, in pixels.
        resize_base: width and height of the box that images are fitted to, see `FileDataModule`.
        eval_batch_size: images per step in evaluation, if their sizes agree.
        label_cache: folder for the labels of 10k as PNG files, which are faster to read than
            `.mat`; written as they are read. None writes none.
        **kwargs: the settings of `FileDataModule`.
    """

    class_names = _CLASSES.names
    palette = _CLASSES.palette

    def __init__(
        self,
        version: Literal["164k", "10k"] = "164k",
        root: Path | None = None,
        crop_size: tuple[int, int] = (512, 512),
        resize_base: tuple[int, int] | None = (2048, 512),
        eval_batch_size: int = 4,
        label_cache: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            Path(f"data/coco_stuff{version}") if root is None else root,
            crop_size,
            resize_base=resize_base,
            eval_batch_size=eval_batch_size,
            **kwargs,
        )
        if label_cache is not None and version != "10k":
            raise ValueError("label_cache is for the .mat files of version 10k.")
        self.version = version
        self.label_cache = label_cache and Path(expanded(str(label_cache)))

    def pairs(self, split: str) -> PairedDataset:
        """Pair images with the pixel maps or `.mat` files of the same name."""
        if self.version == "10k":
            return self._pairs_10k("train" if split == "train" else "test")
        folder = "train2017" if split == "train" else "val2017"
        images = self._tree("images", folder).files("")
        annotations = self._tree("annotations", folder)
        labels, label_format = _labels(annotations, "", LABELS_164K, LABELS_164K_CONVERTED)
        expected = f"images/{folder}/NAME.jpg with annotations/{folder}/NAME.png"
        return _paired(images, labels, label_format, expected, HOME)

    def fetch(self) -> None:
        """Download the archives; those of 164k are left as they are and read in place."""
        if self.version == "10k":
            if locate(self.root, ["annotations", "images"]) is None:
                fetch_archive(_ARCHIVE_10K, self.root)
            return
        for kind in ("images", "annotations"):
            for folder in ("train2017", "val2017"):
                if self._look(kind, folder) is None:
                    fetch(_ARCHIVES_164K[_archive(kind, folder)], self.root)

    def _look(self, kind: str, folder: str) -> Tree | None:
        """Find `images/train2017`, say, as a folder or in the archive that is distributed."""
        if (tree := locate(self.root, [f"{kind}/{folder}"])) is not None:
            return tree.within(f"{kind}/{folder}")
        for place in (self.root, self.root / kind):
            archive = place / _archive(kind, folder)
            if archive.is_file() and (tree := locate(archive, [folder])) is not None:
                return tree.within(folder)
        return None

    def _tree(self, kind: str, folder: str) -> Tree:
        tree = self._look(kind, folder)
        if tree is not None:
            return tree
        raise missing(
            self.root,
            f"{kind}/{folder} (or {_archive(kind, folder)})",
            "Get train2017.zip and val2017.zip (19 GB, https://cocodataset.org/#download) and "
            f"{_PIXEL_MAPS} (0.7 GB, {HOME}) into it, zipped or not, give another place as root, "
            "or set download to true.",
        )

    def _pairs_10k(self, split: str) -> PairedDataset:
        get = (
            f"Get cocostuff-10k-v1.1.zip (2 GB, {HOME_10K}) and unpack it there, give its place as "
            "root, or set download to true."
        )
        tree = find(self.root, "images", "annotations", get=get)
        converted = f"annotations/{split}2014"
        label_format: LabelFormat
        if tree.has(converted):  # as mmsegmentation converts it
            images = tree.files(f"images/{split}2014")
            labels, label_format = _labels(tree, converted, LABELS_10K, LABELS_10K_CONVERTED)
        else:
            file = tree.file(f"imageLists/{split}.txt")
            if file is None:
                raise UserError(
                    f"{tree} holds no imageLists/{split}.txt, which lists the images of the split. "
                    f"Fetch it again from {HOME_10K}."
                )
            names = set(file.read_bytes().decode().split())
            images = [file for file in tree.files("images") if file.stem in names]
            labels = [file for file in tree.files("annotations", (".mat",)) if file.stem in names]
            label_format = MatLabels(LABELS_10K, self.label_cache)
            if lost := names - {file.stem for file in [*images, *labels]}:
                raise UserError(
                    f"{tree}: imageLists/{split}.txt names {min(lost)}, which is neither in images "
                    f"nor in annotations ({len(lost)} such names). Fetch it again from {HOME_10K}."
                )
        expected = "images/NAME.jpg with annotations/NAME.mat"
        return _paired(images, labels, label_format, expected, HOME_10K)


def _archive(kind: str, folder: str) -> str:
    return f"{folder}.zip" if kind == "images" else _PIXEL_MAPS


def _labels(
    tree: Tree, folder: str, as_distributed: IndexLabels, converted: IndexLabels
) -> tuple[list[DataFile], IndexLabels]:
    """Return the label files as distributed, or converted ones if there are only these."""
    files = tree.files(folder, (".png",))
    distributed = [file for file in files if not file.stem.endswith(_CONVERTED)]
    return (distributed, as_distributed) if distributed else (files, converted)


def _paired(
    images: list[DataFile], labels: list[DataFile], form: LabelFormat, expected: str, home: str
) -> PairedDataset:
    pairs = match(
        images,
        labels,
        f"Expected {expected}; see {home}.",
        label_key=lambda file: file.stem.removesuffix(_CONVERTED),
    )
    return PairedDataset(pairs, form, home)
