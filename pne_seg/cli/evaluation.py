"""Where `validate` and `test` write: the same evaluation again in its place, another beside it."""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.errors import UserError
from pne_seg.pretrained.locating import shown_source
from pne_seg.runs import METRICS, Evaluated, run_of_checkpoint
from pne_seg.settings_files import read_json, read_yaml

LOADING_ONLY = ("batch_size", "eval_batch_size", "num_workers", "transforms", "seed", "cache")
"""Settings of the data that no image and no score depends on."""
_BATCHES = {"validate": "limit_val_batches", "test": "limit_test_batches"}


class Evaluation:
    """One scoring of a checkpoint, or of weights from elsewhere.

    Args:
        verb: `validate` or `test`.
        evaluated: what is scored.
        config: the parsed settings.
        label: of the protocol, `Inference.label`.

    Attributes:
        folder: where it writes; with other data or another precision, say, another folder.
        origin: what its `metrics.json` says of where the scores come from: `checkpoint`, its
            `step`, a digest of the `settings`, and whether the data are the training's
            (`same_data`); of weights from elsewhere their source (`weights`) in place of the step.

    Raises:
        UserError: the settings leave nothing to score, or the checkpoint cannot be read.
    """

    def __init__(self, verb: str, evaluated: Evaluated, config: Namespace, label: str) -> None:
        settings = config.as_dict()
        limit = settings["trainer"][_BATCHES[verb]]
        if limit == 0:
            raise UserError(f"--trainer.{_BATCHES[verb]} 0 leaves nothing to score.")
        precision, widths = settings["trainer"]["precision"], settings["model"]["boundary_widths"]
        data = _data(settings)
        normalization = [settings["model"][name] for name in ("mean", "std")]
        scored = [data, limit, precision, label, widths, normalization]
        if evaluated.source is None:
            saved = _data(_saved(evaluated.file))
            self.origin: dict[str, Any] = {
                "checkpoint": evaluated.name,
                "step": read_checkpoint(evaluated.file).get("global_step"),
                "settings": _digest(scored),
                "same_data": _digest(data) == _digest(saved),
            }
        else:
            scored += [settings["model"]["network"]]
            self.origin = {"weights": shown_source(evaluated.source), "settings": _digest(scored)}
        # A source may be spelled in several ways; the folder's name has a digest of the file.
        identity = {key: value for key, value in self.origin.items() if key != "weights"}
        self.folder = _free(evaluated.output(verb, label), identity)


def _data(settings: Any) -> list[Any]:
    """Class and settings of the data, as far as scores depend on them."""
    slot = settings.get("data") if isinstance(settings, dict) else None
    if not isinstance(slot, dict):
        return []
    own = (slot.get("init_args") or {}).items()
    kept = {key: value for key, value in own if key not in LOADING_ONLY}
    return [slot.get("class_path"), kept]


def _saved(checkpoint: Path) -> Any:
    """The settings of the training; none where the checkpoint lies in no run."""
    run = run_of_checkpoint(checkpoint)
    if run is None:
        return None
    try:
        return read_yaml(run.config)
    except (OSError, UserError):
        return None


def _digest(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _free(wanted: Path, origin: dict[str, Any]) -> Path:
    """The folder, or the first of `NAME-2`, `NAME-3` … that holds no other evaluation's scores."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            found = read_json(folder / METRICS)
        except FileNotFoundError:
            return folder
        except ValueError:
            continue  # no file of ours: it stays
        if isinstance(found, dict) and origin.items() <= found.items():
            return folder
    raise AssertionError("count() does not end")
