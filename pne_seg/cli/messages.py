"""Lightning's messages during a command: no advertising, and the progress bar stays intact."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SILENT = {
    "setup": "missing accelerators; the command names the one it uses",
    "logger_connector": "advertises a logger",
    "callback_connector": "advertises a hub",
    "checkpoint_connector": "the checkpoint, which the command has named",
    "trainer": "how the number of steps is found",
}
"""Modules of Lightning whose remarks do not help, and what these are."""


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
