"""What a network was trained for, as checkpoints and exports carry it along."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pne_seg.errors import UserError

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}

IN_CHECKPOINT = "data_description"
"""Key of a checkpoint under which `DataDescription.as_dict()` stands."""


@dataclass(frozen=True, slots=True)
class DataDescription:
    """The part of a data set that outlives it: enough to use a network without its data."""

    data: str  # the data set's class, such as `CamVid`
    class_names: tuple[str, ...]  # in the order of class indices
    palette: tuple[Color, ...]
    ignore_index: int
    # Width and height of the box that images are fitted to, ratio kept; None leaves their size.
    resize_base: tuple[int, int] | None

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.palette):
            raise ValueError(
                f"{len(self.class_names)} class names with {len(self.palette)} colors."
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and checkpoints, which `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "DataDescription":
        """Read what `as_dict` gave, through JSON or not; a ValueError if it is not whole."""
        try:
            base = content["resize_base"]
            return cls(
                data=str(content["data"]),
                class_names=tuple(map(str, content["class_names"])),
                palette=tuple(
                    (int(red), int(green), int(blue)) for red, green, blue in content["palette"]
                ),
                ignore_index=int(content["ignore_index"]),
                resize_base=None if base is None else (int(base[0]), int(base[1])),
            )
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"No description of a data set: {error!r}.") from error


def description_in(checkpoint: Mapping[str, Any], file: Path | str) -> DataDescription | None:
    """Read what a checkpoint says of its data; None for an older one, which says nothing."""
    if IN_CHECKPOINT not in checkpoint:
        return None
    try:
        return DataDescription.from_dict(checkpoint[IN_CHECKPOINT])
    except ValueError as error:
        raise UserError(
            f"{file} is damaged: what it says of its classes under {IN_CHECKPOINT} is not whole "
            f"({error}). Take another checkpoint of the run."
        ) from error


def are_named(class_names: Sequence[str]) -> bool:
    """Return whether classes have names, not just their indices or the likes of `LABEL_0`."""
    return any(name not in (str(i), f"LABEL_{i}") for i, name in enumerate(class_names))


def too_few_classes(count: int) -> str | None:
    """Describe a number of classes with which nothing can be learned, and the fix."""
    if count > 1:
        return None
    return (
        f"The number of classes must be 2 or more, got {count}: with one class every pixel is of "
        "it, whatever the network says, so that nothing can be learned. Name the background as a "
        "class too, as in classes [background, object], and mark it in the masks by a value of its "
        "own that is not ignored."
    )


def class_difference(
    here: Sequence[str], there: Sequence[str], where: str = "in the checkpoint", most: int = 3
) -> str | None:
    """Say which of the classes here and of those `where` differ, in their order; None if none."""
    shown = [
        ["missing" if name is None else repr(name) for name in pair]
        for pair in zip_longest(here, there)
    ]
    differing = [
        f"class {index} is {ours} here, {theirs} {where}"
        for index, (ours, theirs) in enumerate(shown)
        if ours != theirs
    ]
    if not differing:
        return None
    counts = "" if len(here) == len(there) else f"{len(here)} classes here, {len(there)} {where}; "
    more = f"; and {len(differing) - most} more" if len(differing) > most else ""
    return counts + "; ".join(differing[:most]) + more


def check_same_classes(
    class_names: Sequence[str], checkpoint: Mapping[str, Any], file: Path | str
) -> None:
    """Refuse to use a checkpoint with other classes than it was trained on, or in another order.

    Names are compared as they are written. A checkpoint that does not name its classes passes.
    """
    if (trained := description_in(checkpoint, file)) is not None:
        refuse_other_classes(class_names, trained, file)


def refuse_other_classes(
    class_names: Sequence[str], trained: DataDescription, file: Path | str
) -> None:
    """Refuse classes that differ from those that a file's network was trained on."""
    if difference := class_difference(class_names, trained.class_names):
        given = f"classes={[*trained.class_names]}"
        if len(given) > 200:
            given = f"those of {trained.data}"
        raise UserError(
            f"{file}: trained on other classes: {difference}.\n"
            f"  Give the data the checkpoint's names in its order ({given}; with their values, "
            "{name: value}, if the masks number them in another way), or fine-tune from its "
            "weights with model.init_from."
        )


def listed(names: Sequence[str], most: int = 6) -> str:
    """Join the first names for a message, with the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def pixel_sizes(sizes: Iterable[tuple[int, int]]) -> str:
    """Write (height, width) of the smallest and the largest image as `width×height`."""
    return " to ".join(f"{width}×{height}" for height, width in sizes) + " pixels"
