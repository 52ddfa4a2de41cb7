"""A checkpoint as mmengine saves it: beside the weights, objects of its own and of NumPy.

What it pickles is rebuilt here from `mmengine/logging/history_buffer.py` as its files show it: a
history with arrays, and its statistics as methods, which pickle as `getattr(HistoryBuffer, name)`.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_HOME = "mmengine.logging.history_buffer"


class HistoryBuffer:
    """Values of a logged scalar."""

    def __init__(self) -> None:
        self._log_history = np.array([0.5, 0.25])
        self._count_history = np.array([1, 1])
        self._statistics_methods = OrderedDict(min=HistoryBuffer.min)

    def min(self) -> float:
        """The least of the values."""
        return float(self._log_history.min())


@contextmanager
def mmengine() -> Iterator[None]:
    """While it lasts, the package that the class is pickled as part of can be imported."""
    names = [_HOME.rsplit(".", depth)[0] for depth in (2, 1, 0)]
    for name in names:
        sys.modules[name] = ModuleType(name)
    sys.modules[_HOME].HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    HistoryBuffer.__module__, own = _HOME, HistoryBuffer.__module__
    HistoryBuffer.min.__module__ = _HOME
    try:
        yield
    finally:
        HistoryBuffer.__module__ = own
        for name in names:
            del sys.modules[name]


def save_1x(state: Mapping[str, Tensor], path: Path, **further: Any) -> Path:
    """As `mmengine.Runner.save_checkpoint` writes it; the package is gone afterwards."""
    with mmengine():
        content = {
            "meta": {"epoch": 0, "iter": 160000, "cfg": "model = dict()", "dataset_meta": {}},
            "state_dict": OrderedDict(state),
            "message_hub": {
                "log_scalars": OrderedDict({"train/loss": HistoryBuffer()}),
                "runtime_info": OrderedDict(iter=160000, last=np.float64(0.5)),
                "resumed_keys": OrderedDict(),
            },
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
            "param_schedulers": [{"last_step": np.int64(3)}],
            **further,
        }
        torch.save(content, path)
    return path
