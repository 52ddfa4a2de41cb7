"""What every test gets: one thread, so that results repeat, and a seed; and what a module logs."""

import logging
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

torch.set_num_threads(1)
# Lightning cuts its logger off where nothing logs yet; `caplog` reads from the root.
logging.getLogger("lightning.pytorch").propagate = True


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What steps called without a trainer log."""
    values: dict[str, float] = {}

    def log(_module: LightningModule, name: str, value: Tensor, **_: Any) -> None:
        values[name] = float(value)

    monkeypatch.setattr(LightningModule, "log", log)
    return values
