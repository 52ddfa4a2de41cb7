"""Advice of the libraries that does not hold here."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_ADVICE = (
    ".*does not have many workers.*",  # more loader processes on a machine of two cores
    ".*smaller than the logging interval.*",
    ".*LeafSpec.* is deprecated.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*For 'tu-' .* encoders, `encoder_weights` should be.*",
)


@contextmanager
def without_advice() -> Iterator[None]:
    """Leave it unsaid for a while."""
    with warnings.catch_warnings():
        for message in _ADVICE:
            warnings.filterwarnings("ignore", message=message)
        yield
