"""Experiment trackers: figures, tables and settings in all of them, and errors that end no run."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from PIL import Image

_CALLS = (
    *("log_metrics", "log_hyperparams", "log_image", "log_table", "log_graph"),
    *("save", "finalize", "after_save_checkpoint"),
)
_PREFIX = "_FaultTolerant"


class TrackioLogger(Logger):
    """Log to Trackio, a local tracker with a dashboard (`trackio show`).

    Args:
        project: name of the project, whose runs the dashboard compares.
        name: name of the run; if None, Trackio chooses one.
        **settings: further settings of `trackio.init`, such as `space_id`.
    """

    def __init__(self, project: str, name: str | None = None, **settings: Any) -> None:
        super().__init__()
        self._settings = {"project": project, "name": name, "embed": False, **settings}
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project's name."""
        return str(self._settings["project"])

    @property
    def version(self) -> str | None:
        """The run's name."""
        name: str | None = self._settings["name"] if self._run is None else self._run.name
        return name

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `trackio.Run`, started when it is first asked for."""
        if self._run is None:
            import trackio

            self._run = trackio.init(**self._settings)
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log values at a step."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Store settings with the run."""
        self.experiment.config.update(params)

    def log_image(self, key: str, images: Sequence[str], step: int | None = None) -> None:
        """Log image files."""
        import trackio

        for image in images:
            self.log_metrics({key: trackio.Image(image)}, step)

    def log_table(
        self, key: str, columns: list[str], data: list[list[Any]], step: int | None = None
    ) -> None:
        """Log a table."""
        import trackio

        self.log_metrics({key: trackio.Table(columns=columns, data=data)}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write out what is still queued."""
        if self._run is not None:
            import trackio

            trackio.finish()


def logged_step(trainer: Trainer) -> int:
    """Return the step number under which Lightning logs now, as in `metrics.csv`."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def log_figure(loggers: Iterable[Logger], file: Path, step: int) -> None:
    """Show a figure's PNG file in every tracker that shows images, as `figures/<name>`."""
    name = f"figures/{file.stem}"
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
            attempt(logger, logger.experiment.add_image, name, pixels, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            with Image.open(file) as image:
                image.load()
            add = logger.experiment.log_image
            attempt(logger, add, logger.run_id, image, key=name, step=step)
        elif isinstance(logger, WandbLogger | TrackioLogger):
            logger.log_image(name, [str(file)], step=step)


def log_table(
    loggers: Iterable[Logger], name: str, columns: list[str], rows: list[list[Any]], step: int
) -> None:
    """Show a table of texts and numbers, NaN for none, in every tracker that has tables."""
    clean = [[None if value != value else value for value in row] for row in rows]
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):  # it shows only text
            attempt(logger, logger.experiment.add_text, name, _markdown(columns, clean), step)
        elif isinstance(logger, MLFlowLogger):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([columns, *clean])
            file = f"tables/{name}.csv"
            attempt(logger, logger.experiment.log_text, logger.run_id, text.getvalue(), file)
        elif isinstance(logger, WandbLogger | TrackioLogger):
            logger.log_table(f"tables/{name}", columns, clean, step=step)


def log_settings(loggers: Iterable[Logger], settings: Mapping[str, Any]) -> None:
    """Show settings, nested by name, flat in every tracker."""
    flat = dict(_flat(settings))
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.hparams = flat
            attempt(logger, _log_tensorboard_settings, logger.experiment, flat)
        else:
            logger.log_hyperparams(flat)


def fault_tolerant(kind: type[Logger]) -> type[Logger]:
    """Derive a logger class whose errors do not end a run.

    The first error is reported, and the logger is not used again: each call of a server that does
    not answer may take long. The values remain in `metrics.csv`.
    """
    methods = {name: _guarded(getattr(kind, name)) for name in _CALLS if hasattr(kind, name)}
    # Under its own name, a setting that names the class would be ambiguous.
    return type(f"{_PREFIX}{kind.__name__}", (kind,), methods)


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Logger, *args: Any, **kwargs: Any) -> None:
        attempt(self, method, self, *args, **kwargs)

    return call


def attempt(logger: Logger, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a function that logs, unless the logger has failed before; report its first failure."""
    if getattr(logger, "has_failed", False):
        return
    try:
        action(*args, **kwargs)
    except Exception as error:  # of any package, network or server
        logger.has_failed = True  # type: ignore[attr-defined]
        name = type(logger).__name__.removeprefix(_PREFIX)
        rank_zero_warn(
            f"{name} failed and gets no further values; the run continues, and "
            f"its folder has all of them. {type(error).__name__}: {str(error)[:300]}"
        )


def _log_tensorboard_settings(writer: Any, settings: dict[str, Any]) -> None:
    # `log_hyperparams` would also log a value of the metric, which the run logs itself.
    package = type(writer).__module__.rpartition(".")[0]  # PyTorch's or tensorboardX
    plain = {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in settings.items()
    }
    for summary in import_module(f"{package}.summary").hparams(plain, {"val/mIoU": math.nan}):
        writer._get_file_writer().add_summary(summary)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value


def _markdown(columns: list[str], rows: list[list[Any]]) -> str:
    shown = [[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in r] for r in rows]
    lines = [columns, ["---"] * len(columns), *shown]
    return "\n".join(" | ".join(cell.replace("|", "&#124;") for cell in row) for row in lines)
