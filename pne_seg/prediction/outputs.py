"""The files of a prediction and their content: pictures, or what a benchmark's server takes."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.data.classes import class_list
from pne_seg.data.images import Pixels
from pne_seg.description import class_difference
from pne_seg.errors import UserError
from pne_seg.files import write_bytes_atomically
from pne_seg.prediction.inputs import check_names
from pne_seg.prediction.manifest import MANIFEST, Origin, UnwritableError, digest
from pne_seg.visualization import overlay, plot_legend, save_figure

Classes = npt.NDArray[Any]
"""(H, W) class indices of any integer type."""

Kind = Literal["classes", "color", "overlay"]
KINDS: tuple[Kind, ...] = ("classes", "color", "overlay")

_JPEG_QUALITY = 90
_LONGEST_JPEG = 65_500  # pixels per side that the library accepts
_NAMES = {
    # The official scripts find a file by its city, sequence and frame.
    "cityscapes": (r"[A-Za-z-]+_\d{6}_\d{6}(?![^_])", "berlin_000000_000019_leftImg8bit"),
    "ade20k": (r"ADE_[a-z]+_\d{8}$", "ADE_test_00000001"),
}
"""By benchmark: how an image's name begins, which must be unique, and an example."""


@dataclass(frozen=True, slots=True)
class Target:
    """One prediction: an image, or a frame of a video."""

    name: str  # what its files are called, with `/` between folders
    source: str  # what messages call the image or video
    origin: Origin
    is_frame: bool = False


class Pictures:
    """Class indices, their colors, and the colors over the image, in a folder each.

    `classes/NAME.png` has one channel of 8 bits, or 16 with more than 256 classes;
    `color/NAME.png` the same indices with the palette, or RGB; `overlay/NAME.jpg` the mixture. The
    frames of a video get `classes/` only, from which `overlay/NAME.mp4` is drawn. `classes.csv`
    lists the classes; with colors or overlays, `legend.png` shows them.
    """

    manifest: Path | None = None  # in the folder

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Kind],
        palette: Sequence[tuple[int, int, int]],
        ignore_index: int,
        class_names: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.kinds = kinds
        self.class_names = class_names
        self.palette = np.asarray(palette, np.uint8)
        self.ignore_index = ignore_index

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Refuse two predictions with one name."""
        paths = [self.paths(target)[0] for target in targets]
        check_names(paths, [target.source for target in targets])

    def paths(self, target: Target) -> list[Path]:
        """Return the files of a prediction."""
        kinds: Sequence[Kind] = ("classes",) if target.is_frame else self.kinds
        return [self.path(kind, target.name) for kind in kinds]

    def path(self, kind: Kind, name: str) -> Path:
        """Return a file by its kind and its prediction's name."""
        return self.folder / kind / f"{name}{'.jpg' if kind == 'overlay' else '.png'}"

    def legends(self) -> dict[Path, Origin]:
        """Return the files that explain the others; they depend on the classes only."""
        names = ["classes.csv"] if self.class_names else []
        if {"color", "overlay"} & {*self.kinds}:
            names.append("legend.png")
        content = digest(*self.class_names, self.palette.tolist())
        return {self.folder / name: Origin("classes", content) for name in names}

    def save_legend(self, path: Path) -> None:
        """Write one of `legends`."""
        if path.suffix == ".png":
            save_figure(plot_legend(self.class_names, self.palette.tolist()), path)
            return
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "name", "red", "green", "blue"])
        for index, (name, color) in enumerate(zip(self.class_names, self.palette, strict=True)):
            rows.writerow([index, name, *color.tolist()])
        write_bytes_atomically(path, text.getvalue().encode())

    def encode(self, path: Path, classes: Classes, image: Pixels | None) -> bytes:
        """Return the content of one of the files; the image is (H, W, 3) RGB."""
        kind = path.relative_to(self.folder).parts[0]
        if kind == "classes":
            return _encode_image(".png", classes)
        if kind == "color":
            if len(self.palette) > 256:
                return _encode_image(".png", self.palette[classes][..., ::-1])
            indices = Image.fromarray(classes.astype(np.uint8))
            indices.putpalette(self.palette.tobytes())
            indices.save(content := io.BytesIO(), "png", bits=8, compress_level=1)
            return content.getvalue()
        assert image is not None
        if max(image.shape) > _LONGEST_JPEG:
            raise UnwritableError(
                f"{path}: JPEG files have sides of {_LONGEST_JPEG:,} pixels at most, this image "
                "has more. Leave the overlays out: write=[classes, color]"
            )
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        return _encode_image(".jpg", self.draw(image, classes)[..., ::-1], quality)

    def draw(self, image: Pixels, classes: Classes) -> Pixels:
        """Return the colors of the classes over the image, (H, W, 3) RGB."""
        return overlay(image, classes, self.palette, self.ignore_index)


