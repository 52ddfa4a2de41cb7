"""Which weights a verb starts from: fresh ones, those of a file, or a run's checkpoint."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.checkpoint_file import check_checkpoint, usable_checkpoint
from pne_seg.cli.settings import Settings
from pne_seg.data.sources import open_file
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned
from pne_seg.imports import is_own
from pne_seg.networks.slot import PRETRAINED
from pne_seg.pretrained.locating import locate
from pne_seg.runs import (
    BEST,
    LAST,
    RUNS,
    Evaluated,
    check_run_name,
    newest_last,
    newest_run,
    open_run,
    run_of_checkpoint,
)

WEIGHTS_HELP = (
    "Weights from elsewhere, for the network of --config: a file, a folder, hf://OWNER/NAME or an "
    "address; mmsegmentation's, transformers' and smp's forms are known."
)


def run_name(settings: Settings) -> str:
    """The run's name: `name` where it is set, else that of the first `--config` file."""
    first = settings.files[0].stem if settings.files else "unnamed"
    return str(settings.get("name") or first)


def checkpoint_to_resume(settings: Settings) -> Path | None:
    """Load the settings of a training; returns the checkpoint that it resumes from, if any.

    `--ckpt_path last` is the latest one of the newest run of the same name.

    Raises:
        UserError: the checkpoint is missing or broken, or other weights are asked for besides.
    """
    fine_tunes = any(override.key == "model.init_from" for override in settings.overrides)
    settings.load()
    resumed = settings.get("ckpt_path")
    if not resumed:
        return None
    if fine_tunes:
        raise UserError(
            "--ckpt_path resumes a run exactly, --model.init_from starts another from its "
            "weights. Give one of them."
        )
    _without_init_from(settings.config)
    if resumed == "last":
        root = Path(settings.get("trainer.default_root_dir") or ".")
        resumed = newest_last(root, run_name(settings))
    checkpoint = usable_checkpoint(Path(resumed))
    # What a kill during a save left there.
    remove_abandoned(checkpoint.with_name(path.name) for path in (BEST, LAST))
    rank_zero_info(f"Resuming from {checkpoint}")
    return checkpoint


def weights_to_score(settings: Settings) -> Evaluated | None:
    """Load the settings of an evaluation; returns the weights that the command line means.

    `--run` also brings the run's config; `--weights` needs one. None where only help is asked for.

    Raises:
        UserError: there is no such run, checkpoint or source, it is broken, or several are given.
    """
    folder, which = settings.pop("run"), settings.pop("ckpt_path")
    weights = settings.pop("weights")
    if weights is not None:
        if folder is not None or which is not None:
            raise UserError(
                "--weights brings weights from elsewhere, --run and --ckpt_path name a run's. Give "
                "one of them."
            )
        if not settings.files:
            raise UserError(
                "--weights needs the config of its network and data: --config FILE, such as "
                "configs/ade20k_upernet_swin.yaml."
            )
    run = open_run(Path(folder)) if folder else None
    if run is None and which is not None and not settings.files:
        run = run_of_checkpoint(Path(which))
    if run is not None:
        settings.files.insert(0, run.config)
        given = settings.get("trainer.default_root_dir")  # the run's config is not read yet
        own = is_own(run.folder, *([Path(given)] if given else []))
        if not own:
            typed = [override.value or "" for override in settings.overrides]
            settings.imports = replace(settings.imports, own=False).trusting(typed)
    settings.load()
    settings.config.pop("ckpt_path", None)  # what the training resumed from
    _without_init_from(settings.config)
    if any(override.value is None for override in settings.overrides):
        return None  # --help or --print_config
    root = Path(settings.get("trainer.default_root_dir") or ".")
    if weights is not None:
        file = locate(weights)
        rank_zero_info(f"Weights: {file}")
        # Other weights may come under the same name, the same ones under another.
        name = f"{_short_name(weights)}-{open_file(file).digest()[:8]}"
        check_run_name(run_name(settings))
        return Evaluated(file, root / RUNS / run_name(settings) / "weights", name, weights)
    if run is not None and which is not None and not Path(which).is_file():
        checkpoint = run.checkpoint(which)
    elif which is not None:
        checkpoint = Path(which)
    elif run is not None:
        checkpoint = run.checkpoint("best")
    else:
        checkpoint = newest_run(root, run_name(settings)).best
    check_checkpoint(checkpoint)
    rank_zero_info(f"Checkpoint: {checkpoint}")
    return Evaluated.of_checkpoint(checkpoint)


def _short_name(source: str) -> str:
    """A folder's name for a source: the last part of a path, the whole of a hub name."""
    plain = source.removeprefix("hf://").partition("?")[0].rstrip("/")
    if not source.startswith("hf://"):
        plain = Path(plain).resolve().name
    return re.sub(r"\.(pth|pt|bin|ckpt|safetensors)$", "", re.sub(r"[/@:\\]+", "_", plain))


def _without_init_from(config: dict[str, Any]) -> None:
    """Drop the file that a fine-tuning began with: the checkpoint overwrites what it brought."""
    model = config.get("model")
    if isinstance(model, dict) and model.get("init_from") is not None:
        model["init_from"] = None


def without_pretrained(network: Namespace) -> None:
    """Drop the encoder's pretrained weights, which a checkpoint overwrites, from a parsed slot."""
    for key in PRETRAINED:
        if network.get("init_args") is not None and network.init_args.get(key) is not None:
            network.init_args[key] = None
