"""The database of a sweep's queue: open it for several workers, report its loss in a line."""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from pne_seg.errors import UserError


def open_study(url: str, name: str, heartbeat: int, options: Mapping[str, Any]) -> optuna.Study:
    """Open the study of the highest mIoU in a database, or create it.

    Workers give a sign of life every `heartbeat` seconds; after three times that without one their
    trials are enqueued again. The options are those of `optuna.create_study`.
    """
    sqlite = url.startswith("sqlite")
    try:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            storage = RDBStorage(
                url,
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
                # Seconds to wait for another worker's write.
                engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else None,
            )
        if sqlite:
            _begin_with_a_lock(storage.engine)
        return optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True, **options
        )
    except (SQLAlchemyError, ImportError) as error:
        raise UserError(
            f"storage {without_password(url)}: {_reason(error)}. Expected a database that "
            "can be reached, as sqlite:///runs/study.db or postgresql+pg8000://user@host/database."
        ) from error


@contextlib.contextmanager
def naming_storage(url: str) -> Iterator[None]:
    """Turn the loss of the database, as of a server that goes down, into an error in a line."""
    pool = logging.getLogger("sqlalchemy.pool")  # prints a traceback for every lost connection
    level = pool.level
    pool.setLevel(logging.CRITICAL)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lost: BaseException | None = error
        # Optuna fails in various ways once its database has.
        while lost is not None and not isinstance(lost, SQLAlchemyError):
            lost = lost.__cause__ or lost.__context__
        if lost is None:
            raise
        raise UserError(
            f"storage {without_password(url)}: {_reason(lost)}. What the cells have written so "
            "far stays; the same command resumes once the database is back."
        ) from error
    finally:
        pool.setLevel(level)


def _reason(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())


def without_password(text: str) -> str:
    """Return a text, or if it is a database's address, that without its password."""
    return re.sub(r"(://[^/@\s:]*):[^@\s]*@", r"\1:***@", text)


def _begin_with_a_lock(engine: Engine) -> None:
    """Lock the file from the start of each transaction, as SQLAlchemy's documentation has it.

    SQLite locks at the first write: two workers could both read that a trial is waiting, and both
    take it.
    """

    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # or Python's driver would begin by itself

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    engine.dispose()  # connections made before
