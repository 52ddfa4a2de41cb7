"""A folder of somebody's own images with masks, in the layouts and forms that people keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from tests.data.miniature.drawing import (
    IGNORE,
    JPEG_TOLERANCE,
    Expected,
    Item,
    Pixels,
    Size,
    by_table,
    gaudy_palette,
    grain,
    picture,
    save,
    scatter,
    with_palette,
    write_text,
)

Layout = Literal["flat", "split_first", "kind_first"]
Masks = Literal["index", "palette", "bit", "white", "color"]

FOLDER_CLASSES = {
    "background": (0, 0, 0),
    "road": (128, 64, 128),
    "tree": (107, 142, 35),
    "car": (0, 0, 142),
}
WHITE = {0: 0, 1: 255}
ORIENTATION, TURN_RIGHT = 0x0112, 6  # EXIF: "turn by 90° clockwise to show"
PLACES: dict[Layout, Callable[[str, str], str]] = {
    "flat": lambda kind, split: kind,
    "split_first": lambda kind, split: f"{split}/{kind}",
    "kind_first": lambda kind, split: f"{kind}/{split}",
}


class _File(NamedTuple):
    split: str
    stem: str
    extension: str
    size: Size
    subfolder: str = ""
    turned: bool = False

    @property
    def name(self) -> str:
        """The path below the folder of images, without its extension."""
        return f"{self.subfolder}/{self.stem}" if self.subfolder else self.stem


FILES = (
    _File("train", "lane", ".jpg", (48, 64)),
    _File("train", "lane", ".png", (37, 51), "north"),
    _File("train", "kerb 1", ".jpeg", (33, 61), "north"),
    _File("train", "Gate", ".JPG", (70, 66), "north/inner"),
    _File("train", "scene.v2", ".png", (40, 90)),
    _File("train", "straße", ".bmp", (65, 43), "south"),
    _File("train", "turned", ".jpg", (72, 40), turned=True),
    _File("val", "yard", ".webp", (52, 30)),
    _File("val", "dock", ".tif", (16, 180), "south"),
    _File("val", "sideways", ".JPG", (36, 70), turned=True),
    _File("val", "glass", ".png", (44, 58)),  # with an alpha channel
)


def write_folder(
    root: Path,
    layout: Layout = "flat",
    masks: Masks = "index",
    reduce_zero_label: bool = False,
    void: tuple[int, int, int] | None = None,
) -> Expected:
    """Images and masks in two folders, with the same sub-folders, matched by path and stem.

    The JPEGs `turned` and `sideways` are stored on their side with an EXIF orientation; their
    masks are as the image is shown. `glass.png` has an alpha channel. There are two `lane`s, in
    different sub-folders. `classes.yaml` in `root` is the list of names; for `white` masks the
    names with their values, for `color` masks the names with their colors.

    Args:
        root: gets the folders and `classes.yaml`.
        layout: `flat` is `images/` and `masks/`; `split_first` `train/images/`, …; `kind_first`
            `images/train/`, ….
        masks: PNGs of class indices and 255 in one gray channel (`index`) or as palette images
            (`palette`, of which `lane` and `yard` have two bits a pixel and no 255); for the first
            two classes alone, of one bit (`bit`) or with 0 and 255 (`white`), without any pixel
            that has no class; of three channels (`color`).
        reduce_zero_label: in `index` and `palette` masks 0 is no class, and the classes count
            from 1.
        void: color of pixels without a class in `color` masks; there are none if not given.

    Returns:
        Names such as `lane` and `north/lane`. The split is `all` where `layout` is `flat`.
    """
    two_classes = masks in ("bit", "white")
    classes = range(2 if two_classes else len(FOLDER_CLASSES))
    lowest = int(reduce_zero_label)
    values_of = {**{index: index + lowest for index in classes}, IGNORE: 0 if lowest else IGNORE}
    if masks == "white":
        values_of = WHITE
    expected: Expected = {}
    for file in FILES:
        place = PLACES[layout]
        image, tolerance = _write_image(root / place("images", file.split), file)
        two_bits = masks == "palette" and file.name in ("lane", "yard") and not lowest
        all_labeled = two_classes or two_bits or (masks == "color" and void is None)
        labels = scatter(file.name, file.size, [*classes] if all_labeled else [*classes, IGNORE])
        mask = root / place("masks", file.split) / f"{file.name}.png"
        if masks == "bit":
            save(mask, labels == 1)
        elif masks == "color":
            save(mask, _in_color(labels, void or (0, 0, 0)))
        else:
            values = by_table(labels, values_of)
            if lowest:
                values[0, 0], labels[0, 0] = IGNORE, IGNORE  # 255 stays without a class, too
            palette = gaudy_palette()[: 4 if two_bits else 256]
            save(mask, with_palette(values, palette) if masks == "palette" else values)
        split = "all" if layout == "flat" else file.split
        expected[split, file.name] = Item(labels, image, tolerance)
    write_text(root / "classes.yaml", _classes_yaml(masks, len(classes)))
    return expected


def _write_image(folder: Path, file: _File) -> tuple[Pixels, int]:
    """Write one image; returns it as it is shown, with the tolerance of its decoding."""
    path = folder / f"{file.name}{file.extension}"
    image = picture(file.name, file.size)
    if file.extension.lower() in (".jpg", ".jpeg"):
        exif = Image.Exif()
        if file.turned:
            exif[ORIENTATION] = TURN_RIGHT
        # the left edge of what is shown is the bottom row of what is stored
        save(path, np.rot90(image, 1).copy() if file.turned else image, exif=exif)
        return image, JPEG_TOLERANCE
    image = grain(file.name, image)
    if file.stem == "glass":
        alpha = scatter("alpha", file.size, (0, 128, 255))
        save(path, np.concatenate([image, alpha[..., None]], -1))
    else:
        save(path, image, **({"lossless": True} if file.extension == ".webp" else {}))
    return image, 0


def _in_color(labels: Pixels, void: tuple[int, int, int]) -> Pixels:
    colors = dict(enumerate(FOLDER_CLASSES.values()))
    rows = [[colors.get(label, void) for label in row] for row in labels.tolist()]
    return np.array(rows, np.uint8)


def _classes_yaml(masks: Masks, count: int) -> str:
    names = [*FOLDER_CLASSES][:count]
    if masks == "color":
        return "".join(f"{name}: {[*FOLDER_CLASSES[name]]}\n" for name in names)
    if masks == "white":
        return "".join(f"{name}: {WHITE[index]}\n" for index, name in enumerate(names))
    return "".join(f"- {name}\n" for name in names)
