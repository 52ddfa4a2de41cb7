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
from pne_seg.data.sources import open_file
from pne_seg.errors import UserError
from pne_seg.inference import Inference
from pne_seg.prediction import InputData
from pne_seg.prediction.input_data import InputDataset
from pne_seg.prediction.manifest import digest
from pne_seg.prediction.outputs import KINDS, Kind, Layout, Pictures
from pne_seg.prediction.prediction_run import PredictionRun
from pne_seg.prediction.submission import Submission
from pne_seg.runs import Evaluated

DESCRIPTION = """\
Write a trained network's predictions of images or videos, or of the data's test split, as PNG files
of class indices, in color and laid over the images. The same command again resumes where it was
stopped. Exit code 1 if a file could not be read, or its prediction not be written."""

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
        help="Folder for the predictions; RUN/predict/CHECKPOINT by default.",
    )
    parser.add_argument(
        "--write",
        type=Kind | list[Kind],
        default=list(KINDS),
        help="What to write: classes/NAME.png holds class indices, color/NAME.png the same with "
        "the data's colors, overlay/NAME.jpg these over the image (of a video: NAME.mp4, without "
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
        settings: loaded; `input` and `output` are taken out, and with an input `InputData` takes
            the place of the data.
        evaluated: whose classes, colors and image size it has; None for the help.

    Attributes:
        output: the folder that was asked for.
        run: what there is to do; None before `prepare`.

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
        self.write_is_given = settings.get("write") is not None
        self.run: PredictionRun | None = None
        if self.input is not None and evaluated is not None:
            replace_data(settings, self.input, evaluated)

    def prepare(
        self, config: Namespace, data: SegmentationDataModule, weights: Path, folder: Path
    ) -> PredictionRun:
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
        layout = self._layout(settings, data, folder)
        source = data.split("test")
        if isinstance(source, InputDataset):
            for remark in source.inputs.remarks:
                rank_zero_info(remark)
            if source.videos and isinstance(layout, Pictures) and "color" in layout.kinds:
                drawn = ", and overlay/VIDEO.mp4" if "overlay" in layout.kinds else ""
                rank_zero_info(
                    f"Videos get no files in color/: they get classes/VIDEO/FRAME.png{drawn}."
                )
        self.run = PredictionRun(
            data,
            layout,
            _digest_of_settings(settings, data, weights),
            settings["overwrite"],
        )
        there = len(self.run.targets) - len(self.run.left)
        if there:
            rank_zero_info(f"{there} of {len(self.run.targets)} predictions are there already.")
        return self.run

    def _layout(
        self, settings: dict[str, Any], data: SegmentationDataModule, folder: Path
    ) -> Layout:
        if settings["format"] is None:
            if not settings["write"]:
                raise UserError(f"--write []: nothing to write. Give some of {', '.join(KINDS)}.")
            kinds = [settings["write"]] if settings["write"] in KINDS else settings["write"]
            return Pictures(folder, kinds, data.palette, data.ignore_index)
        if self.write_is_given:
            raise UserError("--format writes the benchmark's files only. Leave --write out.")
        layout = Submission(folder, settings["format"])
        trained_on = data.trained_on if isinstance(data, InputData) else type(data).__name__
        layout.check_classes(data.class_names, trained_on)
        return layout

    @property
    def has_work(self) -> bool:
        """Whether the network is needed; all may be there already."""
        return self.run is None or bool(self.run.left)

    def options(self) -> dict[str, Any]:
        """Return what Lightning's `predict` gets."""
        # Returned predictions would fill the memory.
        given: dict[str, Any] = {"return_predictions": False}
        return given if self.run is None else given | {"datamodule": self.run.remaining()}

    def finish(self, first: bool) -> bool:
        """Finish what was written and report how it ended.

        Args:
            first: whether this is the first process, which does it.

        Returns:
            Whether every file was predicted.

        Raises:
            UserError: a video cannot be encoded, or a file is not as a submission needs it.
        """
        if self.run is None:  # a dry run
            return True
        if first:
            for _, reason in sorted(self.run.unreadable.items()):
                print(f"unreadable: {reason}", file=sys.stderr)
            for line in self.run.finish():
                print(line)
            for reason in self.run.unwritten.values():
                print(f"not written: {reason}", file=sys.stderr)
        return not self.run.unreadable and not self.run.unwritten

    def stopped(self) -> str:
        """Return what is printed when the user stops it."""
        if self.run is None:
            return "Stopped."
        there, total = self.run.count_there(), len(self.run.targets)
        return (
            f"Stopped: {there} of {total} predictions are written. The same command resumes from "
            "there."
        )


def _digest_of_settings(
    settings: dict[str, Any], data: SegmentationDataModule, weights: Path
) -> str:
    """Return a digest of all that predictions depend on, except for the files of images."""
    model, precision = settings["model"], settings["trainer"]["precision"]
    given = model["inference"] or {}
    inference = Inference(**given.get("init_args", given))
    images = {}  # files of --input have no settings
    if not isinstance(data, InputData):
        images = _without(settings["data"].get("init_args") or {}, LOADING_ONLY)
    return digest(
        settings["data"]["class_path"],
        _text(images),
        open_file(weights).digest(),
        _text(_without(model, _WITHOUT_EFFECT)),
        # Not how many windows go through the network at a time.
        [inference.window, None if inference.window is None else inference.steps],
        [inference.blend, inference.scales, inference.flip],
        _PRECISIONS.get(str(precision), precision),
        data.resize_base,
        [*data.class_names],
        [*data.palette],
        settings["format"],
    )


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
