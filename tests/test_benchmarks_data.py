"""The pipelines that `benchmarks.data` compares do the same work."""

from pathlib import Path
from typing import Any, cast

import albumentations as A
import numpy as np
import pytest
from torch import Tensor

from benchmarks.data import usual_view
from benchmarks.mmseg_pipeline import MmsegEvaluation, MmsegSettings, MmsegTraining
from benchmarks.pictures import Case, write_files
from benchmarks.usual_pipeline import UsualDataset
from pne_seg.data import ADE20K
from pne_seg.data.samples import SampleKey, SampleView
from pne_seg.inference import IMAGENET_MEAN, IMAGENET_STD

CROP, BASE = (64, 96), (256, 80)
KEYS = [SampleKey(epoch, index) for epoch in range(12) for index in range(2)]


def _paths(split: str, number: int) -> tuple[str, str]:
    folder = {"train": "training", "val": "validation"}[split]
    return f"images/{folder}/{number}.jpg", f"annotations/{folder}/{number}.png"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ADE20K:
    root: Path = tmp_path_factory.mktemp("files")
    case = Case("small", ADE20K, "ade20k", (80, 110), 5000, 90, 0, _paths)
    write_files(root, case, number=2)
    return ADE20K(root, CROP, resize_base=BASE)


@pytest.fixture
def ours(data: ADE20K) -> list[dict[str, Any]]:
    view = SampleView(data.split("train"), A.Compose(data.default_transforms()), seed=3)
    return [view[key] for key in KEYS]


def _mmseg(data: ADE20K, normalized: bool) -> tuple[UsualDataset, MmsegSettings]:
    return UsualDataset(data.pairs("train")), MmsegSettings(CROP, BASE, True, normalized)


def test_the_usual_order_gives_the_same_samples(data: ADE20K, ours: list[dict[str, Any]]) -> None:
    view = usual_view(data, seed=3)
    for key, sample in zip(KEYS, ours, strict=True):
        other = view[key]
        assert (other["mask"] == sample["mask"]).all()
        assert _distance(other["image"], sample["image"]) < 1.5  # rounding before the colors


@pytest.mark.parametrize("normalized", [False, True])
def test_mmsegs_steps_give_the_same_samples(
    data: ADE20K, ours: list[dict[str, Any]], normalized: bool
) -> None:
    view = MmsegTraining(*_mmseg(data, normalized), seed=3)
    for key, sample in zip(KEYS, ours, strict=True):
        other = view[key]
        height, width = other["mask"].shape[1:]
        mask, image = sample["mask"][:height, :width], sample["image"][:, :height, :width]
        assert (other["mask"][0] == mask).all()
        pixels = other["image"].numpy()
        if normalized:
            scale = np.array([IMAGENET_MEAN, IMAGENET_STD], np.float32)[:, :, None, None]
            pixels = pixels * scale[1] + scale[0]
        else:
            pixels = pixels[::-1].astype(np.float32)  # BGR
        labeled = mask.numpy() != 255  # without the padding, which differs
        difference = np.abs(pixels - image.numpy())[:, labeled]
        assert difference.mean() < 3  # one trip to HSV for two, and their rounding


def test_mmsegs_validation_gives_the_same_images(data: ADE20K) -> None:
    ours = SampleView(data.split("val"), resize_base=BASE)
    view = MmsegEvaluation(*_mmseg(data, normalized=False))
    for index in range(2):
        sample, other = ours[index], view[SampleKey(0, index)]
        assert (other["image"].flip(0) == sample["image"]).all()
        assert (other["mask"][0] == sample["mask"]).all()


def _distance(one: Tensor, other: Tensor) -> float:
    return cast(float, (one.float() - other.float()).abs().mean().item())
