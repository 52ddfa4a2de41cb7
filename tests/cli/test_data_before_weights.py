"""Missing data are reported before a network is built or weights are fetched."""

from pathlib import Path

import pytest
from torch import nn

from pne_seg.cli import start
from tests.cli.commands import DRY, refused, write_config

CONFIG = f"""
model: {{network: {__name__}.Unbuilt}}
trainer: {{max_steps: 1}}
"""
DATA = ("ADE20K", "Cityscapes", "COCOStuff", "CamVid", "Folder")


class Unbuilt(nn.Module):
    """A network whose weights would take long to fetch."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        raise AssertionError("built before the data were looked for")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path / "network.yaml", CONFIG)


def settings(data: str) -> list[str]:
    names = ["--data.classes", "[a, b]"] if data == "Folder" else []
    return ["--data", data, "--data.root", "nowhere", *names]


@pytest.mark.parametrize("data", DATA)
def test_before_a_network_is_built(
    data: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "fit", "--config", config, *settings(data), *DRY)
    assert "nowhere does not hold" in said


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_before_weights_are_fetched(
    verb: str,
    data: str,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fetch(source: str) -> Path:
        raise AssertionError(f"{source} was fetched first")

    monkeypatch.setattr(start, "locate", fetch)
    weights = ["--weights", "hf://nobody/nothing"]
    said = refused(capsys, verb, "--config", config, *settings(data), *weights, *DRY)
    assert "nowhere does not hold" in said
