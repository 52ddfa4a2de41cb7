"""`predict`: which images, and where the files go."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.cli.evaluation import LOADING_ONLY
from pne_seg.cli.input_data import replace_data
from pne_seg.cli.settings import Settings
from pne_seg.data import SegmentationDataModule
from pne_seg.errors import UserError
from pne_seg.inference import Inference
from pne_seg.prediction import InputData
from pne_seg.prediction.benchmarks import BENCHMARKS, Submission
from pne_seg.prediction.dataset import InputDataset
from pne_seg.prediction.job import Job
from pne_seg.prediction.outputs import KINDS, Kind, Layout, Pictures
from pne_seg.prediction.stamps import digest, digest_of_file
from pne_seg.runs import Evaluated

DESCRIPTION = """\
Write a trained network's predictions of images or videos, or of the data's test split, as PNG files
of class indices, in colour and laid over the images. The same command again goes on where it was
stopped. Exit code 1 where a file could not be read, or its prediction not be written."""

_WITHOUT_EFFECT = (
    *("loss", "extra_losses", "extra_loss_weights", "contrast", "auxiliary", "dropout"),
    *("optimizer", "parameter_groups", "schedule", "init_from", "compile", "boundary_widths"),
    "inference",  # counts as what it means, below
)
"""Settings of the module that no prediction depends on."""

_PRECISIONS = {"None": "32-true", "64": "64-true", "32": "32-true", "16": "16-mixed",
               "bf16": "bf16-mixed"}  # fmt: skip
"""Other spellings of a precision, and what the trainer takes them for."""


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add the settings that `predict` alone has."""
    parser.add_argument(
        "--input",
        type=str | None,
        help="An image, a video, a folder (with those below it) or a quoted glob such as "
        "'photos/**/*.jpg'. Without it the data's test split is predicted.",
    )
    parser.add_argument(
        "--output",
        type=str | None,
        help="Folder for the predictions; RUN/predict/CHECKPOINT where not given.",
    )
    parser.add_argument(
        "--write",
        type=Kind | list[Kind],
        default=list(KINDS),
        help="What to write: classes/NAME.png holds class indices, colour/NAME.png the same with "
        "the data's colours, overlay/NAME.jpg these over the image (of a video: NAME.mp4, without "
        "sound, encoded from classes/NAME/FRAME.png, which are always written).",
    )
    parser.add_argument(
        "--format",
        type=Literal["cityscapes", "ade20k"] | None,
        default=None,
        help="Write what that benchmark's server takes, OUTPUT/NAME.png, and nothing else.",
    )
    parser.add_argument(
        "--overwrite",
        type=bool,
        default=False,
        help="Replace what predict wrote from other sources, weights or settings; other files "
        "never are.",
    )


