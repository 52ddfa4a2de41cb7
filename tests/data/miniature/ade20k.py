"""ADE20K: the scene parsing package `ADEChallengeData2016`, and the full one mistaken for it."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.miniature.drawing import (
    JPEG_TOLERANCE,
    Expected,
    Item,
    Pixels,
    Size,
    by_table,
    picture,
    save,
    scatter,
    write_text,
)

TO_CLASS = {label: label - 1 for label in range(1, 151)}
LABELS = range(151)
FOLDERS = {"train": "training", "val": "validation"}
# kind and (height, width); a crop of 64×64 fits in some, not in others
IMAGES: dict[str, tuple[tuple[str, Size], ...]] = {
    "train": (
        ("color", (96, 130)),
        ("gray", (33, 45)),
        ("cmyk", (40, 40)),
        ("color", (16, 200)),
        ("color", (65, 97)),
        ("color", (24, 29)),
    ),
    "val": (
        ("color", (50, 71)),
        ("gray", (64, 64)),
        ("color", (200, 16)),
        ("cmyk", (31, 51)),
    ),
}


def write_ade20k(root: Path) -> Expected:
    """`images/` and `annotations/`, each with `training/` and `validation/`; labels 0 to 150.

    Args:
        root: stands for `ADEChallengeData2016`.

    Returns:
        Names such as `ADE_train_00000001`; splits `train` and `val`.
    """
    expected: Expected = {}
    scenes = []
    for split, folder in FOLDERS.items():
        for number, (kind, size) in enumerate(IMAGES[split], start=1):
            name = f"ADE_{split}_{number:08d}"
            image = _write_jpeg(root / "images" / folder / f"{name}.jpg", kind, size)
            values = scatter(name, size, LABELS)
            save(root / "annotations" / folder / f"{name}.png", values)
            expected[split, name] = Item(by_table(values, TO_CLASS), image, JPEG_TOLERANCE)
            scenes.append(f"{name} bathroom\n")
    write_text(root / "sceneCategories.txt", "".join(scenes))
    write_text(
        root / "objectInfo150.txt",
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n"
        "2\t0.1072\t6046\t612\tbuilding, edifice\n150\t0.0002\t421\t56\tflag\n",
    )
    return expected


def write_full_ade20k(root: Path) -> Path:
    """The wrong package: scenes in folders, three-channel `*_seg.png` beside the images.

    Returns:
        Its top folder, `ADE20K_2021_17_01` under `root`.
    """
    top = root / "ADE20K_2021_17_01"
    size = (40, 56)
    for split, part in (("train", "training"), ("val", "validation")):
        for number in (1, 2):
            name = f"ADE_{split}_{number:08d}"
            scene = top / "images" / "ADE" / part / "urban" / "street"
            save(scene / f"{name}.jpg", picture(name, size))
            values = scatter(name, size, LABELS)
            coded = np.stack([values // 10 * 10, values, np.zeros_like(values)], -1)
            save(scene / f"{name}_seg.png", coded)
            save(scene / f"{name}_parts_1.png", coded)
            save(scene / name / "instance_000_ADE.png", values)
            write_text(scene / f"{name}.json", "{}")
    (top / "index_ade20k.pkl").write_bytes(b"\x80\x04}.")  # an empty dictionary, pickled
    write_text(top / "objects.txt", "wall\n")
    return top


def _write_jpeg(path: Path, kind: str, size: Size) -> Pixels:
    """Write one JPEG; returns it as RGB."""
    image = picture(path.stem, size)
    if kind == "gray":
        gray = image[..., 0] // 2 + image[..., 1] // 2
        save(path, gray)
        return np.stack([gray] * 3, -1)
    if kind == "cmyk":
        inks = 255 - image
        black = np.full(size, 40, np.uint8)
        bands = [*(inks[..., channel] for channel in range(3)), black]
        save(path, Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(b)) for b in bands]))
        paper = (255 - inks.astype(float)) * (255 - black[..., None]) / 255
        rgb: Pixels = paper.round().astype(np.uint8)
        return rgb
    save(path, image)
    return image
