"""Settings of a class that is only the default take effect, or the class is asked for."""

from pathlib import Path
from typing import Any

import pytest

from pne_seg.cli.arguments import DEFAULT_CLASSES, SLOTS, top_level_keys
from pne_seg.cli.mistyped import check_keys
from pne_seg.cli.settings import Settings
from pne_seg.data import Scenes
from pne_seg.errors import UserError
from pne_seg.imports import imported
from pne_seg.losses import CrossEntropy
from pne_seg.module import SegmentationModule
from tests.cli.commands import DRY, TINY, command, refused, write_config
from tests.tiny_networks import TinyNet


def load(folder: Path, configs: list[dict[str, Any]], args: list[str]) -> Settings:
    files = [str(write_config(folder / f"{i}.yaml", one)) for i, one in enumerate(configs)]
    settings = Settings.of([*(f"--config={file}" for file in files), *args])
    settings.load()
    return settings


def test_the_table_names_what_the_module_builds() -> None:
    module = SegmentationModule(TinyNet(), num_classes=3)
    assert type(module.losses.main) is imported(DEFAULT_CLASSES["model.loss"])
    assert module.optimizer is imported(DEFAULT_CLASSES["model.optimizer"])


@pytest.mark.parametrize("base", [{}, {"model": {"loss": None, "optimizer": None}}])
@pytest.mark.parametrize("key", sorted(DEFAULT_CLASSES))
def test_settings_reach_the_default_class(tmp_path: Path, base: dict[str, Any], key: str) -> None:
    settings = load(tmp_path, [base], [f"--{key}.a", "1"])
    assert settings.get(key) == {"class_path": DEFAULT_CLASSES[key], "init_args": {"a": "1"}}
    other = load(tmp_path, [base], [f"--{key}.a", "1", f"--{key}", "my.Other"])
    assert other.get(key) == {"class_path": "my.Other", "init_args": {"a": "1"}}


def test_another_file_changes_the_default_class_afresh_or_keeps_it(tmp_path: Path) -> None:
    first: dict[str, Any] = {"model": {"loss": {"class_weights": [1, 2, 1]}}}
    same = load(tmp_path, [first, {"model": {"loss": "CrossEntropy"}}], [])
    assert same.get("model.loss.class_weights") == [1, 2, 1]
    other = load(tmp_path, [first, {"model": {"loss": "OHEMCrossEntropy"}}], [])
    assert other.get("model.loss") == "OHEMCrossEntropy"


@pytest.mark.parametrize(
    "key", sorted({*SLOTS} - {*DEFAULT_CLASSES} - {"data", "ema", "trainer.logger"})
)
def test_a_class_without_a_default_is_asked_for(tmp_path: Path, key: str) -> None:
    settings = load(tmp_path, [{}], [f"--{key}.weight", "1"])
    with pytest.raises(UserError, match=rf"--{key}\.weight is set, but the class .*--{key} CLASS"):
        check_keys(settings, top_level_keys("fit"))


def test_class_weights_train_where_the_config_names_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", TINY)
    classes = len(Scenes().class_names)
    weights = [float(number) for number in range(1, classes + 1)]
    run = command("fit", "--config", config, *DRY, "--model.loss.class_weights", weights)
    main = run.model.losses.main
    assert isinstance(main, CrossEntropy)
    assert main.class_weights is not None
    assert main.class_weights.tolist() == weights


def test_another_slots_class_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "tiny.yaml", TINY)
    said = refused(capsys, "fit", "--config", config, *DRY, "--model.extra_losses.dice.mode", "x")
    assert "--model.extra_losses.dice.mode is set, but the class" in said
