"""How a command fails: a few lines for what the user can fix, a traceback for mistakes in code."""

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pne_seg.cli import fail
from pne_seg.cli.messages import as_flags
from pne_seg.errors import DataError, UserError
from pne_seg.runs import Run

TRACEBACK = "PNE_SEG_TRACEBACK"
"""Environment variable; with any value the traceback of every error is printed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)  # files, processes
_CV2_NO_MEMORY = -4
_CUDA_NO_MEMORY = 2


@dataclass(frozen=True)
class Failing:
    """What a command was doing when it failed."""

    verb: str
    building: bool = True  # from the settings, so that these are to blame
    folder: Path | None = None  # where it writes
    less_memory: str = ""  # lines that say how it takes less memory
    workers: int = 0


def report(error: Exception, failing: Failing) -> None:
    """Print what the user can fix and leave with exit code 2; add a note to a mistake in code.

    The note ends the traceback that Python prints of an exception that nothing catches.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    message = _message(error, failing)
    if message is not None:
        last = failing.folder and Run(failing.folder).last
        if failing.verb == "fit" and last and last.is_file():
            message += f"\n  The last checkpoint is whole. To resume from it: --ckpt_path {last}"
        fail(message)
    error.add_note(
        f"error: {failing.verb} ended by the {type(error).__name__} above, raised in "
        f"{_origin(error)}. Correct that code if it is yours, or the setting that leads there."
    )


def _message(error: Exception, failing: Failing) -> str | None:
    if isinstance(error, UserError):
        text = error.text(as_flags) if isinstance(error, DataError) else str(error)
        # From a loader's worker the message comes wrapped in the worker's traceback.
        return text.rpartition(f"{type(error).__name__}: ")[2].strip()
    # Of the trainer's settings.
    if _is_a(error, "lightning.fabric.utilities.exceptions", "MisconfigurationException"):
        return one_line(error)
    if is_out_of_memory(error):
        fix = failing.less_memory or "  Make the sizes in the settings smaller."
        return f"Out of memory: {one_line(error, 160)}\n{fix}"
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    for found in chain:
        if isinstance(found, OSError) and found.errno in _FULL:
            return _of_file(found, failing)
    if isinstance(error, RuntimeError) and any(
        part in str(error) for part in ("Bus error", "shared memory", "file </torch_")
    ):
        return (
            "A loader process ended as the shared memory (/dev/shm) was full. Load without such "
            "processes: --data.num_workers 0\n"
            "  Or give it more, in a container by docker run --shm-size 8g"
        )
    if _is_of_killed_worker(error):
        return (
            "A loader process was killed, as the system does if memory runs out. Use fewer: "
            f"--data.num_workers {failing.workers // 2}"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _of_file(error, failing)
    # gloo's errors have no class of their own.
    is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    if is_gloo or _is_a(error, "torch.distributed", "DistError"):
        return (
            "Another process of this run ended. If it printed no reason, it was killed, as the "
            "system does if memory runs out."
        )
    if failing.building:
        return (
            f"{type(error).__name__}: {one_line(error)}\n"
            f"  Raised in {_origin(error)}. Correct the setting that leads there; the environment "
            f"variable {TRACEBACK}=1 shows the traceback."
        )
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a path on errors of the system that name none, as those of a write do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _of_file(error: OSError, failing: Failing) -> str:
    named = error.filename2 or error.filename
    where = os.fsdecode(named) if isinstance(named, str | bytes) else failing.folder or "A file"
    reason = error.strerror or os.strerror(error.errno or 0)
    has_output = failing.verb in ("predict", "export", "compare", "check-data")
    flag = "--output" if has_output else "--trainer.default_root_dir"
    place = f"choose another place: {flag} DIR"
    if error.errno in _FULL:
        return f"{where} cannot be written ({reason}). Make room there, or {place}"
    if error.errno in _TOO_MANY:
        return f"{where}: {reason}. Use fewer loader processes: --data.num_workers 0"
    return f"{where}: {reason}. Check that path and its permissions, or {place}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out: a device's, or the machine's."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if _is_a(error, "cv2", "error"):
        return getattr(error, "code", None) == _CV2_NO_MEMORY
    if _is_a(error, "torch", "AcceleratorError"):
        return getattr(error, "error_code", None) == _CUDA_NO_MEMORY
    # torch has no class of its own for the memory of the processor.
    is_of_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return is_of_cpu or _is_a(error, "torch", "OutOfMemoryError")


def _is_a(error: BaseException, module: str, name: str) -> bool:
    """Whether an error is of a package's class; a package that is not loaded raised none."""
    return isinstance(error, getattr(sys.modules.get(module), name, ()))


def _is_of_killed_worker(error: Exception) -> bool:
    if isinstance(error, RuntimeError):  # torch has no class of its own for it
        return str(error).startswith("DataLoader worker (pid")
    # What it was about to hand over is gone.
    lost = isinstance(error, ConnectionError | EOFError) or (
        isinstance(error, FileNotFoundError) and error.filename is None
    )
    frames = traceback.extract_tb(error.__traceback__)
    return lost and any("multiprocessing" in frame.filename for frame in frames)


def misfit(checkpoint: Path | None, error: Exception) -> str:
    """Describe a checkpoint that could not be taken over."""
    return (
        f"{checkpoint} does not fit the network and settings here, or is damaged: "
        f"{type(error).__name__}: {one_line(error)}\n"
        "  Use the config of the run that wrote it (--run takes both from one run), or another "
        "checkpoint."
    )


def one_line(error: BaseException, length: int = 300) -> str:
    """Return an exception's message on one line, cut if it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[:length]} …"


def _origin(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "code without lines"
