"""Files as those of the public data sets: in their layout, as large, about as hard to decode.

Sizes are the archives' divided by their images: 11.6 GB by 5,000 (Cityscapes), 967 MB by 22,210
less 6 kB of labels (ADE20K as the benchmark of 2016, where 683×512 is the usual size), 19.3 GB by
118,287 (COCO).
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from PIL import Image

from pne_seg.data.ade20k import ADE20K
from pne_seg.data.cityscapes import Cityscapes
from pne_seg.data.classes import class_list
from pne_seg.data.coco_stuff import COCOStuff
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.images import Pixels
from pne_seg.data.scenes.renderer import render_scene
from pne_seg.data.sources import IMAGE_SUFFIXES

_LOUDEST = 64.0  # gray levels of noise beyond which no file is made larger
_CALIBRATED_ON = 2  # pictures, from which the strength of noise is found


@dataclass(frozen=True)
class Case:
    """A data set whose files are imitated.

    Attributes:
        name: of the data set.
        module: reads the files.
        classes: name of its class list.
        size: height and width of the images, in pixels.
        nbytes: of an image file, as in the real data set.
        quality: of the JPEG; None for a PNG.
        no_class: label value of pixels without a class.
        paths: image and labels of the n-th frame of `train` or `val`, below the root.
    """

    name: str
    module: Callable[..., FileDataModule]
    classes: str
    size: tuple[int, int]
    nbytes: int
    quality: int | None
    no_class: int
    paths: Callable[[str, int], tuple[str, str]]


def _cityscapes(split: str, number: int) -> tuple[str, str]:
    frame = f"{split}/aachen/aachen_{number:06d}_000019"
    return f"leftImg8bit/{frame}_leftImg8bit.png", f"gtFine/{frame}_gtFine_labelIds.png"


def _ade20k(split: str, number: int) -> tuple[str, str]:
    folder = {"train": "training", "val": "validation"}[split]
    frame = f"{folder}/ADE_{split}_{number:08d}"
    return f"images/{frame}.jpg", f"annotations/{frame}.png"


def _coco_stuff(split: str, number: int) -> tuple[str, str]:
    frame = f"{split}2017/{number:012d}"
    return f"images/{frame}.jpg", f"annotations/{frame}.png"


CASES = (
    Case("Cityscapes", Cityscapes, "cityscapes", (1024, 2048), 2_300_000, None, 0, _cityscapes),
    Case("ADE20K", ADE20K, "ade20k", (512, 683), 38_000, 75, 0, _ade20k),
    Case("COCO-Stuff", COCOStuff, "coco_stuff", (480, 640), 160_000, 90, 255, _coco_stuff),
)


def write_files(root: Path, case: Case, number: int, photographs: Sequence[Path] = ()) -> str:
    """Write a training and a validation split of the same pictures.

    Pictures are photographs, cut to the ratio and scaled, or scenes that the project draws, under
    noise of the strength that makes the files as large as the real ones: what a decoder works on
    is bits. Labels are those of scenes, with the values of the data set's files.

    Args:
        root: gets the layout of the data set.
        case: which one.
        number: images of a split.
        photographs: taken in turn; none draws scenes.

    Returns:
        What was written, for people.
    """
    generator = np.random.default_rng(0)
    pictures = list(_pictures(case.size, number, photographs))
    level = _noise_level(case, [image for image, _ in pictures[:_CALIBRATED_ON]])
    values = np.full(256, case.no_class, np.uint8)
    listed = class_list(case.classes).labels
    values[: len(listed)] = listed
    sizes = []
    for index, (image, labels) in enumerate(pictures):
        files = encode(case, noisy(image, level, generator)), _png(values[labels])
        sizes.append([len(file) for file in files])
        for split in ("train", "val"):
            for path, file in zip(case.paths(split, index), files, strict=True):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(file)
    image_bytes, label_bytes = np.mean(sizes, axis=0) / 1e3
    form = "PNG" if case.quality is None else f"JPEG (quality {case.quality})"
    return (
        f"{case.size[1]}×{case.size[0]} {form} of {image_bytes:.0f} kB with labels of "
        f"{label_bytes:.1f} kB"
    )


def find_photographs(folder: Path) -> list[Path]:
    """Image files in a folder, evenly mixed over it."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def noisy(image: Pixels, level: float, generator: np.random.Generator) -> Pixels:
    """Noise as a camera's: mostly of brightness, and alike in neighboring pixels.

    Args:
        image: (H, W, 3).
        level: standard deviation, in gray levels.
        generator: draws it.
    """
    brightness = generator.normal(0, level, (*image.shape[:2], 1)).astype(np.float32)
    color = generator.normal(0, level / 2, image.shape).astype(np.float32)
    noise = cv2.GaussianBlur(brightness + color, (3, 3), 0.6)
    return np.asarray(np.clip(np.rint(image + noise), 0, 255), np.uint8)


def encode(case: Case, image: Pixels) -> bytes:
    """Encode the image in the case's format."""
    if case.quality is None:
        return _png(image)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=case.quality, subsampling="4:2:0")
    return stream.getvalue()


def _png(image: Pixels) -> bytes:
    stream = io.BytesIO()  # Pillow's are filtered row by row, as those of most software
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _pictures(
    size: tuple[int, int], number: int, photographs: Sequence[Path]
) -> Iterator[tuple[Pixels, Pixels]]:
    for index in range(number):
        image, labels = render_scene(np.random.default_rng(index), *size)
        if photographs:
            image = _photograph(photographs[index % len(photographs)], size)
        yield image, labels


def _photograph(path: Path, size: tuple[int, int]) -> Pixels:
    image = np.asarray(Image.open(path).convert("RGB"))
    height, width = image.shape[:2]
    factor = max(size[0] / height, size[1] / width)
    kept = [min(round(to / factor), side) for to, side in zip(size, (height, width), strict=True)]
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    cut = image[top : top + kept[0], left : left + kept[1]]
    method = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    return cast(Pixels, cv2.resize(cut, size[::-1], interpolation=method))


def _noise_level(case: Case, images: Sequence[Pixels]) -> float:
    """Find the strength of noise that gives files of the case's size, by bisection."""
    low, high = 0.0, _LOUDEST
    while high - low > 0.5:
        level = (low + high) / 2
        generator = np.random.default_rng(0)
        sizes = [len(encode(case, noisy(image, level, generator))) for image in images]
        low, high = (level, high) if np.mean(sizes) < case.nbytes else (low, level)
    return low
