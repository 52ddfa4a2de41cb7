"""Many processes that look at samples at the same time, and no more than a few tasks ahead."""

import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import active_children, get_context, parent_process

import cv2

from pne_seg.data.base import Split
from pne_seg.data.inspection.examiner import Examiner, Findings, Task
from pne_seg.errors import UserError

SAMPLES_AT_ONCE = 8
"""So many samples are one task of a process."""

_STDERR = 2
_TASKS_AHEAD = 3  # for each process: one under way, and some more so that it never waits

_examiners: dict[Split, Examiner] = {}  # of this process; they come once, not with each task


def examine_all(
    examiners: dict[Split, Examiner], processes: int, started: Callable[[], None]
) -> Generator[Findings]:
    """Examine every sample of all splits, in processes; results come in any order.

    Args:
        examiners: one for each split.
        processes: number of processes.
        started: called once all of them run; whoever starts threads does it there, as a forked
            process must not inherit half of one.

    Raises:
        UserError: a process was killed.
    """
    tasks = [
        Task(split, start, min(start + SAMPLES_AT_ONCE, len(examiner.dataset)))
        for split, examiner in examiners.items()
        for start in range(0, len(examiner.dataset), SAMPLES_AT_ONCE)
    ]
    if not tasks:
        return
    waiting = iter(tasks)
    processes = max(1, min(processes, len(tasks)))
    others = set(active_children())
    # A fork takes no time and shares the lists of files; elsewhere it is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(examiners,))
    pending: dict[Future[Findings], Task] = {}
    try:
        for task in islice(waiting, processes * _TASKS_AHEAD):
            pending[pool.submit(_examine, task)] = task
        started()
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                found = future.result()
                del pending[future]
                for task in islice(waiting, 1):
                    pending[pool.submit(_examine, task)] = task
                yield found
    except BrokenProcessPool as error:
        raise _killed(examiners, list(pending.values())) from error
    except BaseException:
        for process in set(active_children()) - others:
            process.kill()  # in place of waiting for what nobody wants any more
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(examiners: dict[Split, Examiner]) -> None:
    _examiners.update(examiners)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    cv2.setNumThreads(0)  # one processor for each process
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The decoders complain of damage on the standard error stream alone.
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), _STDERR)


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _examine(task: Task) -> Findings:
    return _examiners[task.split].examine(task, _said_by_decoder)


def _said_by_decoder() -> str:
    """What a JPEG decoder has said since the last call; the remarks of others are no damage."""
    length = os.lseek(_STDERR, 0, os.SEEK_CUR)
    if not length:
        return ""
    os.lseek(_STDERR, 0, os.SEEK_SET)
    lines = os.read(_STDERR, length).decode(errors="replace").splitlines()
    os.lseek(_STDERR, 0, os.SEEK_SET)
    os.ftruncate(_STDERR, 0)
    return "; ".join(dict.fromkeys(line for line in lines if "JPEG" in line))


def _killed(examiners: dict[Split, Examiner], tasks: Sequence[Task]) -> UserError:
    first = min(tasks, key=lambda task: (list(examiners).index(task.split), task.start))
    count = sum(task.stop - task.start for task in tasks)
    name = examiners[first.split].dataset.name(first.start)
    return UserError(
        "A process that reads the files was killed, as the system does where memory runs out; it "
        f"was at one of the {count} images from {name} ({first.split}) on. Use fewer at a time: "
        "--processes 1"
    )
