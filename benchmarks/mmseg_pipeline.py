"""The steps that mmsegmentation's configurations take, written from its behavior.

As there: BGR by OpenCV, labels by Pillow, the whole image scaled, classes counted by `np.unique`,
each photometric part by itself in float32, two trips to HSV, labels as int64. 0.x normalizes and
pads in the pipeline; 1.x does so on the device. Left out: registry, dictionaries, meta data,
copies of them, and `labelTrainIds`: values are taken as they are, which saves time.
Sources: `datasets/pipelines` (0.30) and `datasets/transforms` (1.2) of mmsegmentation, `image` of
mmcv.
"""

import io
import random
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.usual_pipeline import UsualDataset, decode
from pne_seg.data.images import Pixels, fitted_size
from pne_seg.data.samples import SampleKey, sample_seed
from pne_seg.data.transforms import PhotometricDistortion
from pne_seg.inference import IMAGENET_MEAN, IMAGENET_STD

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MmsegSettings:
    """What a configuration says.

    Attributes:
        size: height and width of the crop.
        base: width and height of the box.
        zero_is_no_class: `reduce_zero_label`.
        normalized: whether the pipeline normalizes and pads, as 0.x.
    """

    size: tuple[int, int]
    base: tuple[int, int]
    zero_is_no_class: bool
    normalized: bool


class MmsegTraining(Dataset[dict[str, Tensor]]):
    """Training samples; scale, window, flip and colors are drawn as `train_transforms` draws them.

    Args:
        source: whose files are read.
        settings: of the configuration.
        seed: of the augmentation.
    """

    def __init__(self, source: UsualDataset, settings: MmsegSettings, seed: int) -> None:
        self.source = source
        self.settings = settings
        self.seed = seed
        self.colors = PhotometricDistortion()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """`image` (3, h, w), `mask` (1, h, w)."""
        dice = random.Random(sample_seed(self.seed, key.epoch, key.index))
        dice.random()  # albumentations' pipelines draw whether they run at all
        settings = self.settings
        image = decode(self.source.image_file(key.index), cv2.IMREAD_COLOR_BGR)
        labels = read_labels(self.source, key.index, settings.zero_is_no_class)
        scaled = fitted_size(image.shape[:2], settings.base, dice.uniform(0.5, 2.0))
        image = _resized(image, scaled, cv2.INTER_LINEAR)
        labels = _resized(labels, scaled, cv2.INTER_NEAREST)
        image, labels = _crop(image, labels, settings.size, dice)
        if dice.random() < 0.5:
            image, labels = np.flip(image, 1), np.flip(labels, 1).copy()
        self.colors.set_random_state(np.random.default_rng(0), dice)
        image = distort(image, **self.colors.get_params())
        if not settings.normalized:
            return _tensors(image, labels)
        beyond = 0, settings.size[0] - labels.shape[0], 0, settings.size[1] - labels.shape[1]
        padded = cv2.copyMakeBorder(normalize(image), *beyond, cv2.BORDER_CONSTANT, value=0)
        labels = cast(Pixels, cv2.copyMakeBorder(labels, *beyond, cv2.BORDER_CONSTANT, value=255))
        return _tensors(padded, labels)


class MmsegEvaluation(Dataset[dict[str, Tensor]]):
    """Whole images for validation, fitted to the box.

    Args:
        source: whose files are read.
        settings: of the configuration.
    """

    def __init__(self, source: UsualDataset, settings: MmsegSettings) -> None:
        self.source = source
        self.settings = settings

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        """`image` (3, h, w), `mask` (1, H, W)."""
        image = decode(self.source.image_file(key.index), cv2.IMREAD_COLOR_BGR)
        scaled = fitted_size(image.shape[:2], self.settings.base)
        image = _resized(image, scaled, cv2.INTER_LINEAR)
        labels = read_labels(self.source, key.index, self.settings.zero_is_no_class)
        return _tensors(normalize(image) if self.settings.normalized else image, labels)


def read_labels(source: UsualDataset, index: int, zero_is_no_class: bool) -> Pixels:
    """(H, W); with `zero_is_no_class`, 0 becomes 255 and the others one less."""
    content = source.label_file(index).read_bytes()
    labels = np.array(Image.open(io.BytesIO(content))).squeeze().astype(np.uint8)
    if zero_is_no_class:
        labels[labels == 0] = 255
        labels = labels - 1
        labels[labels == 254] = 255
    return labels


def distort(
    image: Pixels,
    added: float | None,
    contrast: float | None,
    saturation: float | None,
    turn: int | None,
    contrast_first: bool,
) -> Pixels:
    """Brightness, contrast, saturation and hue of a BGR image, a part at a time."""
    if added is not None:
        image = _converted(image, 1, added)
    if contrast is not None and contrast_first:
        image = _converted(image, contrast, 0)
    if saturation is not None:
        hsv = cast(Pixels, cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        hsv[:, :, 1] = _converted(hsv[:, :, 1], saturation, 0)
        image = cast(Pixels, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    if turn is not None:
        hsv = cast(Pixels, cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + turn) % 180
        image = cast(Pixels, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR))
    if contrast is not None and not contrast_first:
        image = _converted(image, contrast, 0)
    return image


def normalize(image: Pixels) -> Floats:
    """(H, W, 3) BGR to RGB of mean 0 and standard deviation 1."""
    values = image.copy().astype(np.float32)
    cv2.cvtColor(values, cv2.COLOR_BGR2RGB, values)
    cv2.subtract(values, np.array([IMAGENET_MEAN], np.float64), values)
    cv2.multiply(values, 1 / np.array([IMAGENET_STD], np.float64), values)
    return values


def _converted(values: Pixels, factor: float, added: float) -> Pixels:
    result: Pixels = np.clip(values.astype(np.float32) * factor + added, 0, 255).astype(np.uint8)
    return result


def _crop(
    image: Pixels, labels: Pixels, size: tuple[int, int], dice: random.Random
) -> tuple[Pixels, Pixels]:
    window = _draw(labels, size, dice)
    for _ in range(10):
        values, counts = np.unique(labels[window], return_counts=True)
        counts = counts[values != 255]
        if len(counts) > 1 and np.max(counts) / np.sum(counts) < 0.75:
            break
        window = _draw(labels, size, dice)
    return image[window], labels[window]


def _draw(labels: Pixels, size: tuple[int, int], dice: random.Random) -> tuple[slice, slice]:
    top = dice.randint(0, max(labels.shape[0] - size[0], 0))
    left = dice.randint(0, max(labels.shape[1] - size[1], 0))
    return slice(top, top + size[0]), slice(left, left + size[1])


def _resized(values: Pixels, size: tuple[int, int], method: int) -> Pixels:
    return cast(Pixels, cv2.resize(values, size[::-1], interpolation=method))


def _tensors(image: npt.NDArray[Any], labels: Pixels) -> dict[str, Tensor]:
    return {
        "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        "mask": torch.from_numpy(labels[None].astype(np.int64)),
    }