class Prediction:
    """What `predict` adds to a command.

    Args:
        settings: loaded; `input` and `output` are taken out, and with an input its stand-in takes
            the place of the data.
        evaluated: whose classes, colors and image size the stand-in has; None for the help.

    Attributes:
        output: the folder that was asked for.
        job: what there is to do; None before `prepare`.

    Raises:
        UserError: the checkpoint cannot be read, or settings contradict the input.
    """

    def __init__(self, settings: Settings, evaluated: Evaluated | None) -> None:
        for key in ("input", "output"):
            if any(given.key == key and not given.value for given in settings.overrides):
                raise UserError(f"--{key} needs a path.")
        # As they were typed: YAML would take '*.jpg' for a reference.
        self.input, output = settings.pop("input"), settings.pop("output")
        self.output = Path(output) if output else None
        self.chosen = settings.get("write") is not None
        self.job: Job | None = None
        if self.input is not None and evaluated is not None:
            replace_data(settings, self.input, evaluated)

    def prepare(
        self, config: Namespace, data: SegmentationDataModule, weights: Path, folder: Path
    ) -> Job:
        """Find out what is to be written to a folder.

        Args:
            config: the parsed settings.
            data: set up for prediction.
            weights: their file.
            folder: where to.

        Raises:
            UserError: the settings contradict each other, or files are in the way.
        """
        first = next(part for part in (folder, *folder.parents) if part.exists())
        if not first.is_dir():
            raise UserError(f"--output {folder}: {first} is a file. Give a folder.")
        settings = config.as_dict()
        source = data.split("test")
        images = _without(settings["data"].get("init_args") or {}, LOADING_ONLY)
        precision = settings["trainer"]["precision"]
        maker = digest(
            [
                digest_of_file(weights),
                _text(_without(settings["model"], _WITHOUT_EFFECT)),
                _protocol(settings["model"]["inference"] or {}),
                _PRECISIONS.get(str(precision), precision),
                data.resize_base,
                [*data.class_names],
                [*data.palette],
                settings["format"],
            ]
        )
        layout = self._layout(settings, data, folder)
        if isinstance(source, InputDataset):
            for remark in source.inputs.remarks + _of_videos(source, layout):
                rank_zero_info(remark)
        self.job = Job(
            data,
            layout,
            maker,
            f"{settings['data']['class_path']} {_text(images)}",
            settings["overwrite"],
        )
        there = len(self.job.targets) - len(self.job.left)
        if there:
            rank_zero_info(f"{there} of {len(self.job.targets)} predictions are there already.")
        return self.job

    def _layout(
        self, settings: dict[str, Any], data: SegmentationDataModule, folder: Path
    ) -> Layout:
        if settings["format"] is None:
            if not settings["write"]:
                raise UserError(f"--write []: nothing to write. Give some of {', '.join(KINDS)}.")
            kinds = [settings["write"]] if settings["write"] in KINDS else settings["write"]
            return Pictures(folder, kinds, data.palette, data.ignore_index)
        if self.chosen:
            raise UserError("--format writes the benchmark's files alone. Leave --write out.")
        layout = Submission(folder, BENCHMARKS[settings["format"]])
        trained_on = data.trained_on if isinstance(data, InputData) else type(data).__name__
        layout.check_classes(data.class_names, trained_on)
        return layout

    @property
    def has_work(self) -> bool:
        """Whether the network is needed; all may be there already."""
        return self.job is None or bool(self.job.left)

    def options(self) -> dict[str, Any]:
        """What Lightning's `predict` gets."""
        # Returned predictions would fill the memory.
        given: dict[str, Any] = {"return_predictions": False}
        return given if self.job is None else given | {"datamodule": self.job.remaining()}

    def finish(self, first: bool) -> bool:
        """Finish what was written, and say how it ended; whether every file was predicted.

        Args:
            first: whether this is the first process, which does it.

        Raises:
            UserError: a video cannot be encoded, or a file is not as it must be.
        """
        if self.job is None:  # a dry run
            return True
        if first:
            for _, why in sorted(self.job.unreadable.items()):
                print(f"unreadable: {why}", file=sys.stderr)
            for line in self.job.finish():
                print(line)
            for _, why in sorted(self.job.unwritten.items()):
                print(f"not written: {why}", file=sys.stderr)
        return not self.job.unreadable and not self.job.unwritten

    def stopped(self) -> str:
        """What is said where the user stopped it."""
        if self.job is None:
            return "Stopped."
        there, total = self.job.count_there(), len(self.job.targets)
        return (
            f"Stopped: {there} of {total} predictions are written. The same command goes on from "
            "there."
        )


def _protocol(settings: dict[str, Any]) -> list[object]:
    """What predictions depend on; not how many windows go through the network at a time."""
    inference = Inference(**settings.get("init_args", settings))
    steps = None if inference.window is None else inference.steps
    return [inference.window, steps, inference.blend, inference.scales, inference.flip]


def _of_videos(source: InputDataset, layout: Layout) -> list[str]:
    """What videos do not get of what was asked for."""
    if not source.videos or not isinstance(layout, Pictures) or "colour" not in layout.kinds:
        return []
    drawn = ", and overlay/VIDEO.mp4" if "overlay" in layout.kinds else ""
    return [f"Videos get no files in colour/: they get classes/VIDEO/FRAME.png{drawn}."]


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
