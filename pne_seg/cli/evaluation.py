"""Where `validate` and `test` write: the same evaluation again in its place, another beside it."""

import hashlib
import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pne_seg.checkpoint_file import read_checkpoint
from pne_seg.errors import UserError
from pne_seg.pretrained.locating import shown_source
from pne_seg.runs import METRICS, Evaluated, run_of_checkpoint
from pne_seg.settings_files import read_json, read_yaml

LOADING_ONLY = ("batch_size", "eval_batch_size", "num_workers", "transforms", "seed", "cache")
"""Settings of the data that no image and no metric depends on."""
_BATCHES = {"validate": "limit_val_batches", "test": "limit_test_batches"}


def plan_evaluation(
    verb: str, evaluated: Evaluated, settings: dict[str, Any], label: str
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an evaluation, and what its `metrics.json` says of their origin.

    Other data or another precision get another folder. `label` is that of `Inference`.
    """
    limit = settings["trainer"][_BATCHES[verb]]
    if limit == 0:
        raise UserError(f"--trainer.{_BATCHES[verb]} 0 leaves nothing to score.")
    model, data = settings["model"], _data(settings)
    normalization = [model["mean"], model["std"]]
    precision = settings["trainer"]["precision"]
    scored = [data, limit, precision, label, model["boundary_widths"], normalization]
    origin: dict[str, Any]
    if evaluated.source is None:
        run, saved = run_of_checkpoint(evaluated.file), None
        with suppress(OSError, UserError):
            saved = None if run is None else read_yaml(run.config)
        origin = {
            "checkpoint": evaluated.name,
            "step": read_checkpoint(evaluated.file).get("global_step"),
            "settings": _digest(scored),
            "same_data": _digest(data) == _digest(_data(saved)),
        }
    else:
        scored += [model["network"]]
        origin = {"weights": shown_source(evaluated.source), "settings": _digest(scored)}
    # A source may be spelled in several ways; the folder's name has a digest of the file.
    identity = {key: value for key, value in origin.items() if key != "weights"}
    return _free(evaluated.output(verb, label), identity), origin


def _data(settings: Any) -> list[Any]:
    """Class and settings of the data, as far as metrics depend on them."""
    slot = settings.get("data") if isinstance(settings, dict) else None
    if not isinstance(slot, dict):
        return []
    given = (slot.get("init_args") or {}).items()
    return [slot.get("class_path"), {key: v for key, v in given if key not in LOADING_ONLY}]


def _digest(values: list[Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _free(wanted: Path, identity: dict[str, Any]) -> Path:
    """Return the folder, or the first of `NAME-2` … without another evaluation's metrics."""
    folder = wanted
    for number in itertools.count(2):
        try:
            found = read_json(folder / METRICS)
        except FileNotFoundError:
            break
        except ValueError:
            found = None  # no file of ours: it stays
        if isinstance(found, dict) and identity.items() <= found.items():
            break
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder
