"""The files that each prediction becomes, and their content."""

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.data.images import Pixels
from pne_seg.prediction.manifest import Origin, UnwritableError
from pne_seg.visualization import overlay

Classes = npt.NDArray[Any]
"""(H, W) class indices of any integer type."""

Kind = Literal["classes", "color", "overlay"]
KINDS: tuple[Kind, ...] = ("classes", "color", "overlay")

_JPEG_QUALITY = 90
_LONGEST_JPEG = 65_500  # pixels per side that the library accepts


@dataclass(frozen=True, slots=True)
class Target:
    """One prediction.

    Attributes:
        name: what its files are called, with `/` between folders.
        source: what messages call the image or video.
        origin: what its files are predicted from.
        is_frame: whether it is a frame of a video.
    """

    name: str
    source: str
    origin: Origin
    is_frame: bool = False


class Layout(ABC):
    """Which files a prediction becomes, and their content.

    Attributes:
        folder: where they go.
        manifest: file of their origins; None for the usual one.
        needs_images: whether the image is drawn on.
    """

    folder: Path
    manifest: Path | None = None
    needs_images = False

    @abstractmethod
    def paths(self, target: Target) -> list[Path]:
        """Return the files of a prediction."""

    @abstractmethod
    def encode(self, path: Path, classes: Classes, image: Pixels | None) -> bytes:
        """Return the content of one of them; the image is (H, W, 3) RGB."""

    def video(self, name: str) -> Path | None:  # noqa: ARG002
        """Return the file that the frames of a video are drawn into, if any."""
        return None

    def check_targets(self, targets: Sequence[Target]) -> None:  # noqa: B027
        """Refuse sources that this layout has no place for."""


class Pictures(Layout):
    """Class indices, their colors, and the colors over the image, in a folder each.

    `classes/NAME.png` has one channel of 8 bits, or 16 with more than 256 classes;
    `color/NAME.png` the same indices with the palette, or RGB; `overlay/NAME.jpg` the mixture. The
    frames of a video get `classes/` only, from which `overlay/NAME.mp4` is drawn.

    Args:
        folder: where they go.
        kinds: which of the three.
        palette: C colors.
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
        self.needs_images = "overlay" in kinds

    def paths(self, target: Target) -> list[Path]:
        """Return `KIND/NAME.png`, or `.jpg` for the overlay."""
        kinds: Sequence[Kind] = ("classes",) if target.is_frame else self.kinds
        return [self.path(kind, target.name) for kind in kinds]

    def path(self, kind: Kind, name: str) -> Path:
        """Return a file by its kind and its prediction's name."""
        return self.folder / kind / f"{name}{'.jpg' if kind == 'overlay' else '.png'}"

    def video(self, name: str) -> Path | None:
        """Return `overlay/NAME.mp4` if overlays are written."""
        return self.folder / "overlay" / f"{name}.mp4" if "overlay" in self.kinds else None

    def encode(self, path: Path, classes: Classes, image: Pixels | None) -> bytes:
        """Encode as PNG or JPEG.

        Raises:
            UnwritableError: a side is too long for a JPEG.
        """
        kind = path.relative_to(self.folder).parts[0]
        if kind == "classes":
            return encode_image(".png", classes)
        if kind == "color":
            if len(self.palette) > 256:
                return encode_image(".png", self.palette[classes][..., ::-1])
            indices = Image.fromarray(classes.astype(np.uint8))
            indices.putpalette(self.palette.tobytes())
            indices.save(content := io.BytesIO(), "png", bits=8, compress_level=1)
            return content.getvalue()
        assert image is not None
        if max(image.shape) > _LONGEST_JPEG:
            raise UnwritableError(
                f"{path}: JPEG files have sides of {_LONGEST_JPEG:,} pixels at most, this image "
                "has more. Leave the overlays out: --write '[classes, color]'"
            )
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        return encode_image(".jpg", self.draw(image, classes)[..., ::-1], quality)

    def draw(self, image: Pixels, classes: Classes) -> Pixels:
        """Return the colors of the classes over the image, (H, W, 3) RGB."""
        return overlay(image, classes, self.palette, self.ignore_index)


def encode_image(suffix: str, image: Classes, options: Sequence[int] = ()) -> bytes:
    """Return an image, (H, W) or (H, W, 3) BGR, as the content of a file."""
    done, content = cv2.imencode(suffix, np.ascontiguousarray(image), list(options))
    if not done:
        raise ValueError(f"OpenCV cannot write {image.dtype} {image.shape} as {suffix}")
    return content.tobytes()
