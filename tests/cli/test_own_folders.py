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
from tests.cli.commands import REPOSITORY, command, refused

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
FINER = 4

FAR_COLORS = [[r, g, b] for r in (0, 128, 255) for g in (0, 128, 255) for b in (0, 255)][1:12]
"""Far enough apart for lossy compression."""

Polygon = list[list[float]]  # x and y of each point
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


def colored(labels: Pixels, colors: list[list[int]]) -> Pixels:
    """The labels as colors; black where there is no class."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
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
        save(root / "masks" / f"{name}.png", colored(labels, COLORS))
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
        place = f"street{index % 3}/day{index % 2}/{name}"
        save(root / "images" / f"{place}.jpg", image)
        save(root / "masks" / f"{place}.png", labels)
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


def outlines(labels: Pixels) -> list[tuple[int, Polygon]]:
    """The areas of each class as polygons, larger ones first; holes are drawn over them."""
    fine = labels.repeat(FINER, axis=0).repeat(FINER, axis=1)  # outlines run through centers
    found = []
    for value in np.unique(labels):
        area = np.where(fine == value, np.uint8(1), np.uint8(0))
        contours, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        found += [(int(value), contour.reshape(-1, 2)) for contour in contours]
    found.sort(key=lambda one: -cv2.contourArea(one[1]))
    return [(value, ((points + 0.5) / FINER).tolist()) for value, points in found]


def label(value: int) -> str:
    """What a file of polygons calls a class, or pixels without one."""
    return "unknown" if value == IGNORED else NAMES[value]


ALL_IN_POLYGONS = ["--data.classes", str([*NAMES]), "--data.background", "null"]
ALL_IN_POLYGONS += ["--data.ignore_labels", "[unknown]"]


def coco_json(root: Path, scenes: Photos) -> list[str]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, (image, labels)) in enumerate(scenes.items(), 1):
        save(root / "images" / f"{name}.jpg", image)
        height, width = labels.shape
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        for value, points in outlines(labels):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": value + 1,
                    "segmentation": [np.ravel(points).tolist()],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": value + 1, "name": label(value)} for value in (*range(11), IGNORED)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    return ["--data.polygons", "annotations.json", *ALL_IN_POLYGONS]


def labelme(root: Path, scenes: Photos) -> list[str]:
    for name, (image, labels) in scenes.items():
        save(root / f"{name}.jpg", image)
        shapes = [
            {"label": label(value), "points": points, "shape_type": "polygon"}
            for value, points in outlines(labels)
        ]
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{name}.jpg",
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        (root / f"{name}.json").write_text(json.dumps(content))
    return ["--data.images", ".", "--data.polygons", ".", *ALL_IN_POLYGONS]


def jpeg_masks(root: Path, scenes: Photos) -> list[str]:
    classes(root, dict(zip(NAMES, FAR_COLORS, strict=True)))
    for name, (image, labels) in scenes.items():
        save(root / "images" / f"{name}.jpg", image)
        save(root / "masks" / f"{name}.jpg", colored(labels, FAR_COLORS), quality=95, subsampling=0)
    return ["--data.ignore_colors", "[[0, 0, 0]]", "--data.mask_tolerance", "30"]


EXACT: list[Form] = [index_png, color_coded, zero_and_255, mask_suffix, nested, side_by_side]
EXACT += [rgba_images, twelve_bit_tiff, mixed_sizes]
ABOUT: dict[Form, float] = {coco_json: 0.99, labelme: 0.99, jpeg_masks: 0.98}
"""Forms that keep the labels but for borders, and the least share of pixels that agree."""
FORMS: list[Form] = [*EXACT, *ABOUT]


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

    checked = ["--data", "Folder", "--data.root", str(root), *settings, "--output", "null"]
    main(["check-data", *checked, "--json", "check.json", "--processes", "1"])
    assert json.loads(Path("check.json").read_text())["errors"] == []

    done = command("fit", "--config", CONFIG, "--data.root", root, *settings, *SMALL)
    assert [*Path("runs").glob("*/0/checkpoints/*.ckpt")]
    read = {}
    for split in ("train", "val"):
        source = done.datamodule.split(split)
        for index in range(len(source)):
            read[source.name(index).rpartition("/")[2]] = source.read(index).labels
    assert read.keys() == scenes.keys()
    for index, (name, (_, labels)) in enumerate(scenes.items()):
        agree = np.mean(read[name] == expected(form, labels, index))
        assert agree >= ABOUT.get(form, 1), name
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_noisy_masks_are_refused_with_the_way_out(
    scenes: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *settings, _, _ = jpeg_masks(tmp_path, scenes)
    given = ["--data.root", str(tmp_path), *settings]
    assert "--data.mask_tolerance 20" in refused(capsys, "fit", "--config", CONFIG, *given, *SMALL)
    with pytest.raises(SystemExit):
        main(["check-data", "--data", "Folder", *given, "--output", "null"])
    assert "--data.mask_tolerance 20" in capsys.readouterr().out
