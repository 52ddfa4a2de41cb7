"""A run of fit, validate, test or predict, and how it ends: by itself, by a signal or an error."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from pne_seg.callbacks import Stopped
from pne_seg.cli.command import SegmentationCLI, this_rank
from pne_seg.cli.failures import Failing, is_out_of_memory, report
from pne_seg.cli.messages import lightning_messages
from pne_seg.inference import Inference

_FIRST = "PNE_SEG_FIRST_PROCESS"
_PATIENCE = 10.0  # seconds that the others have to say what happened to them
_PR_SET_PDEATHSIG = 1

_IRRELEVANT = (
    ".*does not have many workers.*",  # more loader processes on a machine of two cores
    ".*smaller than the logging interval.*",
    ".*LeafSpec.* is deprecated.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*For 'tu-' .* encoders, `encoder_weights` should be.*",
)
"""Warnings of other packages that do not apply here."""


def run(verb: str, args: Sequence[str]) -> SegmentationCLI:
    """Run a verb; see `pne_seg.cli.main` for how it ends."""
    command: SegmentationCLI | None = None
    _follow_first_process(this_rank())
    try:
        with warnings.catch_warnings(), lightning_messages():
            for message in _IRRELEVANT:
                warnings.filterwarnings("ignore", message=message)
            command = SegmentationCLI(verb, args)
            command.start()
        return command
    except Stopped as stopped:
        if this_rank() == 0:
            print(stopped, file=sys.stderr)
        _end_other_processes(command)
        raise SystemExit(stopped.code) from None
    except KeyboardInterrupt:
        if this_rank() == 0:
            prediction = command.prediction if command is not None else None
            print(prediction.stopped() if prediction else "Stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        failing = Failing(verb)
        if command is not None:
            less = _less_memory(command, error) if is_out_of_memory(error) else ""
            workers = command.datamodule.num_workers
            failing = Failing(verb, False, command.run_folder, less, workers)
        try:
            report(error, failing)
        finally:
            _end_other_processes(command)
        raise


def _less_memory(command: SegmentationCLI, error: BaseException) -> str:
    """Return settings with which a command takes less memory, in lines of flags."""
    model, data = command.model, command.datamodule
    frames = traceback.extract_tb(error.__traceback__)
    evaluates = any(frame.name in ("validation_step", "_evaluate") for frame in frames)
    if command.verb != "fit" or evaluates:
        return _less_memory_in_evaluation(model.scorer.inference, data.eval_batch_size)

    def can_train(images: int, size: Sequence[int]) -> bool:
        try:
            model.requirements.check(images, *size)
        except ValueError:
            return False
        return True

    lines = []
    images, size = data.batch_size, getattr(data, "crop_size", None)
    stride = model.preprocessing.stride
    part = next((n for n in range(2, images + 1) if images % n == 0), 1)  # 2 if images is even
    if part > 1 and can_train(images // part, size or (4 * stride, 4 * stride)):
        accumulated = part * (command.config_init["trainer"]["accumulate_grad_batches"] or 1)
        lines.append(
            f"  With the same images per optimizer step: --data.batch_size {images // part} "
            f"--trainer.accumulate_grad_batches {accumulated}"
        )
    if size is not None and data.transforms is None:
        smaller = [max(stride, side // 2 // stride * stride) for side in size]
        if smaller != [*size] and can_train(images, smaller):
            lines.append(f"  With smaller crops: --data.crop_size '{smaller}'")
    return "\n".join(lines) or "  Use smaller images, a smaller network, or --trainer.precision."


def _less_memory_in_evaluation(inference: Inference, batch_size: int) -> str:
    lines = []
    if batch_size > 1:
        lines.append(f"  Images per step: --data.eval_batch_size {batch_size // 2}")
    if inference.window is None:
        lines.append(
            "  Images in windows: --model.inference.window '[512, 512]' "
            "(another protocol: say so with the metrics)"
        )
    elif inference.windows_per_pass > 1:
        half = inference.windows_per_pass // 2
        lines.append(f"  Windows per pass: --model.inference.windows_per_pass {half}")
    return "\n".join(lines) or "  Use a smaller window: --model.inference.window"


def _follow_first_process(rank: int) -> None:
    """End this process with the first one, for which it would wait; on Linux only."""
    first = os.environ.get(_FIRST)
    if rank == 0:
        os.environ[_FIRST] = str(os.getpid())  # those that it starts inherit it
    elif first is not None and sys.platform == "linux":
        if first == str(os.getppid()):
            # By the kernel: while processes connect, no thread of Python's runs.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if not Path("/proc", first).exists():  # it ended before this line
            raise SystemExit(1)


def _end_other_processes(command: SegmentationCLI | None) -> None:
    """Wait a moment for the processes that this one started, then kill them."""
    launcher = None if command is None else command.trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    deadline = time.monotonic() + _PATIENCE
    for process in launcher.procs:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
