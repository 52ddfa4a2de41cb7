"""Messages on the command line: flags in place of arguments, and what is shown of Lightning's."""

import json
import logging
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_SILENT = {
    "setup": "missing accelerators; the command names the one it uses",
    "logger_connector": "advertises a logger",
    "callback_connector": "advertises a hub",
    "checkpoint_connector": "the checkpoint, which the command has named",
    "trainer": "how the number of steps is found",
}
"""Modules of Lightning whose remarks do not help, and what these are."""


def as_flags(arguments: Mapping[str, Any]) -> str:
    """Write arguments of the data as flags to paste, such as `--data.ignore_values '[11]'`."""
    flags = []
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        between = "=" if text.startswith("-") else " "  # otherwise it would be a flag
        flags.append(f"--data.{name}{between}{shlex.quote(text)}")
    return " ".join(flags)


class _Stderr(logging.Handler):
    """Write to `sys.stderr` as it is at the time: a progress bar takes its place while it shows."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _helps(record: logging.LogRecord) -> bool:
    is_remark = record.levelno == logging.INFO and record.module in _SILENT
    return not (is_remark and "lightning" in record.pathname)


@contextmanager
def lightning_messages() -> Iterator[None]:
    """Leave out Lightning's remarks that do not help; print the others above a progress bar."""
    remarks = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    before = [list(logger.handlers) for logger in loggers]
    remarks.addFilter(_helps)
    for logger in loggers:
        # None if the caller has set up logging: then the root logger writes.
        if any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            logger.handlers = [_Stderr()]
    try:
        yield
    finally:
        remarks.removeFilter(_helps)
        for logger, handlers in zip(loggers, before, strict=True):
            logger.handlers = handlers
