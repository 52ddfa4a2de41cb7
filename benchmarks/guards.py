"""What exact resume, signals and guards take of a training step of the Scenes config.

    python -m benchmarks.guards

Processor time of the training's thread, so that other programs do not count; torch on one thread.
"""

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback

from pne_seg.callbacks import ExactResume, FiniteTraining, LabeledPixels, StopOnSignal
from pne_seg.cli import main

CONFIG = Path(__file__).parents[1] / "configs" / "scenes_upernet_resnet18.yaml"
GUARDS = (FiniteTraining, LabeledPixels, ExactResume, StopOnSignal)
HOOKS = (
    "on_train_batch_start",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Steps(Callback):
    """Processor time from the first step's beginning to the last one's end."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0
        self.count = 0

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin with the first step."""
        self.began = self.began or time.thread_time()

    def on_train_batch_end(self, *_: Any) -> None:
        """End with the last step so far."""
        self.ended = time.thread_time()
        self.count += 1


def timed(hook: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """Wrap a hook to add up its processor time."""

    @functools.wraps(hook)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return hook(*args, **kwargs)
        finally:
            seconds[name] += time.thread_time() - began

    return call


def measure() -> str:
    """Train an epoch of 400 scenes; returns the table."""
    torch.set_num_threads(1)
    seconds: dict[str, float] = defaultdict(float)
    for guard in GUARDS:
        for hook in HOOKS:
            if hook in vars(guard):
                setattr(guard, hook, timed(vars(guard)[hook], seconds, guard.__name__))
    with TemporaryDirectory() as folder:
        place = ["--trainer.default_root_dir", folder, "--figures.num_images", "0"]
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "1"]
        quiet += ["--trainer.limit_val_batches", "0", "--trainer.callbacks", f"{__name__}.Steps"]
        result = main(["fit", "--config", str(CONFIG), *place, *quiet, "--allow", "benchmarks"])
    assert result is not None
    callbacks: list[Callback] = result.trainer.callbacks  # type: ignore[attr-defined]
    steps = next(found for found in callbacks if type(found).__name__ == "Steps")
    whole: float = (steps.ended - steps.began) / steps.count  # type: ignore[attr-defined]
    lines = [f"step: {1e3 * whole:.1f} ms of processor time, torch {torch.__version__}"]
    for name, spent in seconds.items():
        each = spent / steps.count  # type: ignore[attr-defined]
        lines.append(f"  {name:<16} {1e3 * each:7.3f} ms  {100 * each / whole:6.3f}%")
    total = sum(seconds.values()) / steps.count  # type: ignore[attr-defined]
    lines.append(f"  {'together':<16} {1e3 * total:7.3f} ms  {100 * total / whole:6.3f}%")
    return "\n".join(lines)


if __name__ == "__main__":
    print(measure())
