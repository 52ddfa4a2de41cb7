"""Trainings that are stopped by signals, killed, and started again: nothing is lost or changed."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pne_seg.checkpoint_file import previous_checkpoint, read_checkpoint, usable_checkpoint
from tests.cli.commands import REPOSITORY, TINY, write_config
from tests.tiny_networks import same_tensors
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="POSIX signals"),
]

KILLS = int(os.environ.get("PNE_SEG_KILLS", "5"))
"""Of a run, or of a save, at random moments; more for a measurement."""

STEPS = 18
CONFIG = (
    TINY.replace("train_size: 8", "train_size: 24")
    .replace("val_size: 3", "val_size: 12, eval_batch_size: 1")  # time for a signal
    .replace("max_epochs: 1", "max_epochs: 3")
)


def environment(slow: float = 0.0) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "SLOW": str(slow)}
    return {**os.environ, **own}


def fit(folder: Path, *args: object, slow: float = 0.0) -> "subprocess.Popen[str]":
    """Start a training in a group of processes of its own."""
    command = [sys.executable, str(REPOSITORY / "cli.py"), "fit", "--config", "tiny.yaml"]
    return subprocess.Popen(
        [*command, "--figures.num_images", "0", *map(str, args)],
        cwd=folder,
        env=environment(slow),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for a training's end; returns what it printed."""
    out, _ = process.communicate(timeout=300)
    assert process.returncode == code, out[-3000:]
    assert not is_alive(process.pid), "a process of its group is left"
    return out


def is_alive(group: int, patience: float = 10.0) -> bool:
    """Whether a process of a group is there, after some time to end in."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def rows(folder: Path) -> dict[tuple[int, bool], dict[str, str]]:
    """Rows of all runs below a folder, by step and kind; a later run must write the same."""
    found: dict[tuple[int, bool], dict[str, str]] = {}
    for file in sorted(folder.glob("runs/tiny/*/metrics.csv"), key=lambda f: int(f.parent.name)):
        with file.open(newline="") as opened:
            for row in csv.DictReader(opened):
                kept = {key: value for key, value in row.items() if value}
                if "step" not in kept or not kept.get("epoch"):
                    continue  # half a row: it was killed there
                key = int(kept["step"]), "val/loss" in kept
                assert found.setdefault(key, kept) == kept
    return found


def last(folder: Path, version: int = 0) -> Path:
    return folder / "runs" / "tiny" / str(version) / "checkpoints" / "last.ckpt"


def versions(folder: Path) -> set[int]:
    return {int(run.name) for run in folder.glob("runs/tiny/*")}


def weights(checkpoint: Path) -> dict[str, Any]:
    return dict(read_checkpoint(checkpoint)["state_dict"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody stopped: 18 steps, a validation after every six."""
    folder = tmp_path_factory.mktemp("straight")
    config = CONFIG.replace("class_path: tests.tiny_networks.TinyNet",
                            "class_path: tests.tiny_networks.SlowNet")  # fmt: skip
    write_config(folder / "tiny.yaml", config)
    finish(fit(folder))
    return folder


def copied(straight: Path, folder: Path) -> Path:
    shutil.copy(straight / "tiny.yaml", folder)
    return folder


@pytest.mark.parametrize(
    ("signum", "code", "in_validation", "workers"),
    [
        (signal.SIGTERM, 143, False, 2),
        (signal.SIGINT, 130, True, 0),
        (signal.SIGINT, 130, False, 2),
        (signal.SIGTERM, 143, True, 2),
    ],
)
def test_a_signal_ends_the_step_and_saves(
    straight: Path,
    tmp_path: Path,
    signum: signal.Signals,
    code: int,
    in_validation: bool,
    workers: int,
) -> None:
    folder = copied(straight, tmp_path)
    running = fit(folder, "--data.num_workers", workers, slow=0.8)
    steps = 6 if in_validation else 2  # the first validation comes after six
    wait_for(lambda: len(rows(folder)) >= steps, running)
    sent = time.monotonic()
    os.killpg(running.pid, signum)  # to the workers too, as a terminal or SLURM does
    said = finish(running, code)
    assert time.monotonic() - sent < 20  # it is a second or two where the processors are free
    assert f"Stopped by {signum.name} after step" in said
    assert "Traceback" not in said
    assert f"ckpt_path={Path('runs/tiny/0/checkpoints/last.ckpt')}" in said
    saved = read_checkpoint(last(folder))
    assert saved["global_step"] >= steps
    assert saved["position"]["validation_due"] == in_validation
    resumed = finish(fit(folder, "--ckpt_path", "last"))
    assert "Resuming from runs/tiny/0/checkpoints/last.ckpt" in resumed
    assert rows(folder) == rows(straight)
    assert same_tensors(weights(last(folder, 1)), weights(last(straight)))


def test_a_second_signal_ends_it_at_once(straight: Path, tmp_path: Path) -> None:
    folder = copied(straight, tmp_path)
    running = fit(folder, slow=4.0)
    wait_for(lambda: last(folder).parent.parent.joinpath("metrics.csv").exists(), running)
    time.sleep(9)  # two steps take eight seconds
    running.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    running.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    assert running.wait(60) == -signal.SIGTERM
    assert time.monotonic() - sent < 3


