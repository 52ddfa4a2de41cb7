"""One finished run for all tests of the command line, and a clean environment for each."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import TINY, command, write_config
from tests.cli.predicting import make_decided


@pytest.fixture(autouse=True)
def _own_seed() -> Iterator[None]:
    """`seed_everything` writes to the environment, where the next datamodule would read it."""
    yield
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A complete config file named `tiny`."""
    return write_config(tmp_path / "tiny.yaml", TINY)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, `root/runs/tiny/0`, to be read; `run` is a copy."""
    root = tmp_path_factory.mktemp("fitted")
    config = write_config(root / "tiny.yaml", TINY)
    given = ["--config", config, "--trainer.default_root_dir", root, "--figures.num_images", 8]
    folder = command("fit", *given).run_folder
    assert folder is not None
    return folder


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run, `root/runs/tiny/0`."""
    folder = tmp_path / "root" / "runs" / "tiny" / "0"
    shutil.copytree(fitted, folder)
    return folder


@pytest.fixture(scope="module")
def decided(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run, `runs/tiny/0`, whose network says each of its classes somewhere."""
    folder = tmp_path_factory.mktemp("decided") / "runs" / "tiny" / "0"
    shutil.copytree(fitted, folder)
    make_decided(folder / "checkpoints" / "best.ckpt", num_classes=11)
    return folder
