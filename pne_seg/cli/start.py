"""Which weights a verb starts from: fresh ones, those of a file, or a run's checkpoint."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pne_seg.checkpoint_file import check_checkpoint, usable_checkpoint
from pne_seg.cli.settings import Settings
from pne_seg.data.data_file import open_file
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned
from pne_seg.imports import is_own
from pne_seg.pretrained.locating import locate, shown_source
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


def run_name(settings: Settings) -> str:
    """Return the run's name: `name` if it is set, else that of the first `--config` file."""
    first = settings.files[0].stem if settings.files else "unnamed"
    return str(settings.get("name") or first)


def checkpoint_to_resume(settings: Settings, say: Callable[[str], None]) -> Path | None:
    """Load the settings of a training; return the checkpoint that it resumes from, if any.

    `--ckpt_path last` is the latest one of the newest run of the same name. `say` prints a line.
    """
    fine_tunes = any(override.key == "model.init_from" for override in settings.overrides)
    settings.load()
    resumed = settings.get("ckpt_path")
    if not resumed:
        return None
    if fine_tunes:
        raise UserError(
            "--ckpt_path resumes a run, --model.init_from starts another one. Give one of them."
        )
    _without_init_from(settings)
    if resumed == "last":
        resumed = newest_last(settings.root, run_name(settings))
    checkpoint = usable_checkpoint(Path(resumed))
    # What a kill during a save left there.
    remove_abandoned(checkpoint.with_name(path.name) for path in (BEST, LAST))
    say(f"Resuming from {checkpoint}")
    return checkpoint


def weights_to_score(
    settings: Settings, say: Callable[[str], None], verb: str | None = None
) -> Evaluated | None:
    """Load the settings of an evaluation; return the weights that the command line means.

    `--run` also brings the run's config; `--weights` needs one. None if only help is asked for.
    `say` prints a line. The data that `verb` needs are looked for before weights are fetched.
    """
    folder, which = settings.pop("run"), settings.pop("ckpt_path")
    weights = settings.pop("weights")
    if weights is not None and (folder is not None or which is not None):
        raise UserError("--weights takes the place of --run and --ckpt_path. Give one of them.")
    if weights is not None and not settings.files:
        raise UserError("--weights needs the --config of its network and data.")
    run = open_run(Path(folder)) if folder else None
    if run is None and which is not None and not settings.files:
        run = run_of_checkpoint(Path(which))
    if run is not None:
        settings.files.insert(0, run.config)
        # The root of the command line: the run's config is not read yet.
        if not is_own(run.folder, settings.root):
            typed = [override.value or "" for override in settings.overrides]
            settings.imports = replace(settings.imports, own=False).trusting(typed)
    settings.load()
    settings.config.pop("ckpt_path", None)  # what the training resumed from
    _without_init_from(settings)
    if any(override.is_action for override in settings.overrides):
        return None  # --help or --print_config
    name, root = run_name(settings), settings.root
    if weights is not None:
        if "://" in weights:  # half a minute without a network: the hub is asked several times
            if verb is not None and settings.get("input") is None:
                _look_for_data(settings, verb)
            say(f"Looking for {shown_source(weights)}")
        file = locate(weights)
        say(f"Weights: {file}")
        check_run_name(name)
        # Other weights may come under the same name, the same ones under another.
        short = f"{_short_name(weights)}-{open_file(file).digest()[:8]}"
        return Evaluated(file, root / RUNS / name / "weights", short, weights)
    if which is not None and (run is None or Path(which).is_file()):
        checkpoint = Path(which)
    elif run is not None:
        checkpoint = run.checkpoint(which or "best")
    else:
        checkpoint = newest_run(root, name).best
    check_checkpoint(checkpoint)
    say(f"Checkpoint: {checkpoint}")
    return Evaluated.of_checkpoint(checkpoint)


def _look_for_data(settings: Settings, verb: str) -> None:
    from pne_seg.cli.checks import look_for
    from pne_seg.trained import build_data

    try:
        data = build_data(settings.tree(), settings.imports)
    except Exception:  # the parser says better what is wrong with settings
        return
    look_for(data, verb)


def _short_name(source: str) -> str:
    """Name a folder for a source: the last part of a path, the whole of a hub name."""
    plain = source.partition("?")[0].rstrip("/")
    is_hub = plain.startswith("hf://")
    name = plain.removeprefix("hf://") if is_hub else Path(plain).resolve().name
    return re.sub(r"\.(pth|pt|bin|ckpt|safetensors)$", "", re.sub(r"[/@:\\]+", "_", name))


def _without_init_from(settings: Settings) -> None:
    """Drop the file that a fine-tuning began with: the checkpoint overwrites what it brought."""
    model = settings.config.get("model")
    if isinstance(model, dict) and model.get("init_from") is not None:
        model["init_from"] = None
