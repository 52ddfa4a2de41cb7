"""What an export says about itself: `segmentation.json`, and the same in short in each file."""

import json
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pne_seg.export.tracing import INPUT, OUTPUT, Traced, smallest_side
from pne_seg.export.weights_file import loading_library
from pne_seg.exported import FORMATS
from pne_seg.trained import Trained

_PACKAGES = ("pne-seg", "torch", "segmentation-models-pytorch", "timm", "onnx", "onnxscript")


def describe(trained: Trained, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of `segmentation.json`.

    Args:
        trained: what is exported.
        files: format → what its file takes and returns.
    """
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # onnx is optional
    return {
        "data": trained.data.as_dict(),
        **trained.preprocessing.normalization,
        "stride": trained.preprocessing.stride,
        "files": {FORMATS[key]: note for key, note in files.items()},
        "inference": asdict(trained.inference),
        "network": {
            "class": f"{type(trained.network).__module__}.{type(trained.network).__qualname__}",
            "parameters": sum(p.numel() for p in trained.network.parameters()),
            "from_pretrained": loading_library(trained.network),
            "settings": trained.slot,
        },
        "run": trained.run_name,
        "checkpoint": trained.path.name,
        "metrics": trained.metrics,
        "versions": versions,
    }


def as_json(content: dict[str, Any]) -> str:
    """Indent, except lists of numbers, which take a line each."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    numbers = re.compile(r"\[\s+([-\d.eE+]+(?:,\s+[-\d.eE+]+)*)\s+\]")
    return numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def header(trained: Trained, graph: Traced | None) -> dict[str, str]:
    """Return the essentials as strings (lists as JSON), which each file carries inside.

    Args:
        trained: what is exported.
        graph: what is written; None for the weights alone.
    """
    stride = trained.preprocessing.stride
    values = trained.data.as_dict() | trained.preprocessing.normalization | {"stride": stride}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
    return texts | conventions(stride, graph)


def conventions(stride: int, graph: Traced | None) -> dict[str, str]:
    """Say what a file's network takes and returns.

    Args:
        stride: of the network.
        graph: what is written; None for the weights alone.
    """
    multiple = stride if graph is None else graph.multiple
    sides = f"both sides divisible by {multiple}" if multiple > 1 else "any sides"
    if graph is None:
        return {
            "input": f"float32 (batch, 3, height, width), RGB, {sides}, normalized: (pixels in "
            "0-255 - mean) / std",
            "output": "logits (batch, classes, h, w), before the softmax; enlarge them to the "
            "image's size bilinearly (align_corners=False) if they are smaller",
        }
    if graph.size is not None:
        sides = "height {} and width {} only".format(*graph.size)
    else:
        sides += f", {smallest_side(multiple)} pixels or more"
    return {
        "input": f"{INPUT}: float32 (batch, 3, height, width), RGB in 0-255, {sides}; normalized "
        "inside, not by the caller",
        "output": f"{OUTPUT}: logits (batch, classes, height, width), before the softmax, at the "
        "image's size",
    }
