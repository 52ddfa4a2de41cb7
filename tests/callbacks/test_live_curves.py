"""Curves that a notebook shows while it trains."""

from pathlib import Path
from typing import Any

import IPython.display
import pytest

from pne_seg.callbacks import live_curves
from tests.cli.commands import TINY, command, refused, write_config


def test_each_validation_redraws_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[Any, str, bool]] = []

    def display(picture: Any, *, display_id: str, update: bool) -> None:
        shown.append((picture.data, display_id, update))

    monkeypatch.setattr(IPython.display, "display", display)
    config = write_config(tmp_path / "tiny.yaml", TINY)
    place = ["--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", 2]
    run = command("fit", "--config", config, *place, "--trainer.callbacks", "LiveCurves")
    assert run.run_folder is not None
    pictures, names, updates = zip(*shown, strict=True)
    assert updates == (False, True)
    assert len(set(names)) == 1
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
    assert pictures[1] == (run.run_folder / "figures" / "curves.png").read_bytes()


def test_without_ipython(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_curves, "find_spec", lambda name: None)
    config = write_config(tmp_path / "tiny.yaml", TINY)
    place = ["--trainer.default_root_dir", tmp_path]
    said = refused(capsys, "fit", "--config", config, *place, "--trainer.callbacks", "LiveCurves")
    assert "IPython is missing" in said
