"""The queue in PostgreSQL: a real server, started here where Debian's package is installed."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pne_seg.errors import UserError
from pne_seg.sweep import study
from pne_seg.sweep.study import Queue
from tests.sweep.test_sweep import (
    EACH_ONCE,
    Commands,
    commands,  # noqa: F401  # a fixture
    plan,
    run_main,
    work,
)

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="PostgreSQL is not installed"),
]


class Server:
    """A PostgreSQL server with an empty database, below a folder of its own."""

    def __init__(self) -> None:
        # PostgreSQL refuses to run as root.
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        # Short, since its socket's path may have 107 bytes only.
        self._folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        if self._user:
            shutil.chown(self._folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"postgresql+pg8000://sweeper@127.0.0.1:{port}/postgres"
        self._options = f"-p {port} -k {self._folder} -c fsync=off -c listen_addresses=127.0.0.1"
        self._run("initdb", "-U", "sweeper", "-A", "trust")
        self.start()

    def _run(self, program: str, *args: str) -> None:
        command = [str(INSTALLED[-1].parent / program), "-D", str(self._folder / "data"), *args]
        subprocess.run(
            [*self._user, *command], check=True, capture_output=True, cwd="/", timeout=120
        )

    def start(self) -> None:
        self._run("pg_ctl", "-l", str(self._folder / "log"), "-w", "-o", self._options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        shutil.rmtree(self._folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    try:
        yield started
    finally:
        started.stop()
        started.remove()


def test_two_workers_share_the_cells(
    tmp_path: Path,
    server: Server,
    commands: Commands,  # noqa: F811
) -> None:
    sweep = plan(tmp_path, seeds=range(6), storage=server.url)
    queues = [Queue(sweep), Queue(sweep)]
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, queues))
    assert len(commands.seen) == 24
    assert set(Counter(commands.seen).values()) == {1}
    assert {state.state for state in queues[0].states()} == {"done"}


def test_a_server_that_is_down_is_an_error_in_a_line(tmp_path: Path, server: Server) -> None:
    down = f"{server.url.rpartition(':')[0]}:1/postgres"  # where nothing listens
    with pytest.raises(UserError, match="Expected a database that can be reached") as error:
        Queue(plan(tmp_path, storage=down))
    assert len(str(error.value).splitlines()) == 1


def test_a_server_that_goes_down_is_an_error_in_a_line(
    tmp_path: Path,
    server: Server,
    commands: Commands,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "HEARTBEAT", 1)
    (tmp_path / "base.yaml").write_text("{}")
    line = ["--config", "base.yaml", "--set", "model.contrast=null,PNE", "--seeds", "0,1"]
    line += ["--name", "down", "--storage", server.url.replace("sweeper@", "sweeper:secret@")]

    def stop() -> None:
        time.sleep(2)  # a thread of Optuna's writes the trial's first sign of life
        server.stop()

    commands.before_third = stop
    try:
        assert run_main(*line) == 2
    finally:
        server.start()
    error = capsys.readouterr().err
    assert "storage postgresql+pg8000://sweeper:***@127.0.0.1" in error
    assert "the same command resumes once the database is back" in error
    assert len(error.splitlines()) == 1
    assert run_main(*line) == 0
    assert "4 of 4 cells done" in capsys.readouterr().out
    # The cell that ran when the server went down had been trained, and was read from its folder.
    assert Counter(commands.seen) == EACH_ONCE
