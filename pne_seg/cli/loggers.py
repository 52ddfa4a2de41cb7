"""Loggers by one word or by class: built for the run's folder, under its name.

A setting that the user leaves out, such as `save_dir`, becomes a placeholder before the settings
are parsed, as Lightning requires some of them; the run's folder takes its place when it exists.
"""

import logging
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.cli.failures import naming, one_line
from pne_seg.cli.parser import settings_parser
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError, nearest
from pne_seg.files import write_bytes_atomically
from pne_seg.imports import Imports, imported
from pne_seg.nameable import under
from pne_seg.runs import RUNS, Run, create_run, describe_environment
from pne_seg.settings_files import parse_yaml
from pne_seg.tracking import TrackioLogger, attempt, fault_tolerant

_WORDS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MLFlowLogger,
    "trackio": TrackioLogger,
}
"""Each is also the name of a package and of this project's extra that installs it."""

_DEFAULTS: dict[type[Logger], dict[str, str]] = {
    TensorBoardLogger: {"save_dir": "{folder}", "name": "tensorboard", "version": ""},
    CSVLogger: {"save_dir": "{folder}", "name": "csv", "version": ""},
    WandbLogger: {"save_dir": "{folder}", "project": "{project}", "name": "{name}"},
    MLFlowLogger: {
        "tracking_uri": "{tracking_uri}",
        "experiment_name": "{project}",
        "run_name": "{name}",
        "artifact_location": "{artifacts}",
    },
    TrackioLogger: {"project": "{project}", "name": "{name}"},
}
_NO_FOLDER = {
    TensorBoardLogger: ("name", "version"),
    CSVLogger: ("name", "version"),
    MLFlowLogger: ("tracking_uri", "artifact_location"),
}
"""Defaults to leave out if the user gives a `save_dir`."""


def words_of(settings: Settings) -> list[str]:
    """Return the words of `logger`, which may be a text with commas, after checking them."""
    given = settings.get("logger")
    if isinstance(given, str):
        given = [word.strip(" '\"") for word in given.strip("[] ").split(",")]
    words = [word for word in given or [] if word not in ("", "csv")]  # csv is always on
    for word in words:
        if word not in _WORDS:
            near = nearest(word, _WORDS)
            hint = f"The nearest is {near}. " if near else ""
            raise UserError(
                f"--logger {word}: no logger of that name.{settings.place('logger')}\n  {hint}"
                f"There are {', '.join(_WORDS)}; metrics.csv is always written. For another give "
                "its class: --trainer.logger CLASS"
            )
        # A mere folder of that name, such as W&B creates, has no origin.
        if (spec := find_spec(word)) is None or spec.origin is None:
            raise UserError(f"--logger {word} needs the package: pip install 'pne-seg[{word}]'")
    return list(dict.fromkeys(words))


def set_defaults(settings: Settings) -> None:
    """Fill in placeholders for the settings of `trainer.logger` that the user leaves out."""
    trainer = settings.tree().get("trainer") or {}
    given: Any = settings.get("trainer.logger")
    if isinstance(given, str) and given.startswith("["):
        given = parse_yaml(given, f"--trainer.logger {given}")
    filled = [_filled(one) for one in given] if isinstance(given, list) else _filled(given)
    if filled != given:
        others = {key: value for key, value in trainer.items() if key != "logger+"}
        settings.config = {**settings.config, "trainer": {**others, "logger": filled}}
        settings.overrides = [
            override
            for override in settings.overrides
            if not under(override.key, ("trainer.logger", "trainer.logger+"))
        ]


def _filled(given: Any) -> Any:
    spec: Any = {"class_path": given} if isinstance(given, str) else given
    path = spec.get("class_path") if isinstance(spec, dict) else None
    if not isinstance(path, str):
        return given
    kind = imported(path if "." in path else f"lightning.pytorch.loggers.{path}")
    base = next((k for k in _DEFAULTS if isinstance(kind, type) and issubclass(kind, k)), None)
    if base is None:
        return given
    init_args = spec.get("init_args") or {}
    left_out = {**_DEFAULTS[base]}
    if "save_dir" in init_args:
        left_out = {k: v for k, v in left_out.items() if k not in _NO_FOLDER.get(base, ())}
    if {"tracking_uri", "run_id"} & init_args.keys():
        left_out.pop("artifact_location", None)
    return {**spec, "init_args": {**left_out, **init_args}}


