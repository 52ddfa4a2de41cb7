"""Time and memory of a call, on CPU and CUDA."""

import ctypes
import gc
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

Call = Callable[[], object]


def interleaved(calls: Mapping[str, Call], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each call, called in turn so that a disturbance hits all alike."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(call: Call, device: str) -> float:
    """Bytes at the peak of a call, beyond those held before it; NaN where it cannot be told.

    On CUDA the allocator's count; on Linux what the process occupies at most, so that memory
    inside operators and NumPy's count too.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or memory freed before would serve unseen
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status("VmRSS")
        call()
        return _status("VmHWM") - before
    except OSError:
        return math.nan


def peak_tensors(call: Call) -> int:
    """Bytes of the tensors that a call holds at most on the CPU, beyond those held before it.

    What the allocator is asked for, as the profiler sees it: unlike `peak_memory` it repeats
    exactly, and leaves out what the C library keeps of memory that was freed.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        call()
    results = profile.profiler.kineto_results
    changes = [event for event in results.events() if event.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


def _status(key: str) -> int:
    """Read a field of the process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {key}")


def machine(device: str) -> str:
    """Processor, threads and PyTorch, in a line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    parts = [name, f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    if device == "cuda":
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
