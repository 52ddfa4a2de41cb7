"""`predict --input`: names, sizes, turned photos, what is in the files, what is refused."""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from lightning.fabric.connector import _convert_precision_to_unified_args
from lightning.pytorch import Trainer
from PIL import Image, ImageOps

from pne_seg.cli import main
from pne_seg.cli.predict import _PRECISIONS
from pne_seg.prediction.video import write_video
from pne_seg.visualization import overlay
from tests.cli.commands import ALLOW, command, refused
from tests.cli.predicting import PALETTE, by_hand, make_decided, noise, predicted, read
from tests.prediction.videos import colored, decoded, make_video
from tests.tiny_networks import TinyNet


@pytest.fixture(scope="module")
def trained(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyNet]:
    """A run whose weights say many classes, and its network."""
    run = tmp_path_factory.mktemp("decided") / "runs" / "tiny" / "0"
    shutil.copytree(fitted, run)
    return run, make_decided(run / "checkpoints" / "best.ckpt", num_classes=11)


@pytest.fixture
def run(trained: tuple[Path, TinyNet]) -> Path:
    return trained[0]


@pytest.fixture
def network(trained: tuple[Path, TinyNet]) -> TinyNet:
    return trained[1]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of two sizes, in a folder and below it."""
    folder = tmp_path / "photos"
    for number, (name, size) in enumerate(
        {"a.png": (64, 96), "sub/b.png": (80, 120), "sub/deep/c.bmp": (64, 96)}.items()
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number, size)).save(folder / name)
    return folder


def failed(verb: str, *args: object) -> None:
    """Run a command that must finish with exit code 1."""
    with pytest.raises(SystemExit) as caught:
        main([verb, *map(str, args), ALLOW])
    assert caught.value.code == 1


# ---- what is written ---------------------------------------------------------------------------


def test_a_folder(
    run: Path, network: TinyNet, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command("predict", "--run", run, "--input", photos, "--output", out)
    names = {"a": "a.png", "sub/b": "sub/b.png", "sub/deep/c": "sub/deep/c.bmp"}
    assert predicted(out).keys() == {
        f"{kind}/{name}{'.jpg' if kind == 'overlay' else '.png'}"
        for kind in ("classes", "color", "overlay")
        for name in names
    }
    seen: set[int] = set()
    for name, file in names.items():
        image = np.asarray(Image.open(photos / file))
        expected = by_hand(network, image)
        np.testing.assert_array_equal(read(out / "classes" / f"{name}.png"), expected)
        seen |= {*expected.ravel().tolist()}
        with Image.open(out / "color" / f"{name}.png") as colors:
            assert colors.mode == "P"
            np.testing.assert_array_equal(np.asarray(colors), expected)
            np.testing.assert_array_equal(np.asarray(colors.convert("RGB")), PALETTE[expected])
        with Image.open(out / "overlay" / f"{name}.jpg") as mixed:
            half = overlay(image, expected, PALETTE, 255)
            assert np.abs(np.asarray(mixed, int) - half).mean() < 10  # as far as JPEG goes
            assert np.abs(np.asarray(mixed, int) - image).mean() > 25
    assert len(seen) > 3
    assert "3 images: 3 written, 0 there already." in capsys.readouterr().out


def test_turned_photos_are_predicted_as_they_are_shown(
    run: Path, network: TinyNet, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        size = (64, 96) if orientation < 5 else (96, 64)  # as stored; all are shown upright
        Image.fromarray(noise(orientation, size)).save(photos / f"{orientation}.png", exif=exif)
    command("predict", "--run", run, "--input", photos, "--output", tmp_path, "--write", "classes")
    for orientation in range(1, 9):
        with Image.open(photos / f"{orientation}.png") as image:
            shown = np.asarray(ImageOps.exif_transpose(image))
        assert shown.shape[:2] == (64, 96)
        answer = read(tmp_path / "classes" / f"{orientation}.png")
        np.testing.assert_array_equal(answer, by_hand(network, shown))


def test_one_image_of_one_channel_and_only_some_of_the_files(
    run: Path, network: TinyNet, tmp_path: Path
) -> None:
    gray = noise(0)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    args = ["--output", tmp_path / "out", "--write", "[color, classes]"]
    command("predict", "--run", run, "--input", tmp_path / "gray.png", *args)
    assert predicted(tmp_path / "out").keys() == {"classes/gray.png", "color/gray.png"}
    answer = read(tmp_path / "out" / "classes" / "gray.png")
    np.testing.assert_array_equal(answer, by_hand(network, np.dstack([gray] * 3)))


def test_settings_of_the_size(run: Path, network: TinyNet, photos: Path, tmp_path: Path) -> None:
    image = np.asarray(Image.open(photos / "a.png"))
    for value, box in (("null", None), ("[96, 64]", (96, 64)), ("[24, 16]", (24, 16))):
        out = tmp_path / str(box)
        args = ["--data.resize_base", value, "--data.eval_batch_size", 1, "--write", "classes"]
        done = command("predict", "--run", run, "--input", photos / "*.png", "--output", out, *args)
        assert done.datamodule.eval_batch_size == 1
        np.testing.assert_array_equal(read(out / "classes" / "a.png"), by_hand(network, image, box))


def test_the_training_data_need_not_be_there(run: Path, photos: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(run, tmp_path / "runs" / "gone" / "0"))
    config = yaml.safe_load((elsewhere / "config.yaml").read_text())
    config["data"] = {
        "class_path": "Folder",
        "init_args": {"root": "/nowhere", "eval_batch_size": 2, "num_workers": 0},
    }
    (elsewhere / "config.yaml").write_text(yaml.safe_dump(config))
    args = ["--input", photos, "--write", "[classes, color]"]
    there = command("predict", "--run", elsewhere, *args)
    assert there.datamodule.eval_batch_size == 2
    assert there.run_folder == elsewhere / "predict" / "best"
    command("predict", "--run", run, *args, "--output", tmp_path / "out")
    pixels = [
        {name: np.asarray(Image.open(folder / name)).tobytes() for name in predicted(folder)}
        for folder in (elsewhere / "predict" / "best", tmp_path / "out")
    ]
    assert pixels[0] == pixels[1]


def test_a_checkpoint_that_does_not_name_its_classes(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = Path(shutil.copytree(run, tmp_path / "runs" / "older" / "0"))
    file = older / "checkpoints" / "best.ckpt"
    content: dict[str, Any] = torch.load(file, weights_only=True)
    del content["data_description"]
    torch.save(content, file)
    args = ["--input", photos / "a.png", "--write", "classes"]
    command("predict", "--run", older, *args, "--data.width", 48, "--output", tmp_path / "one")
    command("predict", "--run", run, *args, "--output", tmp_path / "other")
    one, other = (read(tmp_path / name / "classes" / "a.png") for name in ("one", "other"))
    np.testing.assert_array_equal(one, other)
    lost = ["--data", "Folder", "--data.root", tmp_path / "none"]
    said = refused(capsys, "predict", "--run", older, *args, *lost)
    assert "best.ckpt does not name its classes, so the data of its config are needed" in said
    assert "none" in said


def test_the_test_split(run: Path, network: TinyNet, tmp_path: Path) -> None:
    done = command("predict", "--run", run, "--output", tmp_path, "--write", "[classes, overlay]")
    source = done.datamodule.split("test")
    assert len(predicted(tmp_path)) == 2 * len(source) == 4
    for index in range(len(source)):
        answer = read(tmp_path / "classes" / f"{source.name(index)}.png")
        np.testing.assert_array_equal(answer, by_hand(network, source.read(index).image, None))
    command("predict", "--run", run, "--output", tmp_path, "--write", "[classes, overlay]")


# ---- videos ------------------------------------------------------------------------------------


def test_a_video(
    run: Path, network: TinyNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(tmp_path / "in" / "ride.avi", 7, size=(64, 96), rate=12.5)
    out = tmp_path / "out"
    command("predict", "--run", run, "--input", video.parent, "--output", out)
    frames = decoded(video)
    assert predicted(out).keys() == {
        "overlay/ride.mp4",
        *(f"classes/ride/{number:06d}.png" for number in range(7)),
    }
    drawn = decoded(out / "overlay" / "ride.mp4")
    assert len(drawn) == len(frames) == 7
    opened = cv2.VideoCapture(str(out / "overlay" / "ride.mp4"))
    assert opened.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for number, frame in enumerate(frames):
        assert np.abs(frame[32, 60].astype(int) - colored(number)[16, 30]).max() < 12
        answer = read(out / "classes" / "ride" / f"{number:06d}.png")
        np.testing.assert_array_equal(answer, by_hand(network, frame))
        half = overlay(frame, answer, PALETTE, 255)
        assert np.abs(drawn[number].astype(int) - half).mean() < 10
    assert "7 frames, without the sound" in capsys.readouterr().out

    before = stats(out)
    (out / "overlay" / "ride.mp4").unlink()
    (out / "classes" / "ride" / "000004.png").unlink()
    command("predict", "--run", run, "--input", video.parent, "--output", out)
    assert "7 video frames: 1 written, 6 there already" in capsys.readouterr().out
    after = stats(out)
    changed = {"overlay/ride.mp4", "classes/ride/000004.png"}
    assert {name for name in after if after[name] != before[name]} == changed
    assert len(decoded(out / "overlay" / "ride.mp4")) == 7


def test_a_shorter_video_takes_the_place_of_a_longer_one(run: Path, tmp_path: Path) -> None:
    args = ["--run", run, "--input", tmp_path / "in", "--output", tmp_path / "out"]
    make_video(tmp_path / "in" / "ride.avi", 5)
    command("predict", *args)
    make_video(tmp_path / "in" / "ride.avi", 3)
    command("predict", *args, "--overwrite", "true")
    assert predicted(tmp_path / "out").keys() == {
        "overlay/ride.mp4",
        *(f"classes/ride/00000{number}.png" for number in range(3)),
    }
    assert len(decoded(tmp_path / "out" / "overlay" / "ride.mp4")) == 3
    classes = tmp_path / "out" / "classes" / "ride"
    shutil.copy(classes / "000002.png", classes / "000003.png")
    command("predict", *args, "--overwrite", "true")
    assert (classes / "000003.png").exists()  # predict did not write it


@pytest.mark.parametrize("overwrite", ["false", "true"])
def test_images_called_as_the_frames_of_a_video_stay(
    run: Path, tmp_path: Path, overwrite: str
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    make_video(folder / "clip.mp4", 5)
    args = ["--run", run, "--output", out, "--write", "classes", "--overwrite", overwrite]
    if overwrite == "true":  # the longer video goes, all of it
        command("predict", *args, "--input", folder)
    make_video(folder / "clip.mp4", 3)
    (folder / "clip").mkdir()
    Image.fromarray(noise(1)).save(folder / "clip" / "000003.jpg")
    frames = {f"classes/clip/00000{number}.png" for number in range(3)}
    command("predict", *args, "--input", folder)
    assert predicted(out).keys() == {*frames, "classes/clip/000003.png"}
    command("predict", *args, "--input", folder / "clip.mp4")  # by another command's too
    assert predicted(out).keys() == {*frames, "classes/clip/000003.png"}


def test_colors_of_a_video_are_said_to_be_left_out(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = ["--run", run, "--input", make_video(tmp_path / "v.mp4", 2), "--output", tmp_path / "o"]
    command("predict", *args, "--write", "color")
    assert "Videos get no files in color/: they get classes/VIDEO/FRAME.png." in caplog.text
    assert predicted(tmp_path / "o").keys() == {"classes/v/000000.png", "classes/v/000001.png"}
    caplog.clear()
    command("predict", *args, "--write", "[classes, overlay]")
    assert "Videos get" not in caplog.text


def test_a_video_that_lost_frames_while_it_was_encoded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shorter(path: Path, frames: Iterable[Any], rate: float) -> None:
        write_video(path, list(frames)[:-1], rate)  # as on a full disk

    monkeypatch.setattr("pne_seg.prediction.video.write_video", shorter)
    args = ["--input", make_video(tmp_path / "v.mp4", 3), "--output", tmp_path / "out"]
    said = refused(capsys, "predict", "--run", run, *args)
    assert "v.mp4 cannot be written whole. Is there room on the disk?" in said
    assert predicted(tmp_path / "out").keys() == {f"classes/v/00000{n}.png" for n in range(3)}


def test_frames_that_are_there_are_not_decoded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(tmp_path / "ride.mp4", 3)
    args = ["--run", run, "--input", video, "--output", tmp_path / "out"]
    command("predict", *args)
    before = stats(tmp_path / "out")

    def opened(*_: object) -> None:
        raise AssertionError("the video is decoded")

    monkeypatch.setattr(cv2, "VideoCapture", opened)
    command("predict", *args)
    assert stats(tmp_path / "out") == before


def stats(folder: Path) -> dict[str, tuple[int, int]]:
    """Date and inode of each file: what was not touched keeps both."""
    found = {name: (folder / name).stat() for name in predicted(folder)}
    return {name: (stat.st_mtime_ns, stat.st_ino) for name, stat in found.items()}


# ---- files that cannot be read -----------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    Image.fromarray(noise(7)).save(photos / "cut.jpg")
    content = (photos / "cut.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) // 2])
    (photos / "aa_none.png").write_bytes(b"")  # its header cannot be read either
    (photos / "ride.mp4").write_bytes(b"junk")
    args = ["--run", run, "--input", photos, "--output", tmp_path / "out"]
    args += ["--data.num_workers", workers]
    failed("predict", *args)
    said = capsys.readouterr()
    for name, why in (("cut.jpg", "cut short"), ("aa_none.png", "no JPEG"), ("ride.mp4", "video")):
        lines = [line for line in said.err.splitlines() if line.startswith("unreadable: ")]
        (line,) = (line for line in lines if name in line)
        assert why in line
    assert "5 images and 1 unreadable video: 3 written, 0 there already, 3 unreadable." in said.out
    assert len(predicted(tmp_path / "out")) == 9
    failed("predict", *args)  # what is still unreadable is still said
    assert "0 written, 3 there already, 3 unreadable." in capsys.readouterr().out


def test_nothing_that_can_be_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    failed("predict", "--run", run, "--input", tmp_path / "a.png", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- files that cannot be written --------------------------------------------------------------


def test_what_cannot_be_written_is_named_and_the_rest_goes_on(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 248
    Image.fromarray(noise(7)).save(photos / f"{long}.jpg")
    make_video(tmp_path / "v.mp4", 2).rename(photos / f"{long}b.mp4")
    Image.fromarray(noise(8, (1, 65_600))).save(photos / "wide.png")
    args = ["--run", run, "--input", photos, "--output", tmp_path / "out"]
    for expected in ("5 written, 0 there already, 2 not", "0 written, 5 there already, 2 not"):
        failed("predict", *args)
        said = capsys.readouterr()
        assert f"5 images and 2 video frames: {expected} written." in said.out
        lines = [line for line in said.err.splitlines() if line.startswith("not written: ")]
        assert len(lines) == 3
        for name, why in (
            (f"{long}.png", "name too long"),
            (f"{long}b.mp4", "name too long"),
            ("wide.jpg", "JPEG files have sides of 65,500 pixels"),
        ):
            (line,) = (line for line in lines if name in line)
            assert why in line
    there = predicted(tmp_path / "out").keys()
    assert {"classes/a.png", "classes/sub/deep/c.png", "color/wide.png"} <= there
    assert not [*(tmp_path / "out").rglob(".*.tmp*")]


def test_names_that_no_file_can_have(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".jpg", ".bmp"):  # they keep it in their names, which are too long then
        Image.fromarray(noise(7)).save(photos / f"{'a' * 250}{suffix}")
    args = ["--input", photos, "--output", tmp_path / "out", "--write", "classes"]
    failed("predict", "--run", run, *args)
    said = capsys.readouterr()
    assert "5 images: 3 written, 0 there already, 2 not written." in said.out
    assert said.err.count("cannot be written (File name too long).") == 2


def test_a_full_disk_stops_at_once(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pne_seg.prediction.manifest.write_bytes_atomically", full)
    said = refused(capsys, "predict", "--run", run, "--input", photos, "--output", tmp_path / "out")
    assert "cannot be written (No space left on device)." in said
    assert "What is written stays" not in said  # nothing is


# ---- what is there already ---------------------------------------------------------------------


def test_what_was_predicted_otherwise_is_refused_before_anything_is_written(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--run", run, "--input", photos, "--output", out]
    command("predict", *args)
    before = stats(out)
    for nothing in (
        ["--data.eval_batch_size", 1, "--model.inference.windows_per_pass", 1],
        ["--trainer.precision", "32"],
        ["--model.inference", "null"],
        ["--model.inference", "{class_path: pne_seg.Inference, init_args: {flip: false}}"],
    ):
        command("predict", *args, *nothing)
        assert stats(out) == before

    other = Path(shutil.copytree(run, tmp_path / "runs" / "other" / "0"))
    shutil.copy(photos / "a.png", photos / "new.png")
    content: dict[str, Any] = torch.load(other / "checkpoints" / "best.ckpt", weights_only=True)
    content["state_dict"]["network.segmentation_head.1.bias"] += 1e-6
    torch.save(content, other / "checkpoints" / "best.ckpt")
    for changed in (
        ["--run", other, *args[2:]],
        [*args, "--data.resize_base", "null"],
        [*args, "--trainer.precision", "bf16-mixed"],
        [*args, "--model.inference.flip", "true"],
    ):
        said = refused(capsys, "predict", *changed)
        assert f"{out}/classes/a.png is there, predicted from another source or by other" in said
        assert "9 such files in all" in said
        assert "overwrite=true" in said
        assert stats(out) == before

    Image.fromarray(noise(9)).save(photos / "a.png")  # another source
    said = refused(capsys, "predict", *args)
    assert "3 such files in all" in said
    assert stats(out) == before
    command("predict", *args, "--overwrite", "true")
    after = stats(out)
    assert {name for name in before if after[name] != before[name]} == {
        "classes/a.png", "color/a.png", "overlay/a.jpg",
    }  # fmt: skip
    assert after.keys() - before.keys() == {
        "classes/new.png", "color/new.png", "overlay/new.jpg",
    }  # fmt: skip


@pytest.mark.parametrize("overwrite", ["false", "true"])
def test_files_of_others_are_never_replaced(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], overwrite: str
) -> None:
    mine = tmp_path / "out" / "color" / "a.png"
    mine.parent.mkdir(parents=True)
    shutil.copy(photos / "a.png", mine)
    args = ["--input", photos, "--output", tmp_path / "out", "--overwrite", overwrite]
    said = refused(capsys, "predict", "--run", run, *args)
    assert f"{mine} is there and was not written by predict. It is left alone" in said
    assert predicted(tmp_path / "out") == {"color/a.png": (photos / "a.png").read_bytes()}


@pytest.mark.parametrize("precision", [None, "16", "bf16", "32", "64", 16, 32, 64, "16-true"])
def test_spellings_of_a_precision(precision: Any) -> None:
    found = _convert_precision_to_unified_args(precision) or Trainer(accelerator="cpu").precision
    assert _PRECISIONS.get(str(precision), precision) == found


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--input", "none"], "input none: there is no such file or folder."),
        (["--input", "PHOTOS/*.gif"], "no image or video there"),
        (["--input"], "--input needs a path."),
        (["--input", "PHOTOS", "--write", "masks"], "--write masks: expected"),
        (["--input", "PHOTOS", "--write", "[]"], "--write []: nothing to write."),
        (["--input", "PHOTOS", "--format", "ade"], "--format ade: expected one of"),
        (["--input", "PHOTOS", "--format", "ade20k"], "its 150 classes in order; the network was"),
        (["--input", "PHOTOS", "--format", "ade20k", "--write", "color"], "Leave --write out."),
        (["--input", "PHOTOS", "--data", "CamVid"], "--data names a data set, --input other"),
        (["--input", "PHOTOS", "--data.resize_bas", "null"], "nearest is --data.resize_base."),
        (["--input", "PHOTOS", "--output", "PHOTOS/a.png"], "a.png is a file. Give a folder."),
        (["--input", "PHOTOS", "--output", "PHOTOS/a.png/b"], "a.png is a file. Give a folder."),
        (["--input", "PHOTOS", "--output", "/proc/none"], "cannot be written (No such file or"),
        (
            ["--input", "PHOTOS", "--data.train_size", "3"],
            "--data.train_size: with --input the run's data are not read. Leave it out.",
        ),
        (["--input", "PHOTOS", "--data.input", "x"], "There is no setting --data.input."),
        (
            ["--input", "PHOTOS", "--data.inputs", "x"],
            "setting --data.inputs.\n  The nearest is --input.",
        ),
        (["--input", "PHOTOS", "--overwrite"], "--overwrite: expected one argument"),
    ],
)
def test_mistakes(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    given = [arg.replace("PHOTOS", str(photos)) for arg in args]
    assert said in refused(capsys, "predict", "--run", run, *given)
    assert not (run / "predict").exists()


@pytest.mark.parametrize("described", [{"x": 1}, {"data": "Scenes", "class_names": ["sky"]}])
def test_a_damaged_description_of_the_data(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], described: Any
) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "runs" / "broken" / "0"))
    file = broken / "checkpoints" / "best.ckpt"
    content: dict[str, Any] = torch.load(file, weights_only=True)
    torch.save(content | {"data_description": described}, file)
    said = refused(capsys, "predict", "--run", broken, "--input", photos)
    assert said.startswith(f"error: {file} is damaged: what it says of its classes under ")
    assert "Take another checkpoint of the run." in said


def test_the_help_names_what_predict_takes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help", "all"])
    said = " ".join(capsys.readouterr().out.split())
    for key in ("--input INPUT", "--output OUTPUT", "--write WRITE", "--format FORMAT"):
        assert key in said
    assert "quoted glob" in said


def test_a_dry_run_writes_nothing(run: Path, photos: Path, tmp_path: Path) -> None:
    args = ["--output", tmp_path / "out", "--trainer.fast_dev_run", "true"]
    command("predict", "--run", run, "--input", photos, *args)
    assert not (tmp_path / "out").exists()


def test_limits_are_said(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--trainer.limit_predict_batches", 1, "--data.eval_batch_size", 1]
    command("predict", "--run", run, "--input", photos, "--output", tmp_path / "out", *args)
    assert "1 written, 0 there already, 2 not reached." in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "classes").rglob("*.png"))) == 1