def open_run(root: Path, name: str, config: str) -> tuple[Run, CSVLogger]:
    """Make a run's folder and describe the run there; start the logger of `metrics.csv`."""
    run = create_run(root, name)
    logger = CSVLogger(root / RUNS, name=name, version=run.folder.name)
    _ = logger.experiment  # it warns of a folder that is not empty: open it first
    with naming(run.folder):
        write_bytes_atomically(run.config, config.encode())
        write_bytes_atomically(run.environment, describe_environment().encode())
    return run, logger


def open_loggers(
    words: Sequence[str], given: Sequence[Namespace], run: Run, name: str, imports: Imports
) -> list[Logger]:
    """Build and start the loggers of a run, those of words and those of parsed settings."""
    specs: list[tuple[type[Logger], dict[str, Any]]]
    specs = [(_WORDS[word], {**_DEFAULTS[_WORDS[word]]}) for word in words]
    for one in given:
        kind = imports.resolve(one.class_path, "trainer.logger")
        built = _built(kind, one.get("init_args"))
        specs.append((kind, built | (one.get("dict_kwargs") or {})))
    values = _values(run, name)
    return [_open(kind, arguments, values) for kind, arguments in specs]


def close_loggers(loggers: Sequence[Logger], succeeded: bool) -> None:
    """End W&B's runs, which it would leave open for the next run of this process."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            attempt(logger, logger.experiment.finish, exit_code=0 if succeeded else 1)


def _built(kind: type[Logger], init_args: Any) -> dict[str, Any]:
    """Build what parsed settings of a class name, such as other classes."""
    parser = settings_parser(kind)
    return dict(vars(parser.instantiate_classes(parser.parse_object(init_args or {}))))


def _values(run: Run, name: str) -> dict[str, str | None]:
    """Return what placeholders stand for; the variables of the user's environment win."""
    folder = run.folder.absolute()
    project = re.sub(r"[\\#?%:]", "-", name.partition("/")[0])  # W&B allows none of these
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return {
        "{folder}": str(run.folder),
        "{project}": project,
        "{name}": f"{name}/{folder.name}",
        "{tracking_uri}": uri or f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}",
        "{trackio}": str(folder.parents[name.count("/") + 1] / "trackio"),
        "{artifacts}": None if uri else (folder / "mlflow" / "artifacts").as_uri(),
    }


def _open(kind: type[Logger], arguments: dict[str, Any], values: dict[str, str | None]) -> Logger:
    """Build and start a logger, and say how to look at what it writes here."""
    filled = {key: values.get(str(value), value) for key, value in arguments.items()}
    look = ""
    if issubclass(kind, TensorBoardLogger):
        look = f"tensorboard --logdir {shlex.quote(filled['save_dir'])}"
    elif issubclass(kind, MLFlowLogger) and str(filled["tracking_uri"]).startswith("sqlite:"):
        look = f"mlflow ui --backend-store-uri {shlex.quote(filled['tracking_uri'])}"
    elif issubclass(kind, TrackioLogger):
        # Trackio reads it once per process, so runs share it; its dashboard compares them.
        home = os.environ.setdefault("TRACKIO_DIR", values["{trackio}"] or "")
        look = f"TRACKIO_DIR={shlex.quote(home)} trackio show"
    try:
        with _quick_and_quiet():
            logger = fault_tolerant(kind)(**filled)
            _ = getattr(logger, "experiment", None)  # loggers start when it is asked for
    except Exception as error:  # of any package, network or server
        offline = " WANDB_MODE=offline needs no network." if issubclass(kind, WandbLogger) else ""
        raise UserError(
            f"{kind.__name__} cannot start ({type(error).__name__}: {one_line(error, 160)}). Check "
            f"its server and login, or leave it out.{offline}"
        ) from error
    if look:
        rank_zero_info(f"To look at it: {look}")
    return logger


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Let MLflow call a server only twice if it does not answer, and not report what it creates.

    It also writes the store of a run to the environment, where the next run would take it for the
    user's: what was there is restored.
    """
    levels = {
        logging.getLogger(name): level
        for name, level in (
            ("mlflow.store.db.utils", "WARNING"),
            (MLFlowLogger.__module__, "ERROR"),
        )
    }
    retries = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    variables = {name: os.environ.get(name) for name in (retries, "MLFLOW_TRACKING_URI")}
    os.environ.setdefault(retries, "1")
    before = {logger: logger.level for logger in levels}
    for logger, level in levels.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in before.items():
            logger.setLevel(old)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
