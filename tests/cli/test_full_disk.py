"""predict and export on a disk that fills up: one line, and what was written stays whole."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.allowed import load_trained
from tests.cli.commands import ALLOW, QUICK, REPOSITORY, command, contents, refused
from tests.cli.predicting import noise
from tests.prediction.videos import decoded, make_video
from tests.small_disk import small_disk

IMAGES = 12


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(IMAGES):
        Image.fromarray(noise(number)).save(folder / f"{number:02}.png")
    return folder


def test_predict(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_video(photos / "ride.avi", 6, size=(64, 96))
    args = ["--run", run, "--input", photos, *QUICK, "--data.eval_batch_size", 1, "--output"]
    command("predict", *args, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    with small_disk(tmp_path / "disk", "64k") as resize:
        out = tmp_path / "disk" / "out"
        said = refused(capsys, "predict", *args, out)
        assert "cannot be written (No space left on device). What is written stays" in said
        assert len(said.splitlines()) == 1
        some = contents(out)
        assert 3 < len(some) < len(whole)
        assert some.items() <= whole.items()  # each is whole; nothing half written is left
        # Room for the frames, but not for the video that is made of them.
        pages = [-(-len(content) // 4096) for name, content in whole.items() if ".mp4" not in name]
        resize(f"{4 * sum(pages)}k")
        said = refused(capsys, "predict", *args, out)
        assert f"{out}/overlay/ride.mp4" in said
        assert len(said.splitlines()) == 1
        assert contents(out).keys() == whole.keys() - {"overlay/ride.mp4"}
        resize("10m")
        command("predict", *args, out)
        assert contents(out) == whole
        assert len(decoded(out / "overlay" / "ride.mp4")) == 6


@pytest.mark.parametrize(
    "format", ["safetensors", "torch", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str) -> None:
    with small_disk(tmp_path / "disk", "1m") as resize:
        disk = tmp_path / "disk"
        args = ["--run", run, "--output", disk / "out", "--formats"]
        command_export(*args, "[safetensors]")
        earlier = contents(disk)
        pages = sum(-(-len(content) // 4096) for content in earlier.values())
        for more in (4, 8, 12):  # room for a part of the new files
            resize(f"{4 * pages + more}k")
            said = refused(capsys, "export", *args, f"[{format}]")
            assert "cannot be written" in said
            assert "No space left" in said
            assert len(said.splitlines()) == 1
            assert contents(disk) == earlier
            load_trained(disk / "out")
        resize("1m")
        command_export(*args, f"[{format}]")
        assert {path.name for path in disk.iterdir()} == {"out"}


def test_an_export_into_a_mounted_folder(run: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m"):
        command_export("--run", run, "--output", tmp_path / "disk", "--formats", "[safetensors]")
        load_trained(tmp_path / "disk")


def command_export(*args: object) -> None:
    from pne_seg.cli import main

    main(["export", *map(str, args), ALLOW])


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["predict", "export"])
def test_a_limit_on_the_size_of_files(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    out = tmp_path / "out"
    args = ["--run", run, "--output", out]
    args += ["--input", photos, *QUICK] if verb == "predict" else ["--formats", "[onnx]"]
    done = subprocess.run(
        [sys.executable, "cli.py", verb, *map(str, args), ALLOW],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert not [*tmp_path.rglob("*.tmp*")]
    assert not [*tmp_path.glob(".*")]
