"""What the counts of a data set's classes say about its masks."""

from collections.abc import Iterator

import numpy as np

from pne_seg.data.base import SegmentationDataModule, Split
from pne_seg.data.image_folder import Folder
from pne_seg.data.inspection.check_report import Finding, SplitFigures
from pne_seg.data.label_formats import IGNORE, IndexLabels


def absent_classes(
    data: SegmentationDataModule, figures: dict[Split, SplitFigures | None]
) -> Iterator[Finding]:
    """Find classes without a pixel, in training and validation."""
    consequences: list[tuple[Split, str]] = [
        ("train", "so that they cannot be learned"),
        ("val", "so that they have no IoU"),
    ]
    for split, consequence in consequences:
        part = figures.get(split)
        if part is None or not part.pixels.any():
            continue
        absent = [data.class_names[index] for index in np.flatnonzero(part.pixels == 0).tolist()]
        if absent:
            hint = _hint_at_white(data, part) if split == "train" else ""
            said = f"Classes that occur nowhere in {split}, {consequence}"
            counted = f"{len(absent)} of {data.num_classes}"
            message = f"{said} ({counted}): {', '.join(absent)}.{hint}"
            yield Finding("warning", "absent", [split], message)


def _hint_at_white(data: SegmentationDataModule, part: SplitFigures) -> str:
    """Advise on masks of black and white, whose white is taken for pixels without class."""
    if not (isinstance(data, Folder) and isinstance(data.label_format, IndexLabels)):
        return ""
    entries = data.label_format.entries
    only_white_is_ignored = np.flatnonzero(entries == IGNORE).tolist() == [255]
    if part.pixels[1:].any() or not part.ignored or entries[0] != 0 or not only_white_is_ignored:
        return ""
    first, second = [*data.class_names, "object"][:2]
    return (
        " The masks hold only 0 and 255: if 255 is a class, pass "
        f"classes={{{first!r}: 0, {second!r}: 255}}."
    )
