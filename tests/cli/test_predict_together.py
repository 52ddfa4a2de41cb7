"""Several predict commands into one folder, and sources that change between them."""

import os
import shutil
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pne_seg.data.scenes.stage import SCENE_CLASSES
from pne_seg.files import remove_abandoned
from pne_seg.prediction.prediction_run import PredictionRun
from tests.cli.commands import QUICK, command, contents, refused
from tests.cli.predicting import noise, predicted
from tests.cli.test_predict_stopped import started, stats
from tests.prediction.videos import make_video

IMAGES, FRAMES = 8, 4


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(IMAGES):
        Image.fromarray(noise(number)).save(folder / f"{number}.bmp")
    make_video(folder / "ride.avi", FRAMES, size=(64, 96))
    return folder


@pytest.mark.slow
def test_commands_that_run_at_once(decided: Path, inputs: Path, tmp_path: Path) -> None:
    slow = ["--model.network", "tests.tiny_networks.SlowNet", "--model.network.width", 6]
    args = ["--run", decided, "--output", tmp_path / "out", "--data.eval_batch_size", 1, *slow]
    whole, part = ["--input", inputs], ["--input", inputs / "[0-3].bmp"]
    commands = [started([*args, *given], SLOW="0.05") for given in (whole, whole, part, whole)]
    try:
        for _ in range(2400):
            if [*(tmp_path / "out").rglob("*.png")] or commands[-1].poll() is not None:
                break
            time.sleep(0.05)
        commands[-1].send_signal(signal.SIGKILL)
        for process in commands[:-1]:
            said = process.communicate(timeout=300)[0]
            assert process.returncode == 0, said
            assert "Traceback" not in said
    finally:
        for process in commands:
            process.kill()
            process.wait()
    command("predict", *args[:2], *whole, *QUICK, *slow, "--output", tmp_path / "alone")
    there = contents(tmp_path / "out")
    alone = contents(tmp_path / "alone")
    # What the killed one was writing may be left; it is no prediction.
    assert {name: there[name] for name in there if ".tmp" not in name} == alone


def test_temporary_files_of_others_stay_for_a_day(tmp_path: Path) -> None:
    young, old, foreign = (
        tmp_path / name for name in (".a.png.12-34.tmp", ".a.png.ab12.tmp", ".b.png.1-2.tmp")
    )
    for file in (young, old, foreign):
        file.write_bytes(b"half")
    for file in (old, foreign):
        os.utime(file, (time.time() - 25 * 3600,) * 2)
    remove_abandoned([tmp_path / "a.png"])
    assert {file.name for file in tmp_path.iterdir()} == {young.name, foreign.name}


def rewrite(file: Path, content: bytes) -> None:
    """Another content at the same size and time."""
    found = file.stat()
    assert len(content) == found.st_size
    file.write_bytes(content)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_a_source_that_changes_at_the_same_size_and_time(
    decided: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--run", decided, "--input", inputs, "--output", tmp_path / "out", *QUICK]
    command("predict", *args)
    before = stats(tmp_path / "out")
    os.utime(inputs / "0.bmp")  # only touched, and copied without its date
    shutil.move(inputs, tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", inputs, copy_function=shutil.copyfile)
    capsys.readouterr()
    command("predict", *args)
    assert "0 written" in capsys.readouterr().out
    rewrite(inputs / "1.bmp", (inputs / "2.bmp").read_bytes())
    video = bytearray((inputs / "ride.avi").read_bytes())
    video[-1] ^= 1
    rewrite(inputs / "ride.avi", bytes(video))
    said = refused(capsys, "predict", *args)
    assert "1.png is there, predicted from another source or by other weights" in said
    assert f"({3 + FRAMES + 1} such files in all)" in said
    command("predict", *args, "--overwrite", "true")
    after = stats(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {
        *("classes/1.png", "color/1.png", "overlay/1.jpg", "overlay/ride.mp4"),
        *(f"classes/ride/{frame:06d}.png" for frame in range(FRAMES)),
    }


def test_a_folder_that_goes_away_meanwhile(
    decided: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = PredictionRun.write

    def write(self: PredictionRun, indices: list[int], *args: Any) -> None:
        if self.targets[indices[0]].name == "5":
            shutil.rmtree(self.layout.folder, ignore_errors=True)
        real(self, indices, *args)

    args = ["--run", decided, "--input", inputs / "*.bmp", "--output", tmp_path / "out", *QUICK]
    args += ["--data.eval_batch_size", 1]
    with monkeypatch.context() as patched:
        patched.setattr(PredictionRun, "write", write)
        with pytest.raises(SystemExit) as caught:
            command("predict", *args)
    assert caught.value.code == 1
    assert "is gone; the same command writes it again." in capsys.readouterr().err
    command("predict", *args)
    assert len(predicted(tmp_path / "out")) == 3 * IMAGES


def test_the_same_of_an_archive(
    decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "set.zip"

    def pack(first: int) -> bytes:
        with zipfile.ZipFile(archive, "w") as packed:
            for number in range(3):
                folder = "train" if number else "test"
                picture = tmp_path / "x.bmp"
                Image.fromarray(noise(number or first)).save(picture)
                mask = tmp_path / "m.png"
                Image.fromarray(noise(number)[..., 0] % 2).save(mask)
                packed.write(picture, f"images/{folder}/{number}.bmp")
                packed.write(mask, f"masks/{folder}/{number}.png")
        return archive.read_bytes()

    pack(10)
    args = ["--run", decided, "--output", tmp_path / "out", *QUICK, "--write", "classes"]
    args += ["--data", "Folder", "--data.root", archive, "--data.classes"]
    args += ["[" + ", ".join(SCENE_CLASSES) + "]"]
    command("predict", *args)
    os.utime(archive)
    command("predict", *args)
    found = archive.stat()
    pack(11)
    os.utime(archive, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert archive.stat().st_size == found.st_size
    assert "is there, predicted from another source" in refused(capsys, "predict", *args)
