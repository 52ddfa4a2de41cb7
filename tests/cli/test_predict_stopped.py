"""A prediction that is killed goes on where it was; two processes share the work."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pne_seg.cli import main
from pne_seg.module import SegmentationModule
from tests.cli.commands import ALLOW, QUICK, REPOSITORY, command, contents
from tests.cli.predicting import noise, predicted
from tests.prediction.videos import decoded, make_video
from tests.waiting import wait_for

IMAGES, FRAMES = 6, 8


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Six images, and a video of eight frames."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(IMAGES):
        Image.fromarray(noise(number)).save(folder / f"{number}.png")
    make_video(folder / "ride.avi", FRAMES, size=(64, 96))
    return folder


def started(args: Sequence[object], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "cli.py", "predict", *map(str, args), *QUICK, ALLOW],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def killed_when(
    args: Sequence[object], folder: Path, files: int, by: signal.Signals = signal.SIGKILL
) -> tuple[int, str]:
    """Start a slow prediction and stop it once a folder holds so many files.

    Returns:
        Its exit code and what it said.
    """
    process = started(args, SLOW="1.0")
    try:
        wait_for(lambda: len([*folder.glob("[!.]*")]) >= files, process)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(by)
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()
    return process.returncode, said


def stats(folder: Path) -> dict[str, tuple[int, int]]:
    """Date and inode of each whole file: what was not touched keeps both."""
    found = {name: (folder / name).stat() for name in predicted(folder) if not name.endswith("tmp")}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in found.items()}


@pytest.mark.slow
def test_a_killed_prediction_goes_on(
    decided: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--run", decided, "--input", inputs, "--data.eval_batch_size", 1]
    args += ["--model.network", "tests.tiny_networks.SlowNet", "--model.network.width", 6]
    code, _ = killed_when([*args, "--output", out], out / "overlay", 2)
    assert code == -signal.SIGKILL
    images = stats(out)
    # All of the first image's files, and of the second's at least the overlay that was waited for.
    assert 3 + 1 <= len(images) < 3 * IMAGES
    # A key press that interrupts it says how far it came.
    frames_there = out / "classes" / "ride"
    code, said = killed_when([*args, "--output", out], frames_there, 3, signal.SIGINT)
    assert code == 130, said
    frames = stats(out)
    there = IMAGES + sum(name.startswith("classes/ride") for name in frames)
    assert f"Stopped: {there} of {IMAGES + FRAMES} predictions are written." in said
    assert "Traceback" not in said
    assert images.items() <= frames.items()
    assert 3 * IMAGES + 3 <= len(frames) < 3 * IMAGES + FRAMES
    # As a kill in the middle of writing leaves it, two days ago.
    for name in ("classes/.5.png.123-456.tmp", "overlay/.ride.mp4.123-0.tmp.mp4"):
        (out / name).write_bytes(b"half")
        os.utime(out / name, (time.time() - 48 * 3600,) * 2)
    (out / "overlay" / ".notes.123-0.tmp").write_bytes(b"not of predict")

    capsys.readouterr()
    command("predict", *args, *QUICK, "--output", out)
    done = sum(name.startswith("classes/ride") for name in frames)
    said = capsys.readouterr().out
    assert f"{FRAMES - done} written, {IMAGES + done} there already." in said
    after = stats(out)
    assert frames.items() <= after.items()  # neither written again nor moved
    assert {path.name for path in out.rglob(".*.tmp*")} == {".notes.123-0.tmp"}
    (out / "overlay" / ".notes.123-0.tmp").unlink()

    command("predict", *args, *QUICK, "--output", tmp_path / "at_once")
    assert contents(out) == contents(tmp_path / "at_once")
    assert len(decoded(out / "overlay" / "ride.mp4")) == FRAMES


@pytest.mark.slow
def test_two_processes_share_the_images(decided: Path, inputs: Path, tmp_path: Path) -> None:
    (inputs / "bad.png").write_bytes(b"junk")
    args = ["--run", decided, "--input", inputs, "--output", tmp_path / "two"]
    both = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.num_nodes", 1]
    process = started([*args, *both])
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 1, said
    assert "Starting with 2 processes" in said
    # Were one predicted twice, there would be more written than there are.
    total = IMAGES + FRAMES
    assert said.count(" written, 0 there already, 1 unreadable.") == 1, said
    assert f"{IMAGES + 1} images and {FRAMES} video frames: {total} written" in said
    assert said.count("unreadable: ") == said.count("Encoding ") == 1, said
    (inputs / "bad.png").unlink()
    command("predict", *args[:-1], tmp_path / "one", *QUICK)
    one, two = predicted(tmp_path / "one"), predicted(tmp_path / "two")
    assert one == two
    assert np.unique([len(content) for content in one.values()]).size > 1


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_an_evaluation_that_the_user_stops(
    decided: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SegmentationModule, f"{verb}_step".replace("validate", "validation"), stop)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            main([verb, "--run", str(decided), *QUICK, ALLOW])
    finally:
        signal.signal(signal.SIGINT, handler)  # the trainer ignores further ones
    assert caught.value.code == 130
    assert capsys.readouterr().err.endswith("Stopped.\n")
