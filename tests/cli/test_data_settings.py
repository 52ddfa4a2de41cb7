"""Settings of the data: transforms and classes in YAML, and what is said of mistakes in them."""

from pathlib import Path

import pytest

from pne_seg.cli.merging import merge
from tests.cli.commands import DRY, command, refused
from tests.data.miniature import write_folder


@pytest.mark.parametrize(
    ("transform", "near"),
    [
        ("{class_path: albumentations.HorizontalFlip, init_args: {pp: 1.0}}", "p"),
        (
            "{class_path: pne_seg.data.transforms.RandomScaleCrop, "
            "init_args: {size: [8, 8], bas: [16, 8]}}",
            "base",
        ),
    ],
)
def test_an_argument_that_a_transform_does_not_know(
    transform: str, near: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "fit", "--config", tiny, "--data.transforms", f"[{transform}]")
    assert f"The nearest is --data.transforms.{near}." in said


def test_an_error_of_several_lines_keeps_them(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--data", "Folder", "--data.root", tmp_path, "--data.classes", "[]"]
    said = refused(capsys, "fit", "--config", tiny, *folder)
    assert "names no classes" in said
    assert "{background: 0, road: 255}" in said


def test_a_renamed_setting_is_answered_with_its_new_name(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--data", "Folder", "--data.root", tmp_path, "--data.ignore_colours", "[[0, 0, 0]]"]
    said = refused(capsys, "fit", "--config", tiny, *folder)
    assert "The nearest is --data.ignore_colors." in said


def test_a_choice_among_transforms_is_read_from_yaml(tiny: Path) -> None:
    flips = ", ".join(
        f"{{class_path: albumentations.{name}, init_args: {{p: 1.0}}}}"
        for name in ("HorizontalFlip", "VerticalFlip")
    )
    choice = f"[{{class_path: albumentations.OneOf, init_args: {{transforms: [{flips}]}}}}]"
    command("fit", "--config", tiny, "--data.transforms", choice, *DRY)


def test_classes_of_a_second_config_replace_those_of_the_first(tmp_path: Path) -> None:
    first = {"data": {"class_path": "Folder", "init_args": {"classes": {"a": 0, "b": 1}}}}
    second = {"data": {"class_path": "Folder", "init_args": {"classes": {"c": 0}}}}
    assert merge(first, second, "second")["data"]["init_args"]["classes"] == {"c": 0}


def test_nothing_is_decoded_into_the_cache_for_a_training_that_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "mine", "split_first")
    data = ["--data", "Folder", "--data.root", tmp_path / "mine", "--data.batch_size", 2]
    data += ["--data.crop_size", "[32, 32]", "--data.cache", tmp_path / "cache"]
    args = ["--config", tiny, *data, *DRY]
    assert "learning rate" in refused(capsys, "fit", *args, "--model.optimizer.lr", "-1")
    assert not (tmp_path / "cache").exists()
    command("fit", *args)
    assert list((tmp_path / "cache").rglob("*.raw"))