@pytest.mark.parametrize("in_validation", [False, True])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_two_processes_stop_together(
    straight: Path, tmp_path: Path, signum: signal.Signals, code: int, in_validation: bool
) -> None:
    folder = copied(straight, tmp_path)
    several = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]
    running = fit(folder, *several, slow=0.4)
    steps = 3 if in_validation else 1  # three steps an epoch
    wait_for(lambda: len(rows(folder)) >= steps, running)
    # Only the first process gets it; the launcher's other one has to learn of it.
    running.send_signal(signum)
    said = finish(running, code)
    assert f"Stopped by {signum.name} after step" in said
    saved = read_checkpoint(last(folder))
    assert saved["global_step"] >= steps
    assert len(saved["random_states"]) == 2
    finish(fit(folder, *several, "--ckpt_path", "last"))
    assert read_checkpoint(last(folder, 1))["global_step"] == 9


def test_slurm_requeues_between_two_steps(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(straight, tmp_path)
    requeue = folder / "bin" / "scontrol"
    requeue.parent.mkdir()
    requeue.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n')
    requeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{requeue.parent}:{os.environ['PATH']}")
    job = {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in {**job, "JOB_NAME": "train"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    running = fit(folder, slow=0.3)
    wait_for(lambda: len(rows(folder)) >= 2, running)
    running.send_signal(signal.SIGUSR1)
    wait_for(lambda: (folder / "asked").exists(), running)
    running.kill()  # as SLURM does in the end
    running.communicate()
    assert (folder / "asked").read_text() == "requeue 7\n"
    saved = read_checkpoint(folder / "hpc_ckpt_1.ckpt")
    assert saved["position"]["batches"] == saved["global_step"] >= 2
    finish(fit(folder))  # Lightning finds the checkpoint by itself
    assert rows(folder) == rows(straight)
    assert same_tensors(weights(last(folder, 1)), weights(last(straight)))


def test_kills_at_random_moments_change_nothing(straight: Path, tmp_path: Path) -> None:
    folder = copied(straight, tmp_path)
    moments = random.Random(0)
    more = ["--last_checkpoint.every_n_train_steps", 1, "--data.num_workers", 1]
    for _ in range(KILLS):
        resume = ["--ckpt_path", "last"] if list(folder.rglob("last*.ckpt")) else []
        before = versions(folder)
        running = fit(folder, *more, *resume, slow=0.05)
        wait_for(lambda known=before: versions(folder) > known, running)  # type: ignore[misc]
        time.sleep(moments.uniform(0, 1.5))  # opening data, steps, validations, saves
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        newest = last(folder, max(versions(folder)))
        if newest.exists() and read_checkpoint(newest)["global_step"] == STEPS:
            shutil.rmtree(newest.parent.parent)  # it was over: the next one would have nothing
    resume = ["--ckpt_path", "last"] if list(folder.rglob("last*.ckpt")) else []
    running = fit(folder, *more, *resume)
    finish(running)
    newest = last(folder, max(versions(folder)))
    assert rows(folder) == rows(straight)
    assert same_tensors(weights(newest), weights(last(straight)))


_SAVING = """
import sys, torch
from pne_seg.callbacks import AtomicCheckpointIO
saves, number = AtomicCheckpointIO(), int(sys.argv[2])
while True:
    number += 1
    weights = {str(k): torch.full((1_000_000,), float(number)) for k in range(50)}
    saves.save_checkpoint({"number": number, "state_dict": weights}, sys.argv[1])
    print(number, flush=True)
"""


def test_kills_in_saves_of_200_megabytes_leave_a_whole_file(tmp_path: Path) -> None:
    path, moments, said = tmp_path / "checkpoints" / "last.ckpt", random.Random(1), 0
    shared = Path("/dev/shm")  # temporary files on another file system than the checkpoint's
    temporary = shared if shared.is_dir() and os.access(shared, os.W_OK) else tmp_path
    for _ in range(KILLS):
        saving = subprocess.Popen(
            [sys.executable, "-c", _SAVING, str(path), str(said)],
            cwd=REPOSITORY,
            env=environment() | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert saving.stdout is not None
        said = int(saving.stdout.readline())  # one is whole
        time.sleep(moments.uniform(0, 1.0))
        saving.send_signal(signal.SIGKILL)
        rest = saving.stdout.read().split()
        saving.wait()
        said = int(rest[-1]) if rest else said
        found = usable_checkpoint(path)
        content = read_checkpoint(found)
        assert content["number"] >= (said if found == path else said - 1)
        for tensor in content["state_dict"].values():
            assert torch.equal(tensor, torch.full((1_000_000,), float(content["number"])))
        assert previous_checkpoint(path).exists() or said <= 2
    # What the kills left is removed by a later save, once it is certain that no one writes it.
    for left in path.parent.glob(".*.tmp"):
        os.utime(left, (0, 0))
    from pne_seg.callbacks import AtomicCheckpointIO

    AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    assert not list(path.parent.glob(".*.tmp"))
