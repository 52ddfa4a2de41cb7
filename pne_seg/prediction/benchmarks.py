"""The files that the benchmarks' servers take: one PNG of label values for each image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pne_seg.data.classes import class_list
from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.prediction.inputs import check_names
from pne_seg.prediction.outputs import Classes, Layout, Target, encoded


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What a server wants.

    Attributes:
        name: of its class list.
        pattern: how a file's name begins; the part that must be unique.
        example: such a name.
    """

    name: str
    pattern: re.Pattern[str]
    example: str


BENCHMARKS = {
    # The official scripts find a file by its city, sequence and frame.
    "cityscapes": Benchmark(
        "cityscapes",
        re.compile(r"[A-Za-z-]+_\d{6}_\d{6}(?![^_])"),
        "berlin_000000_000019_leftImg8bit",
    ),
    "ade20k": Benchmark("ade20k", re.compile(r"ADE_[a-z]+_\d{8}$"), "ADE_test_00000001"),
}
"""By the name that `--format` takes."""


class Submission(Layout):
    """`NAME.png` with one 8-bit channel of the benchmark's own label values, and nothing else.

    Args:
        folder: where to, ready to be zipped.
        benchmark: whose.
    """

    pictures = False

    def __init__(self, folder: Path, benchmark: Benchmark) -> None:
        self.folder = folder
        self.benchmark = benchmark
        self.values = np.asarray(class_list(benchmark.name).labels, np.uint8)

    def paths(self, target: Target) -> list[Path]:
        """One file, whatever folder the image lies in."""
        return [self.folder / f"{target.name.rpartition('/')[2]}.png"]

    def encode(self, path: Path, classes: Classes, picture: Pixels | None) -> bytes:  # noqa: ARG002
        """A PNG."""
        return encoded(".png", self.values[classes])

    def check_classes(self, class_names: Sequence[str], data: str) -> None:
        """Refuse a network for other classes.

        Raises:
            UserError: the names are others, or in another order.
        """
        wanted = class_list(self.benchmark.name).names
        if tuple(class_names) == wanted:
            return
        said = f"--format {self.benchmark.name} needs its {len(wanted)} classes in order; "
        if len(class_names) != len(wanted):
            said += f"the network was trained on {data}, with {len(class_names)}."
        else:
            pairs = zip(class_names, wanted, strict=True)
            place = next(place for place, (name, other) in enumerate(pairs) if name != other)
            said += f"class {place} of {data} is {class_names[place]!r}, not {wanted[place]!r}."
        raise UserError(f"{said} Leave --format out, or take a run on that data set.")

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Refuse sources that the server would not know, and other files in the folder.

        Raises:
            UserError: a video, a name that does not fit or that two share, or another file.
        """
        names = [target.name.rpartition("/")[2] for target in targets]
        keys: list[str] = []
        for name, target in zip(names, targets, strict=True):
            found = self.benchmark.pattern.match(name)
            if found is None or target.is_frame:
                raise UserError(
                    f"{target.source}: --format {self.benchmark.name} needs images named as the "
                    f"benchmark's, such as {self.benchmark.example}. Give its images under their "
                    "own names, or leave --format out."
                )
            keys.append(found[0])
        check_names(keys, [target.source for target in targets])
        expected = {path.name for target in targets for path in self.paths(target)}
        if self.folder.is_dir():
            others = sorted(
                path.name
                for path in self.folder.iterdir()
                if path.name not in expected and not path.name.endswith(".tmp")
            )
            if others:
                raise UserError(
                    f"--output {self.folder} holds other files ({others[0]}), which would go into "
                    "the zip with the predictions. Choose a new folder."
                )

    def check_files(self, sizes: dict[Path, tuple[int, int]]) -> str:
        """Read what was written back, as the server would.

        Args:
            sizes: height and width that each file must have.

        Returns:
            What was found, a line.

        Raises:
            UserError: a file is not as it must be.
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
            f"Checked {len(sizes)} files for {self.benchmark.name}: one 8-bit channel, the images' "
            f"sizes, values {min(allowed)} to {max(allowed)} of its {len(allowed)} classes. Zip "
            "the folder's files to submit them."
        )
