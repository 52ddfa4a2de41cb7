"""Loading runs and exports whose network is one of the tests', wherever they lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pne_seg import trained
from pne_seg.imports import Imports
from pne_seg.trained import Trained

TESTS = Imports(allow=("tests",))


def load_trained(source: str | Path, config: Mapping[str, Any] | None = None) -> Trained:
    """`pne_seg.trained.load_trained`, with the tests' own classes allowed."""
    return trained.load_trained(source, config, TESTS)
