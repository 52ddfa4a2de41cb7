"""The metrics of a checkpoint, as its training and later evaluations recorded them."""

import glob
from pathlib import Path
from typing import Any

from pne_seg.description import DataDescription
from pne_seg.inference import Inference
from pne_seg.runs import METRICS, Run, read_metrics


def recorded_metrics(
    path: Path,
    step: int | None,
    run: Run,
    data: DataDescription,
    inference: Inference,
    normalization: dict[str, list[float]],
) -> dict[str, dict[str, Any]]:
    """Return the recorded metrics of a checkpoint by split, for its run's data and protocol.

    Those of a later evaluation replace those of the training; of several the newest are taken.
    """
    found: dict[str, dict[str, Any]] = {}
    if (file := run.folder / METRICS).is_file():
        metrics = read_metrics(file)
        if metrics.get("step") == step and (metrics.get("protocol") or {}).get("complete", True):
            found["val"] = metrics
    for split, verb in (("val", "validate"), ("test", "test")):
        files = (run.folder / verb).glob(f"{glob.escape(path.stem)}*/{METRICS}")
        for file in sorted(files, key=lambda file: (file.stat().st_mtime, file)):
            metrics = read_metrics(file)
            protocol = metrics.get("protocol") or {}
            if (
                (metrics.get("step"), metrics.get("checkpoint")) == (step, path.stem)
                and (protocol.get("split"), protocol.get("data")) == (split, data.data)
                and protocol.get("complete") is metrics.get("same_data") is True
                and _is_same(inference, protocol.get("inference"))
                and all(protocol.get(key, value) == value for key, value in normalization.items())
            ):
                found[split] = metrics
    return found


def _is_same(inference: Inference, saved: Any) -> bool:
    try:
        return Inference(**saved) == inference
    except (TypeError, ValueError):
        return False
