"""The memory of a training and of a validation does not grow with their length."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback, Trainer

from tests.cli.commands import command

STEPS, IMAGES = 2000, 2000
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Resident(Callback):
    """Resident memory in bytes, by batches of the training and of validations."""

    def __init__(self) -> None:
        self.training: list[tuple[int, int]] = []
        self.validation: list[tuple[int, int]] = []

    def _note(self, found: list[tuple[int, int]]) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found.append((len(found), pages * _PAGE))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._note(self.training)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._note(self.validation)


def slope(found: list[tuple[int, int]]) -> float:
    """Bytes a batch, after the first quarter, in which caches fill."""
    batches, resident = np.array(found[len(found) // 4 :]).T
    return float(np.polyfit(batches, resident, 1)[0])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells it there")
def test_memory_stays(tiny: Path, tmp_path: Path) -> None:
    sizes = ["--data.train_size", "800", "--data.batch_size", "2", "--data.eval_batch_size", "1"]
    done = command(
        "fit", "--config", tiny, "--trainer.default_root_dir", tmp_path, *sizes,
        "--data.val_size", IMAGES, "--trainer.max_steps", STEPS, "--trainer.max_epochs", "-1",
        "--trainer.val_check_interval", STEPS, "--trainer.check_val_every_n_epoch", "null",
        "--trainer.callbacks", f"{__name__}.Resident", "--ema.decay", "0.9",
        "--last_checkpoint.every_n_train_steps", "200",
    )  # fmt: skip
    callbacks: list[Callback] = done.trainer.callbacks  # type: ignore[attr-defined]
    resident: Any = next(found for found in callbacks if type(found).__name__ == "Resident")
    assert len(resident.training) == STEPS
    assert len(resident.validation) == IMAGES
    growth = {"training": slope(resident.training), "validation": slope(resident.validation)}
    print(growth)
    # 2 kB a batch would be 4 MB here, as much as a hundred of the images that were seen.
    assert growth["training"] < 2000, growth
    assert growth["validation"] < 2000, growth
