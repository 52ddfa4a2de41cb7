"""What exact resume, signals and guards take of a training step of the Scenes config.

    python -m benchmarks.guards

Every other step goes without them. Processor time of the training's thread, so that other programs
count little; torch on one thread.
"""

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback

from pne_seg.callbacks import ExactResume, FiniteTraining, LabelledPixels, StopOnSignal
from pne_seg.cli import main

CONFIG = Path(__file__).parents[1] / "configs" / "scenes_upernet_resnet18.yaml"
GUARDS = (FiniteTraining, LabelledPixels, ExactResume, StopOnSignal)
HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
STEPS: list[float] = []
"""Processor time of each step in seconds; those of even numbers are guarded."""


class Steps(Callback):
    """Measures from one step's end to the next one's."""

    def __init__(self) -> None:
        self.ended = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time; the first callback is told first, so that a step ends with its guards."""
        now = time.thread_time()
        STEPS.append(now - self.ended)
        self.ended = now


def switched(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, in every other step."""

    @functools.wraps(hook)
    def call(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs) if len(STEPS) % 2 == 0 else None

    return call


def measure() -> str:
    """Train two epochs of 400 scenes; returns the table."""
    torch.set_num_threads(1)
    for guard in GUARDS:
        for hook in HOOKS:
            if hook in vars(guard):
                setattr(guard, hook, switched(vars(guard)[hook]))
    with TemporaryDirectory() as folder:
        place = ["--trainer.default_root_dir", folder, "--figures.num_images", "0"]
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "2"]
        quiet += ["--trainer.limit_val_batches", "0", "--trainer.callbacks", f"{__name__}.Steps"]
        main(["fit", "--config", str(CONFIG), *place, *quiet, "--allow", "benchmarks"])
    # A guard's last hooks fall into the next measurement: a pair of both kinds is whole.
    guarded, bare = STEPS[2::2], STEPS[3::2]
    with_them, without = statistics.median(guarded), statistics.median(bare)
    return (
        f"median of {len(guarded)} and {len(bare)} steps, torch {torch.__version__}, one thread\n"
        f"  without guards {1e3 * without:7.1f} ms\n"
        f"  with them      {1e3 * with_them:7.1f} ms, ratio {with_them / without:.4f}"
    )


if __name__ == "__main__":
    print(measure())
