"""`sweep` with real cells: killed, stopped, out of disk, and equal to an undisturbed one."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.commands import REPOSITORY, SCENES
from tests.small_disk import small_disk
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

TINY = [
    *("--data.train_size", "16", "--data.val_size", "4", "--data.test_size", "4"),
    *("--data.batch_size", "4", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
    *("--figures.num_images", "0"),
]


def start(folder: Path, *args: str) -> "subprocess.Popen[str]":
    line = [sys.executable, str(REPOSITORY / "cli.py"), "sweep", "--config", str(SCENES)]
    line += ["--set", "model.contrast=PNE,null", "--seeds", "0", "--name", "real", *TINY, *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


EPOCHS = ("--trainer.max_epochs", "4")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert "2 of 2 cells done" in start(folder, *EPOCHS).communicate(timeout=600)[0]
    return folder


def test_a_second_signal_ends_the_cells_at_once(tmp_path: Path) -> None:
    sweep = start(tmp_path, "--trainer.max_epochs", "1000")
    log = tmp_path / "runs" / "real" / "contrast=PNE" / "seed0" / "log.txt"
    wait_for(lambda: log.is_file() and "Run: " in log.read_text(), sweep)
    sweep.send_signal(signal.SIGINT)
    assert sweep.stdout is not None
    while not sweep.stdout.readline().startswith("Stopping"):
        assert sweep.poll() is None
    sweep.send_signal(signal.SIGINT)  # at once: the cells may stop within moments
    text = sweep.communicate(timeout=30)[0]
    assert sweep.returncode == 130, text


def assert_equal_figures(folder: Path, undisturbed: Path) -> None:
    """Compare all figures, bit for bit, and check that each cell was tested once."""
    figures = [
        json.loads((each / "runs" / "real" / "comparison.json").read_text())
        for each in (undisturbed, folder)
    ]
    metrics = [{arm: v["metrics"] for arm, v in each["arms"].items()} for each in figures]
    assert metrics[0] == metrics[1]
    assert figures[0]["differences"] == figures[1]["differences"]
    for arm in ("PNE", "null"):
        tests = [*(folder / "runs" / "real" / f"contrast={arm}").rglob("test/best/metrics.json")]
        assert len(tests) == 1


def kill_with_cells(sweep: "subprocess.Popen[str]") -> None:
    """Kill a sweep and the commands of its cells, as a machine that is switched off does."""

    def children() -> list[str]:
        line = ["pgrep", "-P", str(sweep.pid)]
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout.split()

    wait_for(lambda: bool(children()), sweep)
    found = children()
    sweep.kill()
    for child in found:
        os.kill(int(child), signal.SIGKILL)
    sweep.communicate(timeout=60)


def signs_of_life(study: Path) -> int:
    """Number of cells of which another machine could notice that they were killed."""
    if not study.is_file():
        return 0
    with closing(sqlite3.connect(study, timeout=60)) as database:
        try:
            (count,) = database.execute("SELECT COUNT(*) FROM trial_heartbeats").fetchone()
        except sqlite3.OperationalError:  # the tables are being made
            return 0
    return int(count)


@pytest.mark.parametrize("kills", ["the sweep", "the sweep and its cell"])
def test_a_sweep_that_was_killed_equals_one_that_was_not(
    tmp_path: Path, undisturbed: Path, kills: str
) -> None:
    sweep = start(tmp_path, *EPOCHS)
    wait_for((tmp_path / "runs/real/contrast=PNE/seed0/0/checkpoints/last.ckpt").is_file, sweep)
    if kills == "the sweep and its cell":
        kill_with_cells(sweep)
    else:
        sweep.kill()
        sweep.communicate(timeout=60)
    again = start(tmp_path, *EPOCHS)
    text = again.communicate(timeout=600)[0]
    assert again.returncode == 0, text
    assert "2 of 2 cells done" in text
    assert_equal_figures(tmp_path, undisturbed)


def test_of_two_workers_one_is_killed(tmp_path: Path, undisturbed: Path) -> None:
    workers = [start(tmp_path, *EPOCHS), start(tmp_path, *EPOCHS)]
    cells = tmp_path / "runs" / "real"
    wait_for(lambda: signs_of_life(cells / "study.db") == 2, workers[0])
    kill_with_cells(workers[0])  # whichever cell it has
    text = workers[1].communicate(timeout=600)[0]
    assert workers[1].returncode == 0, text
    assert "2 of 2 cells done" in text
    logs = [file.read_text() for file in cells.rglob("log.txt")]
    assert sum(log.count("== fit ") for log in logs) == 3  # one was trained again
    assert_equal_figures(tmp_path, undisturbed)


def test_a_cell_that_runs_out_of_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "10m"):  # too little for a checkpoint
        sweep = start(tmp_path / "disk", *EPOCHS)
        text = sweep.communicate(timeout=600)[0]
        assert sweep.returncode == 1, text
        for arm in ("PNE", "null"):
            (line,) = re.findall(rf"contrast={arm}/seed0: failed\n  (.+)\n", text)
            assert line.startswith("fit ended with code 2: ")
            assert "No space left on device" in line
        assert "Traceback" not in text
