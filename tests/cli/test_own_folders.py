"""The two commands of README's "own data" on 24 photos in each form that people have them in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from PIL import Image

from pne_seg.cli import main
from pne_seg.data import CamVid, Scenes
from pne_seg.data.samples import SegmentationDataset
from tests.cli.commands import REPOSITORY, command

CAMVID_FOLDER = REPOSITORY.parent / "shared" / "camvid"
CONFIG = REPOSITORY / "configs" / "folder_upernet_resnet34.yaml"
SMALL = [
    *["--model.network.encoder_name", "resnet18", "--model.network.encoder_weights", "null"],
    *["--model.network.decoder_channels", "16", "--data.crop_size", "[64, 64]"],
    *["--data.batch_size", "4", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"],
    *["--trainer.limit_val_batches", "1", "--figures.num_images", "0", "--data.num_workers", "0"],
    *["--trainer.accelerator", "cpu"],
]
IGNORED = 255

Pixels = npt.NDArray[np.uint8]
Photos = dict[str, tuple[Pixels, Pixels]]
"""By name the image, (H, W, 3), and its labels, (H, W): class indices, 255 for none."""
Form = Callable[[Path, Photos], list[str]]
"""Writes the photos in one form, with `classes.yaml`, and returns the settings it needs."""


@pytest.fixture(scope="module")
def scenes() -> Photos:
    """24 street scenes of 240×180: CamVid's where they lie beside the checkout, or drawn ones."""
    real = CAMVID_FOLDER.is_dir()
    data = (
        CamVid(CAMVID_FOLDER, scale=0.5) if real else Scenes(train_size=24, height=180, width=240)
    )
    split: SegmentationDataset = data.split("train")
    found = {}
    for index in range(24):
        sample = split.read(index)
        labels = np.where(sample.labels == data.ignore_index, IGNORED, sample.labels)
        found[f"s{index:02}"] = (np.array(sample.image), labels.astype(np.uint8))
    return found


NAMES = list(CamVid.class_names)  # drawn scenes have the same
COLORS: list[list[int]] = [[20 * index, 255 - 20 * index, 7 * index] for index in range(len(NAMES))]


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> None:
    """Write an image file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def classes(root: Path, content: Any = NAMES) -> None:
    """Write `classes.yaml`."""
    (root / "classes.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def colored(labels: Pixels) -> Pixels:
    """The labels as colors; black where there is no class."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLORS)] = COLORS
    shown: Pixels = table[labels]
    return shown


def index_png(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for name, (image, labels) in scenes.items():
        save(root / "images" / f"{name}.jpg", image)
        save(root / "masks" / f"{name}.png", labels)
    return []


def color_coded(root: Path, scenes: Photos) -> list[str]:
    classes(root, dict(zip(NAMES, COLORS, strict=True)))
    for name, (image, labels) in scenes.items():
        save(root / "images" / f"{name}.jpg", image)
        save(root / "masks" / f"{name}.png", colored(labels))
    return ["--data.ignore_colors", "[[0, 0, 0]]"]


def zero_and_255(root: Path, scenes: Photos) -> list[str]:
    classes(root, {"other": 0, "road": 255})
    for name, (image, labels) in scenes.items():
        save(root / "images" / f"{name}.jpg", image)
        save(root / "masks" / f"{name}.png", np.where(labels == 3, 255, 0).astype(np.uint8))
    return []


def mask_suffix(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for name, (image, labels) in scenes.items():
        save(root / "images" / f"{name}.jpg", image)
        save(root / "masks" / f"{name}_mask.png", labels)
    return ["--data.mask_suffix", "_mask"]


def nested(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for index, (name, (image, labels)) in enumerate(scenes.items()):
        place = f"street{index % 3}/day{index % 2}/same" if index < 6 else f"street9/{name}"
        save(root / "images" / f"{place}{index}.jpg", image)
        save(root / "masks" / f"{place}{index}.png", labels)
    return []


def side_by_side(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for index, (name, (image, labels)) in enumerate(scenes.items()):
        split = "val" if index % 5 == 0 else "train"
        save(root / split / f"{name}.jpg", image)
        save(root / split / f"{name}_mask.png", labels)
    return ["--data.images", ".", "--data.masks", ".", "--data.mask_suffix", "_mask"]


def rgba_images(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for name, (image, labels) in scenes.items():
        alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
        save(root / "images" / f"{name}.png", np.concatenate([image, alpha], axis=2))
        save(root / "masks" / f"{name}.png", labels)
    return []


def twelve_bit_tiff(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for name, (image, labels) in scenes.items():
        (root / "images").mkdir(exist_ok=True)
        deep = image.astype(np.uint16) * 16 + image // 16
        assert cv2.imwrite(str(root / "images" / f"{name}.tif"), deep[..., ::-1])
        save(root / "masks" / f"{name}.png", labels)
    return []


def mixed_sizes(root: Path, scenes: Photos) -> list[str]:
    classes(root)
    for index, (name, (image, labels)) in enumerate(scenes.items()):
        rows, columns = 150 + index, 200 - 3 * index
        save(root / "images" / f"{name}.jpg", image[:rows, :columns])
        save(root / "masks" / f"{name}.png", labels[:rows, :columns])
    return []


FORMS: list[Form] = [index_png, color_coded, zero_and_255, mask_suffix, nested, side_by_side]
FORMS += [rgba_images, twelve_bit_tiff, mixed_sizes]


def expected(form: Form, labels: Pixels, index: int) -> Pixels:
    """The labels that the form still holds."""
    if form is zero_and_255:
        return np.where(labels == 3, np.uint8(1), np.uint8(0))
    if form is mixed_sizes:
        return labels[: 150 + index, : 200 - 3 * index]
    return labels


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_photos_in_each_form_are_checked_and_trained_on(
    form: Form, scenes: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mine"
    root.mkdir()
    settings = form(root, scenes)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    given = ["--data", "Folder", "--data.root", root, *settings]
    main(
        [
            "check-data",
            *map(str, given),
            "--json",
            "check.json",
            "--output",
            "null",
            "--processes",
            "1",
        ]
    )
    assert json.loads(Path("check.json").read_text())["errors"] == []

    done = command("fit", "--config", CONFIG, "--data.root", root, *settings, *SMALL)
    seen = {}
    for split in ("train", "val"):
        source = done.datamodule.split(split)
        for index in range(len(source)):
            sample = source.read(index)
            seen[source.name(index)] = np.array(sample.labels)
    assert len(seen) == 24
    assert len(list(Path("runs").glob("*/0/checkpoints/*.ckpt"))) >= 1
    for index, (name, labels) in enumerate(sorted(seen.items())):
        key = f"s{index:02}" if form is not nested else None
        wanted = (
            expected(form, scenes[key][1], index)
            if key
            else next(each for _, each in scenes.values() if np.array_equal(each, labels))
        )
        np.testing.assert_array_equal(labels, wanted, err_msg=name)
    assert {path: path.read_bytes() for path in before} == before
