"""COCO-Stuff, the 164k and the 10k version, as distributed and as mmsegmentation converts them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.io import savemat

from tests.data.miniature.drawing import (
    IGNORE,
    JPEG_TOLERANCE,
    Expected,
    Item,
    Pixels,
    Size,
    by_table,
    gaudy_palette,
    misleading_palette,
    picture,
    save,
    scatter,
    with_palette,
    write_text,
)

Form = Literal["distributed", "mmseg", "both"]

DROPPED_164K = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
DROPPED_10K = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
LABELS_164K = (*range(182), 255)
LABELS_10K = range(183)  # 0: unlabeled
SIZES: tuple[Size, ...] = ((48, 64), (65, 43), (16, 190), (97, 81), (27, 31), (70, 66))
NUMBERS_164K = {"train": (9, 25, 30, 34, 36), "val": (139, 285, 397133)}
NUMBERS_10K = {"train": (77, 113, 127, 260, 349, 368), "val": (446, 575, 714)}
STORED_AS = (np.uint8, np.uint16, np.float64)  # MATLAB's own type is the last


def write_coco_164k(root: Path, form: Form = "distributed") -> Expected:
    """`images/` and `annotations/`, each with `train2017/` and `val2017/`; labels 0 to 181 and 255.

    Some label files are palette images whose colors differ from the indices; one photograph in
    three is gray.

    Args:
        root: stands for `coco_stuff164k`.
        form: `distributed` has `NAME.png`, `mmseg` `NAME_labelTrainIds.png` (0 to 170 and 255) in
            their place, `both` the two side by side, as mmsegmentation's script leaves them.

    Returns:
        Names of twelve digits; splits `train` and `val`.
    """
    table = _numbered(range(182), DROPPED_164K)
    expected: Expected = {}
    for split, numbers in NUMBERS_164K.items():
        for index, (number, size) in enumerate(zip(numbers, SIZES, strict=False)):
            name = f"{number:012d}"
            image = _write_photo(root / "images" / f"{split}2017" / f"{name}.jpg", size, index)
            values = scatter(name, size, LABELS_164K)
            labels = by_table(values, table)
            annotation = root / "annotations" / f"{split}2017" / name
            if form != "mmseg":
                palettes = (None, misleading_palette(), gaudy_palette())
                palette = palettes[index % 3]
                save(
                    annotation.with_suffix(".png"),
                    values if palette is None else with_palette(values, palette),
                )
            if form != "distributed":
                save(annotation.with_name(f"{name}_labelTrainIds.png"), labels)
            expected[split, name] = Item(labels, image, JPEG_TOLERANCE)
    return expected


def write_coco_10k(root: Path, form: Form = "distributed") -> Expected:
    """`images/`, `annotations/*.mat` with labels 0 to 182 in the field `S`, `imageLists/`.

    Args:
        root: stands for `coco_stuff10k`.
        form: `distributed` has all images in one folder and the split in `imageLists/`; `mmseg` has
            `images/` and `annotations/` with `train2014/` and `test2014/` each and
            `NAME_labelTrainIds.png` in them; `both` the one beside the other, as
            mmsegmentation's script leaves them. It keeps 0 for unlabeled and counts the classes
            from 1 to 171, unlike its files for the 164k version.

    Returns:
        Names such as `COCO_train2014_000000000077`; splits `train`, and `val` for the list `test`.
    """
    table = _numbered(range(1, 183), DROPPED_10K)
    to_converted = {**{index: index + 1 for index in range(171)}, IGNORE: 0}
    expected: Expected = {}
    lists: dict[str, list[str]] = {"train": [], "test": [], "all": []}
    for split, numbers in NUMBERS_10K.items():
        part = "test" if split == "val" else split
        for index, (number, size) in enumerate(zip(numbers, SIZES, strict=False)):
            name = f"COCO_train2014_{number:012d}"
            lists[part].append(name)
            lists["all"].append(name)
            values = scatter(name, size, LABELS_10K)
            labels = by_table(values, table)
            if form != "mmseg":
                image = _write_photo(root / "images" / f"{name}.jpg", size, index)
                _write_mat(root / "annotations" / f"{name}.mat", values, STORED_AS[index % 3])
            if form != "distributed":
                folder = f"{part}2014"
                image = _write_photo(root / "images" / folder / f"{name}.jpg", size, index)
                save(
                    root / "annotations" / folder / f"{name}_labelTrainIds.png",
                    by_table(labels, to_converted),
                )
            expected[split, name] = Item(labels, image, JPEG_TOLERANCE)
    for title, names in lists.items():
        write_text(root / "imageLists" / f"{title}.txt", "".join(f"{name}\n" for name in names))
    return expected


def _numbered(labels: range, dropped: set[int]) -> dict[int, int]:
    """Drop some labels and number the rest from 0."""
    table: dict[int, int] = {}
    for label in labels:
        if label not in dropped:
            table[label] = len(table)
    assert len(table) == 171
    return table


def _write_photo(path: Path, size: Size, index: int) -> Pixels:
    """Write one JPEG, every third gray; returns it as RGB."""
    image = picture(path.stem, size)
    if index % 3 == 1:
        save(path, np.ascontiguousarray(image[..., 0]))
        return np.stack([image[..., 0]] * 3, -1)
    save(path, image)
    return image


def _write_mat(path: Path, values: Pixels, stored_as: type[np.generic]) -> None:
    """One annotation file with the fields of the real ones, of which only `S` is of use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    regions = np.arange(height * width, dtype=np.uint16).reshape(height, width) // 16
    savemat(
        path,
        {
            "S": values.astype(stored_as),
            "names": _cells(f"name {label}" for label in range(1, 183)),
            "captions": _cells(["A street.", "Cars on a road."]),
            "regionMapStuff": regions,
            "regionLabelsStuff": np.full((int(regions.max()) + 1, 1), 182, np.uint8),
        },
        do_compression=True,
    )


def _cells(texts: Iterable[str]) -> npt.NDArray[np.object_]:
    """A column of MATLAB cells."""
    return np.array(list(texts), dtype=object)[:, None]
