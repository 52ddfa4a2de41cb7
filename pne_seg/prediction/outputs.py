"""What is written for each prediction, and what of it is there already."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data import png
from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.prediction.stamps import Stamp, read_stamp, stamped
from pne_seg.visualization import overlay

Classes = npt.NDArray[Any]
"""(H, W) class indices of any integer type."""

Kind = Literal["classes", "colour", "overlay"]
KINDS: tuple[Kind, ...] = ("classes", "colour", "overlay")

_JPEG_QUALITY = 90
_LONGEST_JPEG = 65_500  # pixels a side that the library takes
_OF_ONE_FILE = (
    *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
)
"""What the system says of a name that it does not take; of others it says nothing."""


class UnwritableError(UserError):
    """One prediction cannot be written as it is; the others can."""


@dataclass(frozen=True, slots=True)
class Target:
    """One prediction and where it comes from.

    Attributes:
        name: what it is called, with `/` between folders.
        source: what to call its source in messages.
        stamp: what its files carry.
        is_frame: whether it is a frame of a video.
    """

    name: str
    source: str
    stamp: Stamp
    is_frame: bool = False


class Layout(ABC):
    """Which files a prediction becomes, and what is in them.

    Attributes:
        folder: where they go.
        pictures: whether the image is needed to make them.
        overwrite: whether to replace what was predicted from other sources, weights or settings.
    """

    folder: Path
    pictures: bool
    overwrite = False

    @abstractmethod
    def paths(self, target: Target) -> list[Path]:
        """The prediction's files."""

    @abstractmethod
    def encode(self, path: Path, classes: Classes, picture: Pixels | None) -> bytes:
        """The content of one of them."""

    def write(self, target: Target, classes: Classes, picture: Pixels | None) -> None:
        """Write those of a prediction's files that are not there.

        Raises:
            UnwritableError: the name or the size of one is not taken; the others are written.
            UserError: a file cannot be written.
        """
        failed: UnwritableError | None = None
        for path in self.paths(target):
            try:
                found = stamp_of(path)
                if found == target.stamp:
                    continue
                if found is None or not (found == "absent" or self.overwrite):
                    raise UnwritableError(
                        f"{path} was written meanwhile by another command, from another source or "
                        "by other weights or settings. Give each command an --output of its own."
                    )
                self._write(path, target, classes, picture)
            except UnwritableError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _write(self, path: Path, target: Target, classes: Classes, picture: Pixels | None) -> None:
        content = stamped(self.encode(path, classes, picture), target.stamp)
        try:
            write_bytes_atomically(path, content)
        except OSError as error:
            raise cannot_write(path, error) from error


class Pictures(Layout):
    """Class indices, their colours, and the colours over the image, in a folder each.

    `classes/NAME.png` has one channel of 8 bits, or 16 with more than 256 classes;
    `colour/NAME.png` the same indices with the palette, or RGB; `overlay/NAME.jpg` the mixture. Of
    the frames of a video there are the classes alone, from which its overlay is encoded.

    Args:
        folder: where to.
        kinds: which of the three.
        palette: C colours.
        ignore_index: the label that carries no class.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Kind],
        palette: Sequence[tuple[int, int, int]],
        ignore_index: int,
    ) -> None:
        self.folder = folder
        self.kinds = kinds
        self.palette = np.asarray(palette, np.uint8)
        self.ignore_index = ignore_index
        self.pictures = "overlay" in kinds

    def paths(self, target: Target) -> list[Path]:
        """`KIND/NAME.png`, or `.jpg` for the overlay."""
        kinds: Sequence[Kind] = ("classes",) if target.is_frame else self.kinds
        return [self.path(kind, target.name) for kind in kinds]

    def path(self, kind: Kind, name: str) -> Path:
        """A file by its kind and its prediction's name."""
        return self.folder / kind / f"{name}{'.jpg' if kind == 'overlay' else '.png'}"

    def video(self, name: str) -> Path:
        """The overlay of a video."""
        return self.folder / "overlay" / f"{name}.mp4"

    def encode(self, path: Path, classes: Classes, picture: Pixels | None) -> bytes:
        """PNG or JPEG."""
        kind = path.relative_to(self.folder).parts[0]
        if kind == "overlay":
            assert picture is not None
            return self._jpeg(path, self.laid_over(picture, classes))
        if kind == "classes":
            return encoded(".png", classes)
        if len(self.palette) > 256:
            return encoded(".png", self.palette[classes][..., ::-1])
        return png.with_palette(encoded(".png", classes), self.palette.tolist())

    def laid_over(self, picture: Pixels, classes: Classes) -> Pixels:
        """The colours of the classes over the image, (H, W, 3) RGB."""
        return overlay(picture, classes, self.palette, self.ignore_index)

    def _jpeg(self, path: Path, picture: Pixels) -> bytes:
        if max(picture.shape) > _LONGEST_JPEG:
            raise UnwritableError(
                f"{path}: JPEG files have sides of {_LONGEST_JPEG:,} pixels at most, this image "
                "has more. Leave the overlays out: --write '[classes, colour]'"
            )
        return encoded(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def encoded(suffix: str, picture: Classes, options: Sequence[int] = ()) -> bytes:
    """The picture as the content of a file: (H, W), or (H, W, 3) BGR."""
    done, content = cv2.imencode(suffix, np.ascontiguousarray(picture), list(options))
    if not done:
        raise ValueError(f"OpenCV cannot write {picture.dtype} {picture.shape} as {suffix}")
    return content.tobytes()


# ---- what is there -----------------------------------------------------------------------------


def still_to_do(targets: Sequence[tuple[Sequence[Path], Target]], overwrite: bool) -> list[int]:
    """Find the predictions whose files are not all there.

    Args:
        targets: the files of each prediction, and the prediction.
        overwrite: whether what was predicted otherwise may be replaced.

    Returns:
        Their places in `targets`.

    Raises:
        UserError: files of these names hold something else. Nothing was changed.
    """
    left: list[int] = []
    other: list[Path] = []
    foreign: list[Path] = []
    for place, (paths, target) in enumerate(targets):
        complete = True
        for path in paths:
            found = stamp_of(path)
            complete = complete and found == target.stamp
            if found is None:
                foreign.append(path)
            elif found not in ("absent", target.stamp):
                other.append(path)
        if not complete:
            left.append(place)
    if foreign:
        raise UserError(
            f"{foreign[0]} is there and was not written by predict"
            f"{_of_these(foreign, 'files')}. It is left alone: choose another --output."
        )
    if other and not overwrite:
        raise UserError(
            f"{other[0]} is there, predicted from another source or by other weights, settings or "
            f"version{_of_these(other, 'files')}. Choose another --output, or replace what predict "
            "wrote: --overwrite true"
        )
    return left


def stamp_of(path: Path) -> Stamp | Literal["absent"] | None:
    """What an output carries; None for a file that predict did not write."""
    try:
        return read_stamp(path)
    except FileNotFoundError:
        return "absent"
    except IsADirectoryError:
        return None
    except OSError as error:
        if error.errno in _OF_ONE_FILE:
            return "absent"  # nothing can be there; writing it will say why
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error


def _of_these(paths: list[Path], what: str) -> str:
    return f" ({len(paths)} such {what} in all)" if len(paths) > 1 else ""


def cannot_write(path: Path, error: OSError) -> UserError:
    """What is said of a file that the system does not let be written."""
    said = f"{path}: cannot be written ({error.strerror})."
    if error.errno in _OF_ONE_FILE:
        return UnwritableError(said)
    if path.parent.exists():
        said += " What is written stays; the same command goes on from there."
    return UserError(said)