class Submission(Pictures):
    """`NAME.png` with one 8-bit channel of the benchmark's label values, and nothing else.

    The manifest lies beside the folder, which can be zipped as it is. The network has the classes
    `class_names` and was trained on `data`; `benchmark` is also the name of a class list.
    """

    def __init__(self, folder: Path, benchmark: str, class_names: Sequence[str], data: str) -> None:
        super().__init__(folder, ("classes",), (), 255)
        place = folder.resolve()
        self.manifest = place.parent / f"{place.name}.{MANIFEST}"
        self.benchmark = benchmark
        known = class_list(benchmark)
        self.values = np.asarray(known.labels, np.uint8)
        if difference := class_difference(class_names, known.names, f"in {benchmark}"):
            raise UserError(
                f"format {benchmark} needs its {len(known.names)} classes in order; the network "
                f"was trained on {data}: {difference}. Leave format out, or take a run on that "
                "data set."
            )

    def path(self, kind: Kind, name: str) -> Path:  # noqa: ARG002 (there is one)
        """Return the file, whatever folder the image lies in."""
        return self.folder / f"{name.rpartition('/')[2]}.png"

    def encode(self, path: Path, classes: Classes, image: Pixels | None) -> bytes:  # noqa: ARG002
        """Encode the label values as PNG."""
        return _encode_image(".png", self.values[classes])

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Refuse sources that the server would not know, and other files in the folder."""
        pattern, example = _NAMES[self.benchmark]
        keys: list[str] = []
        for target in targets:
            found = re.match(pattern, target.name.rpartition("/")[2])
            if found is None or target.is_frame:
                raise UserError(
                    f"{target.source}: format {self.benchmark} needs images named as the "
                    f"benchmark's, such as {example}. Give its images under their own names, or "
                    "leave format out."
                )
            keys.append(found[0])
        check_names(keys, [target.source for target in targets])
        expected = {path.name for target in targets for path in self.paths(target)}
        names = {path.name for path in self.folder.glob("*") if not path.name.endswith(".tmp")}
        if others := sorted(names - expected):
            raise UserError(
                f"{self.folder} holds other files ({others[0]}), which would go into the zip with "
                "the predictions. Choose a new folder."
            )

    def check_files(self, sizes: Mapping[Path, tuple[int, int]]) -> str:
        """Read the files back, as the server would, and return what was checked."""
        allowed = {*self.values.tolist()}
        for path, size in sizes.items():
            found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            reason = ""
            if found is None or found.ndim != 2 or found.dtype != np.uint8:
                reason = "is no PNG of one 8-bit channel"
            elif found.shape != size:
                reason = f"is {found.shape} (height, width), its image {size}"
            elif wrong := {*np.flatnonzero(np.bincount(found.ravel())).tolist()} - allowed:
                reason = f"holds {min(wrong)}"
            if reason:
                raise UserError(f"{path} {reason}. Remove it and start again.")
        return (
            f"Checked {len(sizes)} files for {self.benchmark}: one 8-bit channel, the images' "
            f"sizes, values {min(allowed)} to {max(allowed)} of its {len(allowed)} classes. Zip "
            "the folder's files to submit them."
        )


def _encode_image(suffix: str, image: Classes, options: Sequence[int] = ()) -> bytes:
    """Return an image, (H, W) or (H, W, 3) BGR, as the content of a file."""
    done, content = cv2.imencode(suffix, np.ascontiguousarray(image), list(options))
    if not done:
        raise ValueError(f"OpenCV cannot write {image.dtype} {image.shape} as {suffix}")
    return content.tobytes()
