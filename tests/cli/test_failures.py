"""A full disk, lost memory, a killed process, a mistake in code: what is said, and what is kept."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pne_seg.cli import main
from tests.cli.commands import REPOSITORY, command, refused, write_config

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 MB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# ---- files -------------------------------------------------------------------------------------


def test_a_disk_that_is_full_at_the_second_checkpoint(
    tiny: Path, disk: Path, capsys: Capture
) -> None:
    net = ["--model.network", "tests.failing.HeavyNet", "--model.contrast", "null"]
    root = ["--trainer.default_root_dir", disk, "--trainer.max_epochs", "2"]
    said = refused(capsys, "fit", "--config", tiny, *net, *root)
    assert str(disk / "runs" / "tiny" / "0") in said
    assert "No space left on device" in said
    assert "--trainer.default_root_dir DIR" in said
    last = disk / "runs" / "tiny" / "0" / "checkpoints" / "last.ckpt"
    for file in last.parent.iterdir():
        assert "state_dict" in torch.load(file, weights_only=True)
    assert (f"--ckpt_path {last}" in said) == last.is_file()


@pytest.mark.parametrize("left", [0, 4096, 40_000])
def test_a_disk_without_room_for_figures_and_tables(
    tiny: Path, disk: Path, capsys: Capture, left: int
) -> None:
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(b"\0" * (free - left))
    said = refused(capsys, "fit", "--config", tiny, "--trainer.default_root_dir", disk)
    assert said.startswith(f"error: {disk}")
    assert "No space left on device" in said


def test_a_full_disk_in_an_evaluation(fitted: Path, disk: Path, capsys: Capture) -> None:
    run = disk / "run"
    subprocess.run(["cp", "-r", str(fitted), str(run)], check=True)
    (disk / "filler").write_bytes(b"\0" * os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)
    for verb in ("validate", "test", "export"):
        said = refused(capsys, verb, "--run", run)
        assert verb == "export" or said.startswith(f"error: {run}")
        assert "No space left on device" in said


def test_a_full_disk_for_the_output(tiny: Path, fitted: Path, disk: Path, capsys: Capture) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"\0" * (free - 8192))
    args: dict[str, list[object]] = {
        "check-data": ["--config", tiny],
        "export": ["--run", fitted, "--formats", "safetensors"],
        "predict": ["--run", fitted],
    }
    for verb in args:
        said = refused(capsys, verb, *args[verb], "--output", disk / verb)
        assert verb == "export" or said.startswith(f"error: {disk}")
        assert "No space left on device" in said


def test_a_disk_that_may_not_be_written(tiny: Path, disk: Path, capsys: Capture) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    said = refused(capsys, "fit", "--config", tiny, "--trainer.default_root_dir", disk)
    assert said.startswith(f"error: {disk}")
    assert "Read-only file system" in said


@pytest.mark.parametrize("verb", ["fit", "check-data", "export", "predict"])
def test_a_file_in_the_way(
    tiny: Path, fitted: Path, tmp_path: Path, capsys: Capture, verb: str
) -> None:
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "here"
    args: dict[str, list[object]] = {
        "fit": ["--config", tiny, "--trainer.default_root_dir", inside],
        "check-data": ["--config", tiny, "--output", inside],
        "export": ["--run", fitted, "--output", inside],
        "predict": ["--run", fitted, "--output", inside],
    }
    said = refused(capsys, verb, *args[verb])
    assert said.startswith("error: ")
    assert str(tmp_path / "file") in said


def test_a_working_directory_that_is_gone(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "The working directory is gone" in refused(capsys, "fit", "--config", tiny)


NAMES = [
    "../../x",
    "/tmp/x",
    "a//b",
    "a/../b",
    "a\\b",
    ".",
    "..",
    "x.",
    " x",
    "a\0b",
    "a\nb",
    "x" * 300,
    "\udcff",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("verb", ["fit", "validate"])
def test_a_name_that_is_no_folders_name(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    verb: str,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, verb, "--config", tiny, "--name", name)
    assert said.startswith("error: The run's name ")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    if name.isprintable():
        saved = write_config(tmp_path / "y.yaml", {"name": name})
        assert refused(capsys, verb, "--config", tiny, "--config", saved) == said


# ---- processes ---------------------------------------------------------------------------------


def test_a_killed_loader_process(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    transforms = "[{class_path: tests.failing.KillsWorker}]"
    workers = ["--data.num_workers", "2", "--trainer.default_root_dir", tmp_path]
    said = refused(capsys, "fit", "--config", tiny, "--data.transforms", transforms, *workers)
    assert "A loader process was killed" in said
    assert "--data.num_workers 1" in said


@pytest.mark.slow
def test_shared_memory_that_is_full(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs the right to mount a file system")
    config = write_config(
        tmp_path / "c.yaml",
        {
            "data": {"class_path": "Scenes", "init_args": {"num_workers": 2, "height": 256}},
            "model": {"network": "tests.tiny_networks.TinyNet"},
            "trainer": {"accelerator": "cpu", "default_root_dir": str(tmp_path)},
        },
    )
    small = "mount -t tmpfs -o size=256k tmpfs /dev/shm"
    run = f"{small} && exec {sys.executable} cli.py fit --config {config}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", run],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "--data.num_workers 0" in done.stderr
    assert "--shm-size" in done.stderr


@pytest.mark.parametrize("setting", ["data.num_workers", "trainer.devices"])
def test_more_processes_than_a_machine_runs(tiny: Path, capsys: Capture, setting: str) -> None:
    said = refused(capsys, "fit", "--config", tiny, f"--{setting}", "1000000")
    assert said.startswith(f"error: --{setting} 1000000: ")


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_device", ["true", "false"])
def test_memory_that_runs_out_in_training(
    tiny: Path, tmp_path: Path, capsys: Capture, on_device: str
) -> None:
    net = ["--model.network", "tests.failing.HungryNet", "--model.network.on_device", on_device]
    args = ["--config", tiny, *net, "--model.contrast", "null", "--data.eval_batch_size", "2"]
    args += ["--trainer.default_root_dir", tmp_path]
    said = refused(capsys, "fit", *args)
    assert said.startswith("error: Out of memory: ")
    step = "--data.batch_size 2 --trainer.accumulate_grad_batches 2"
    assert step in said
    assert "crop" not in said  # scenes have none
    done = command("fit", *args, *step.split())
    assert done.trainer.global_step == 2  # of 4 images each, as before


def test_memory_that_runs_out_in_evaluation(tiny: Path, tmp_path: Path, capsys: Capture) -> None:
    args = ["--config", tiny, "--model.network", "tests.failing.HungryNet"]
    args += ["--model.contrast", "null", "--data.val_size", "4", "--data.batch_size", "2"]
    args += ["--data.eval_batch_size", "4", "--trainer.default_root_dir", tmp_path]
    said = refused(capsys, "fit", *args)
    assert "--data.eval_batch_size 2" in said
    assert "--data.batch_size" not in said
    command("fit", *args, "--data.eval_batch_size", "2")


def test_crops_that_take_too_much_memory(tmp_path: Path, capsys: Capture) -> None:
    args = [*folder(tmp_path / "data", value=1), "--model.network", "tests.failing.HungryNet"]
    args += ["--trainer.fast_dev_run", "true", "--data.crop_size"]
    assert "--data.crop_size '[32, 32]'" in refused(capsys, "fit", *args, "[64, 64]")
    command("fit", *args, "[32, 32]")


# ---- mistakes in code --------------------------------------------------------------------------


def test_a_mistake_in_a_constructor(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    args = ["--config", str(tiny), "--model.network", "tests.failing.BrokenNet"]
    said = refused(capsys, "fit", *args).splitlines()
    assert "a mistake in a user's code" in said[0]
    assert "failing.py, line " in said[1]
    assert "PNE_SEG_TRACEBACK=1" in said[1]
    monkeypatch.setenv("PNE_SEG_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        main(["fit", *args])
    assert "Traceback" in capsys.readouterr().err


def test_a_mistake_in_a_networks_training(tiny: Path) -> None:
    net = ["--model.network", "tests.failing.BrokenNet", "--model.network.where", "training"]
    with pytest.raises(RuntimeError, match="a mistake in a user's code") as caught:
        command("fit", "--config", tiny, *net, "--trainer.fast_dev_run", "true")
    assert "fit ended by the RuntimeError above" in caught.value.__notes__[-1]
    assert "failing.py, line " in caught.value.__notes__[-1]


# ---- labels ------------------------------------------------------------------------------------


def folder(root: Path, value: int, val: int = 1) -> list[object]:
    """Arguments for a data set of two classes whose labels are all one value."""
    for split, label in (("train", value), ("val", val)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for name in range(4):
            cv2.imwrite(str(root / f"images/{split}/{name}.png"), np.zeros((32, 32, 3), np.uint8))
            mask = np.full((32, 32), label, np.uint8)
            mask[0, 0] = 255
            cv2.imwrite(str(root / f"masks/{split}/{name}.png"), mask)
    data = ["--data", "Folder", "--data.root", root, "--data.classes", "[bg, thing]"]
    data += ["--data.crop_size", "[32, 32]", "--data.batch_size", "2", "--data.num_workers", "0"]
    data += ["--data.scale_range", "[1.0, 1.0]", "--trainer.default_root_dir", root]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
    net = ["--model.network", "tests.tiny_networks.TinyNet", "--trainer.accelerator", "cpu"]
    return [*data, *net, *quiet, "--trainer.max_epochs", "1"]


def test_a_training_whose_labels_are_all_ignored(tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, "fit", *folder(tmp_path / "data", value=255))
    assert said.startswith("error: No pixel of the first epoch has a class")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_validation_split_whose_labels_are_all_ignored(tmp_path: Path, capsys: Capture) -> None:
    args = folder(tmp_path / "data", value=1, val=255)
    with pytest.warns(UserWarning, match="ModelCheckpoint"):
        done = command("fit", *args, "--trainer.limit_val_batches", "0")
    said = refused(capsys, "fit", *args)
    assert said.startswith("error: No pixel of the validation split has a class")
    assert "limit_val_batches=0" in said
    last = done.run_folder / "checkpoints" / "last.ckpt" if done.run_folder else None
    scored = ["--ckpt_path", last, "--trainer.limit_val_batches", "1.0"]
    said = refused(capsys, "validate", *args, *scored)
    assert said.startswith("error: No pixel of the validation split has a class")


def test_a_class_that_never_occurs_while_pixels_are_ignored(tmp_path: Path) -> None:
    args = folder(tmp_path / "data", value=1)
    for mask in (tmp_path / "data" / "masks" / "train").iterdir():
        labels = np.ones((32, 32), np.uint8)
        labels[:16] = 255
        cv2.imwrite(str(mask), labels)
    with pytest.warns(
        UserWarning, match="Classes without a pixel in the first epoch: bg, while 50%"
    ):
        command("fit", *args)


# ---- transforms --------------------------------------------------------------------------------

FLIP = "{class_path: albumentations.HorizontalFlip, dict_kwargs: {prob: 1}}"
BLUR = "{class_path: albumentations.GaussianBlur, dict_kwargs: {sigma_limits: [1, 2]}}"


@pytest.mark.parametrize(
    ("transforms", "name", "near"),
    [
        (f"[{FLIP}]", "prob", "p."),
        (f"[{BLUR}]", "sigma_limits", "The nearest is sigma_limit."),
        (f"[{{class_path: albumentations.OneOf, init_args: {{transforms: [{BLUR}]}}}}]",
         "sigma_limits", "The nearest is sigma_limit."),
        ("[{class_path: albumentations.HorizontalFlip, init_args: {pp: 1}}]", "pp", "p."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["fit", "check-data"])
def test_a_setting_that_a_transform_does_not_take(
    tiny: Path, capsys: Capture, verb: str, transforms: str, name: str, near: str
) -> None:
    said = refused(capsys, verb, "--config", tiny, "--data.transforms", transforms)
    assert name in said
    assert near in said
