"""The files that the servers of benchmarks take: one PNG of label values for each image."""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pne_seg.data.classes import class_list
from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.prediction.inputs import check_names
from pne_seg.prediction.manifest import MANIFEST
from pne_seg.prediction.outputs import Classes, Layout, Target, encode_image

_NAMES = {
    # The official scripts find a file by its city, sequence and frame.
    "cityscapes": (r"[A-Za-z-]+_\d{6}_\d{6}(?![^_])", "berlin_000000_000019_leftImg8bit"),
    "ade20k": (r"ADE_[a-z]+_\d{8}$", "ADE_test_00000001"),
}
"""How an image's name begins, which must be unique, and an example, by the benchmark's name."""


class Submission(Layout):
    """`NAME.png` with one 8-bit channel of the benchmark's label values, and nothing else.

    The manifest lies beside the folder, which can be zipped as it is.

    Args:
        folder: where they go.
        benchmark: `cityscapes` or `ade20k`, which is also the name of its class list.
    """

    def __init__(self, folder: Path, benchmark: str) -> None:
        self.folder = folder
        place = folder.resolve()
        self.manifest = place.parent / f"{place.name}.{MANIFEST}"
        self.benchmark = benchmark
        self.values = np.asarray(class_list(benchmark).labels, np.uint8)

    def paths(self, target: Target) -> list[Path]:
        """Return one file, whatever folder the image lies in."""
        return [self.folder / f"{target.name.rpartition('/')[2]}.png"]

    def encode(self, path: Path, classes: Classes, image: Pixels | None) -> bytes:  # noqa: ARG002
        """Encode as PNG."""
        return encode_image(".png", self.values[classes])

    def check_classes(self, class_names: Sequence[str], data: str) -> None:
        """Refuse a network for other classes.

        Raises:
            UserError: the names are others, or in another order.
        """
        expected = class_list(self.benchmark).names
        if tuple(class_names) == expected:
            return
        message = f"--format {self.benchmark} needs its {len(expected)} classes in order; "
        if len(class_names) != len(expected):
            message += f"the network was trained on {data}, with {len(class_names)}."
        else:
            pairs = zip(class_names, expected, strict=True)
            index = next(index for index, (name, other) in enumerate(pairs) if name != other)
            message += (
                f"class {index} of {data} is {class_names[index]!r}, not {expected[index]!r}."
            )
        raise UserError(f"{message} Leave --format out, or take a run on that data set.")

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Refuse sources that the server would not know, and other files in the folder.

        Raises:
            UserError: a video, a name that does not fit or that two share, or another file.
        """
        pattern, example = _NAMES[self.benchmark]
        keys: list[str] = []
        for target in targets:
            found = re.match(pattern, target.name.rpartition("/")[2])
            if found is None or target.is_frame:
                raise UserError(
                    f"{target.source}: --format {self.benchmark} needs images named as the "
                    f"benchmark's, such as {example}. Give its images under their own names, or "
                    "leave --format out."
                )
            keys.append(found[0])
        check_names(keys, [target.source for target in targets])
        expected = {path.name for target in targets for path in self.paths(target)}
        found_names = (path.name for path in self.folder.glob("*"))
        others = sorted(
            name for name in found_names if name not in expected and not name.endswith(".tmp")
        )
        if others:
            raise UserError(
                f"--output {self.folder} holds other files ({others[0]}), which would go into "
                "the zip with the predictions. Choose a new folder."
            )

    def check_files(self, sizes: dict[Path, tuple[int, int]]) -> str:
        """Read the files back, as the server would.

        Args:
            sizes: height and width that each file must have.

        Returns:
            What was checked, in a line.

        Raises:
            UserError: a file is not as the server expects it.
        """
        allowed = {*self.values.tolist()}
        for path, size in sizes.items():
            found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if found is None or found.ndim != 2 or found.dtype != np.uint8:
                raise UserError(f"{path}: no PNG of one 8-bit channel. Remove it and start again.")
            if found.shape != size:
                raise UserError(
                    f"{path} is {found.shape} (height, width), its image {size}. Remove it and "
                    "start again."
                )
            wrong = {*np.flatnonzero(np.bincount(found.ravel())).tolist()} - allowed
            if wrong:
                raise UserError(f"{path} holds {min(wrong)}. Remove it and start again.")
        return (
            f"Checked {len(sizes)} files for {self.benchmark}: one 8-bit channel, the images' "
            f"sizes, values {min(allowed)} to {max(allowed)} of its {len(allowed)} classes. Zip "
            "the folder's files to submit them."
        )
