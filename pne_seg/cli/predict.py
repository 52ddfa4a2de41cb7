"""`predict`: which images, and where the files go."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.cli.arguments import PREDICT_FLAGS
from pne_seg.cli.evaluation import LOADING_ONLY
from pne_seg.cli.mistyped import INTERNAL
from pne_seg.cli.parser import settings_of
from pne_seg.cli.settings import Settings
from pne_seg.data import SegmentationDataModule
from pne_seg.data.data_file import open_file
from pne_seg.description import description_in
from pne_seg.errors import UserError
from pne_seg.inference import Inference
from pne_seg.prediction import InputData
from pne_seg.prediction.input_data import InputDataset
from pne_seg.prediction.manifest import digest
from pne_seg.prediction.outputs import KINDS, Kind, Pictures, Submission
from pne_seg.prediction.prediction_run import PredictionRun
from pne_seg.runs import Evaluated
from pne_seg.trained import build_data

_FOR_INPUT = ("resize_base", "eval_batch_size", "num_workers")
"""Settings of the data that mean something for `--input`, too."""

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
    """Add the settings that only `predict` has."""
    types: dict[str, Any] = {
        "input": str | None,
        "output": str | None,
        "write": Kind | list[Kind],
        "format": Literal["cityscapes", "ade20k"] | None,
        "overwrite": bool,
    }
    defaults: dict[str, Any] = {"write": list(KINDS), "overwrite": False}
    for name, text in PREDICT_FLAGS.items():
        kind, default = types[name], defaults.get(name)
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)


def take_input(settings: Settings, evaluated: Evaluated | None) -> Path | None:
    """Put what `--input` names in the place of the data, and return the folder of `--output`."""
    for key in ("input", "output"):
        if any(given.key == key and not given.value for given in settings.overrides):
            raise UserError(f"--{key} needs a path.")
    # As they were typed: YAML would take '*.jpg' for a reference.
    given, output = settings.pop("input"), settings.pop("output")
    if given is not None and evaluated is not None:
        _replace_data(settings, given, evaluated)
    return Path(output) if output else None


def _replace_data(settings: Settings, given: str, evaluated: Evaluated) -> None:
    """Put `InputData` in the place of the run's data, with what a checkpoint says of these.

    Weights from elsewhere say nothing: there the configured data set does.
    """
    content = read_checkpoint(evaluated.file) if evaluated.source is None else {}
    description = description_in(content, evaluated.file)
    if description is not None:
        _refuse_settings_of_the_run(settings)
    else:
        try:
            description = build_data(settings.tree(), settings.imports).description
        except UserError as error:
            raise UserError(
                f"{evaluated.source or evaluated.file} does not name its classes, so the data of "
                f"its config are needed:\n  {error}"
            ) from error
        settings.overrides = [
            flag
            for flag in settings.overrides
            if flag.key.partition(".")[0] != "data" or flag.key.rpartition(".")[2] in _FOR_INPUT
        ]
    described = json.loads(json.dumps(description.as_dict()))  # lists for tuples, as YAML has them
    trained = settings.config.get("data")
    own = (trained.get("init_args") or {}) if isinstance(trained, dict) else {}
    settings.config["data"] = {
        "class_path": f"{InputData.__module__}.{InputData.__name__}",
        "init_args": {
            "input": given,
            "description": described,
            "resize_base": described["resize_base"],
            **{key: own[key] for key in ("eval_batch_size", "num_workers") if key in own},
        },
    }


def _refuse_settings_of_the_run(settings: Settings) -> None:
    known = settings_of(str(settings.get("data.class_path")))
    for override in settings.overrides:
        group, _, name = override.key.replace(".init_args", "").partition(".")
        if override.key == "data":
            raise UserError(
                "--data names a data set, --input other images in its place. Give one of them; "
                "classes and colors come with the checkpoint."
            )
        if f"{group}.{name}" in INTERNAL:
            raise UserError(f"There is no setting --data.{name}.\n  Give only --input.")
        if group == "data" and name not in _FOR_INPUT and name.partition(".")[0] in known:
            raise UserError(
                f"--data.{name}: with --input the run's data are not read. Leave it out."
            )


def prepare(
    config: Namespace,
    data: SegmentationDataModule,
    weights: Path,
    folder: Path,
    write_is_given: bool,
) -> PredictionRun:
    """Find out what is to be written to a folder; `data` are set up, `weights` is their file."""
    first = next(part for part in (folder, *folder.parents) if part.exists())
    if not first.is_dir():
        raise UserError(f"--output {folder}: {first} is a file. Give a folder.")
    settings = config.as_dict()
    if settings["format"] is not None:
        if write_is_given:
            raise UserError("--format writes the benchmark's files only. Leave --write out.")
        trained_on = data.trained_on if isinstance(data, InputData) else type(data).__name__
        layout: Pictures = Submission(folder, settings["format"], data.class_names, trained_on)
    elif not settings["write"]:
        raise UserError(f"--write []: nothing to write. Give some of {', '.join(KINDS)}.")
    else:
        kinds = [settings["write"]] if settings["write"] in KINDS else settings["write"]
        layout = Pictures(folder, kinds, data.palette, data.ignore_index, data.class_names)
    source = data.split("test")
    if isinstance(source, InputDataset):
        for remark in source.inputs.remarks:
            rank_zero_info(remark)
        if source.videos and "color" in layout.kinds:
            drawn = ", and overlay/VIDEO.mp4" if "overlay" in layout.kinds else ""
            rank_zero_info(
                f"Videos get no files in color/: they get classes/VIDEO/FRAME.png{drawn}."
            )
    origin = _digest_of_settings(settings, data, weights)
    run = PredictionRun(data, layout, origin, settings["overwrite"])
    if there := len(run.targets) - len(run.left):
        rank_zero_info(f"{there} of {len(run.targets)} predictions are there already.")
    return run


def _digest_of_settings(
    settings: dict[str, Any], data: SegmentationDataModule, weights: Path
) -> str:
    """Return a digest of all that predictions depend on, except for the files of images."""
    model, precision = settings["model"], settings["trainer"]["precision"]
    given = model["inference"] or {}
    inference = Inference(**given.get("init_args", given))
    own: dict[str, Any] = {}  # files of --input have no settings
    if not isinstance(data, InputData):
        own = settings["data"].get("init_args") or {}
    return digest(
        settings["data"]["class_path"],
        _text_without(own, LOADING_ONLY),
        open_file(weights).digest(),
        _text_without(model, _WITHOUT_EFFECT),
        # Not how many windows go through the network at a time.
        [inference.window, None if inference.window is None else inference.steps],
        [inference.blend, inference.scales, inference.flip],
        _PRECISIONS.get(str(precision), precision),
        data.resize_base,
        [*data.class_names],
        [*data.palette],
        settings["format"],
    )


def _text_without(settings: dict[str, Any], keys: Sequence[str]) -> str:
    kept = {key: value for key, value in settings.items() if key not in keys}
    return json.dumps(kept, sort_keys=True, default=str)
