"""Class names, colours and label values of the public data sets, one CSV file each.

Sources: `cityscapes` is the official list (cityscapesScripts, `helpers/labels.py`). Names and
colours of `ade20k` and `coco_stuff` are mmsegmentation's; the names agree with the lists that come
with the data (`objectInfo150.txt`; `labels.txt` of COCO-Stuff, which counts from 1). Colours are
for pictures only: they are not unique (149 for the 150 classes of ADE20K, 162 for the 171 of
COCO-Stuff), so that no label can be read from one.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pne_seg.data.label_formats import IGNORE, IndexLabels, LabelTable


@dataclass(frozen=True, slots=True)
class ClassList:
    """The classes of one data set, in the order of class indices.

    Attributes:
        names: unique names.
        palette: red, green and blue of each class, 0 to 255; two classes may share a colour.
        labels: the value of each class in the label files as distributed, rising. COCO-Stuff's are
            those of the 164k version; the 10k version's are larger by one.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    labels: tuple[int, ...]

    def label_format(
        self,
        ignored: Collection[int],
        ignore_index: int = IGNORE,
        values: Sequence[int] | None = None,
        hint: str = "Correct the labels.",
    ) -> IndexLabels:
        """Return how label files with a value for each class are read.

        Args:
            ignored: values of pixels without a class.
            ignore_index: what these become.
            values: of the classes in the files; `labels` by default.
            hint: what to do about any other value, for the error message.
        """
        return IndexLabels(
            LabelTable.of_values(
                self.labels if values is None else values,
                ignored,
                ignore_index=ignore_index,
                hint=hint,
            )
        )


@cache
def class_list(name: str) -> ClassList:
    """Return the classes of `cityscapes`, `ade20k`, `coco_stuff` or `camvid`.

    Raises:
        ValueError: no list has this name; those there are get named.
    """
    folder = files(__name__)
    known = sorted(
        entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv")
    )
    if name not in known:
        raise ValueError(f"No class list {name!r}: there are {', '.join(known)}.")
    rows = list(csv.DictReader((folder / f"{name}.csv").read_text("utf-8").splitlines()))
    return ClassList(
        names=tuple(row["name"] for row in rows),
        palette=tuple((int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows),
        labels=tuple(int(row["label"]) for row in rows),
    )
