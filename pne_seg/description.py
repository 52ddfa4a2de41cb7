"""What a network was trained for, as checkpoints and exports carry it along."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

IN_CHECKPOINT = "data_description"
"""Key of a checkpoint under which `DataDescription.as_dict()` stands."""


@dataclass(frozen=True, slots=True)
class DataDescription:
    """The part of a data set that outlives it: enough to use a network without its data.

    Attributes:
        data: name of the data set's class, such as `CamVid`.
        class_names: C names, in the order of class indices.
        palette: C colours for pictures.
        ignore_index: the label that carries no class.
        resize_base: width and height of the box that images are fitted to, ratio kept, before the
            network sees them; None leaves their own size.
    """

    data: str
    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int
    resize_base: tuple[int, int] | None

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.palette):
            raise ValueError(
                f"{len(self.class_names)} class names with {len(self.palette)} colours."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "DataDescription":
        """Read what `as_dict` gave, through JSON or not; other keys are left.

        Raises:
            ValueError: a key is missing, or its value is of another kind.
        """
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
