"""With `predict --input`, images from elsewhere take the place of the run's data."""

import json

from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.cli.mistakes import INTERNAL, settings_of
from pne_seg.cli.settings import Settings
from pne_seg.description import description_in
from pne_seg.errors import UserError
from pne_seg.prediction import InputData
from pne_seg.runs import Evaluated
from pne_seg.trained import build_data

_FOR_INPUT = ("resize_base", "eval_batch_size", "num_workers")
"""Settings of the data that mean something for images from elsewhere."""


def replace_data(settings: Settings, given: str, evaluated: Evaluated) -> None:
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
            override
            for override in settings.overrides
            if override.key.partition(".")[0] != "data"
            or override.key.rpartition(".")[2] in _FOR_INPUT
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
    """Refuse what the run's data would take, and `--input` does not."""
    known = settings_of(str(settings.get("data.class_path")))
    for override in settings.overrides:
        group, _, name = override.key.replace(".init_args", "").partition(".")
        if override.key == "data":
            raise UserError(
                "--data names a data set, --input other images in its place. Give one of them; "
                "classes and colors come with the checkpoint."
            )
        if f"{group}.{name}" in INTERNAL:
            raise UserError(f"There is no setting --data.{name}.\n  Give --input alone.")
        if group == "data" and name not in _FOR_INPUT and name.partition(".")[0] in known:
            raise UserError(
                f"--data.{name}: with --input the run's data are not read. Leave it out."
            )
