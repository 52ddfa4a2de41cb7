"""The queue in PostgreSQL: a real server, started here where Debian's package is installed."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pne_seg.errors import UserError
from pne_seg.sweep.study import Queue
from tests.sweep.test_sweep import Commands, commands, plan, work  # noqa: F401  # a fixture

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database."""
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    programs = INSTALLED[-1].parent
    # Short, since its socket's path may have 107 bytes only.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if user:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c fsync=off -c listen_addresses=127.0.0.1"
    quiet = {"check": True, "capture_output": True, "cwd": "/", "timeout": 120}
    initialize = [str(programs / "initdb"), "-D", data, "-U", "sweeper", "-A", "trust"]
    control = [str(programs / "pg_ctl"), "-D", data, "-l", str(folder / "log"), "-w"]
    subprocess.run([*user, *initialize], **quiet)  # type: ignore[call-overload]
    subprocess.run([*user, *control, "-o", options, "start"], **quiet)  # type: ignore[call-overload]
    try:
        yield f"postgresql+pg8000://sweeper@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*user, *control, "-m", "immediate", "stop"], check=False, cwd="/")
        shutil.rmtree(folder)


def test_two_workers_share_the_cells(
    tmp_path: Path,
    server: str,
    commands: Commands,  # noqa: F811
) -> None:
    sweep = plan(tmp_path, seeds=range(6), storage=server)
    queues = [Queue(sweep), Queue(sweep)]
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, queues))
    assert len(commands.seen) == 24
    assert set(Counter(commands.seen).values()) == {1}
    assert {state.state for state in queues[0].states()} == {"done"}


def test_a_server_that_is_down_is_an_error_in_a_line(tmp_path: Path, server: str) -> None:
    down = f"{server.rpartition(':')[0]}:1/postgres"  # where nothing listens
    with pytest.raises(UserError, match="Expected a database that can be reached") as error:
        Queue(plan(tmp_path, storage=down))
    assert len(str(error.value).splitlines()) == 1
