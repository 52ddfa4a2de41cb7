"""How many processors there are for decoding."""

import os


def usable_processors() -> int:
    """Number of processors that this process may use, 1 or more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
