"""Cityscapes: `leftImg8bit` and `gtFine`, by split and city."""

import json
from pathlib import Path
from typing import Literal

import numpy as np

from tests.data.miniature.drawing import (
    IGNORE,
    Expected,
    Item,
    Pixels,
    by_table,
    grain,
    picture,
    save,
    scatter,
    write_text,
)

Form = Literal["distributed", "mmseg", "both"]

SIZE = (32, 64)
TO_CLASS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
LABEL_IDS = (*range(34), 255)  # 255: the license plate's −1 in eight bits
WITHOUT_ANNOTATION = (0, 1, 2, 3)  # all that the test split's dummies hold
FRAMES = {
    "train": ("aachen_000000_000019", "aachen_000001_000019", "bremen_000000_000019"),
    "val": ("frankfurt_000000_000294", "frankfurt_000001_001464"),
    "test": ("berlin_000000_000019",),
}


def write_cityscapes(root: Path, form: Form = "distributed") -> Expected:
    """Two cities in train, one in val, one in test, whose labels are dummies.

    Args:
        root: gets `leftImg8bit/` and `gtFine/`.
        form: `distributed` has `*_gtFine_labelIds.png`, `mmseg` `*_gtFine_labelTrainIds.png` in
            their place, `both` the two side by side. `*_instanceIds.png` (16 bits), `*_color.png`
            (RGBA) and `*_polygons.json` are there in each.

    Returns:
        Names end in `_leftImg8bit`. The test split's labels are 255 throughout.
    """
    expected: Expected = {}
    for split, frames in FRAMES.items():
        for frame in frames:
            city = frame.split("_")[0]
            image = grain(frame, picture(frame, SIZE))
            ids = scatter(frame, SIZE, WITHOUT_ANNOTATION if split == "test" else LABEL_IDS)
            labels = by_table(ids, TO_CLASS)
            save(root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", image)
            annotation = root / "gtFine" / split / city / f"{frame}_gtFine"
            if form != "mmseg":
                save(annotation.with_name(f"{annotation.name}_labelIds.png"), ids)
            if form != "distributed":
                save(annotation.with_name(f"{annotation.name}_labelTrainIds.png"), labels)
            _write_siblings(annotation, ids)
            expected[split, f"{frame}_leftImg8bit"] = Item(labels, image)
    return expected


def _write_siblings(annotation: Path, ids: Pixels) -> None:
    things = (ids >= 24) & (ids != IGNORE)
    instances = np.where(things, ids.astype(np.uint16) * 1000, ids)
    colors = np.stack([ids * 7, ids * 5, ids * 3, np.full_like(ids, 255)], -1)
    polygons = {"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": []}
    save(annotation.with_name(f"{annotation.name}_instanceIds.png"), instances)
    save(annotation.with_name(f"{annotation.name}_color.png"), colors)
    write_text(annotation.with_name(f"{annotation.name}_polygons.json"), json.dumps(polygons))
