"""Wait for what a process in the background does."""

import subprocess
import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until a condition holds; a process that ends before it, or takes too long, fails."""
    deadline = time.monotonic() + 240  # two processes in turn may import torch on a busy machine
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate()[0][-3000:])
        time.sleep(0.02)
