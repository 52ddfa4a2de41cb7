"""Absurd values in any place of a config file end in a few lines, and soon."""

import os
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from pne_seg.cli import main
from tests.cli.commands import write_config
from tests.cli.fuzzing import EVERYTHING, changed

_FILE = "changed.yaml"
EXAMPLES = int(os.environ.get("PNE_SEG_EXAMPLES", "50"))
"""Of the long run, for each command; more to look for faults."""


def run_changed(
    verb: str, args: list[str], seeds: range, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a command on many changed configs; each must succeed or be refused in a few lines."""
    config: dict[str, Any] = yaml.safe_load(EVERYTHING)
    for seed in seeds:
        content, said = changed(config, Random(seed))
        file = write_config(tmp_path / _FILE, content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code: object = 0
            try:
                main([verb, "--config", str(file), *args])
            except SystemExit as stop:
                code = stop.code
            except Exception as error:
                code = f"{type(error).__name__}: {error}"
        assert code in ((0, 1, 2) if verb == "check-data" else (0, 2)), (
            f"seed {seed}: {said}: {code}"
        )
        os.environ.pop("PL_GLOBAL_SEED", None)
        message = capsys.readouterr().err.rpartition("error: ")[2]
        assert len(message.splitlines()) <= 6 or "error: " not in message, f"seed {seed}: {said}"


def arguments(verb: str, fitted: Path) -> list[str]:
    last = str(fitted / "checkpoints" / "last.ckpt")
    dry = ["--trainer.fast_dev_run", "true"]
    return {
        "fit": dry,
        "validate": [*dry, "--ckpt_path", last],
        "predict": [*dry, "--ckpt_path", last],
        "check-data": ["--output", "null", "--processes", "1"],
    }[verb]


@pytest.mark.parametrize("verb", ["fit", "validate", "predict", "check-data"])
def test_changed_configs(
    verb: str, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_changed(verb, arguments(verb, fitted), range(6), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fit", "validate", "predict", "check-data"])
def test_many_changed_configs(
    verb: str, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_changed(verb, arguments(verb, fitted), range(1000, 1000 + EXAMPLES), tmp_path, capsys)
