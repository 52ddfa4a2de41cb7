"""The processes of one run on several devices: where one ends, so do the others."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

_FIRST = "PNE_SEG_FIRST_PROCESS"
_PATIENCE = 10.0  # seconds that the others have to say what happened to them
_PR_SET_PDEATHSIG = 1


def follow_first_process(rank: int) -> None:
    """End this process with the first one, which started it and may be killed; on Linux only.

    It would wait for the first one's answer: for half an hour while they connect.

    Args:
        rank: of this process, 0 for the first one.
    """
    first = os.environ.get(_FIRST)
    if rank == 0:
        os.environ[_FIRST] = str(os.getpid())  # those that it starts inherit it
    elif first is not None and sys.platform == "linux":
        if first == str(os.getppid()):
            # By the kernel: while processes connect, no thread of Python's runs.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if not Path("/proc", first).exists():  # it ended before this line
            raise SystemExit(1)


def end_other_processes(trainer: Trainer) -> None:
    """Wait a moment for the processes that this one started, then end them."""
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    deadline = time.monotonic() + _PATIENCE
    for process in launcher.procs:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
