"""What an export says of itself: `segmentation.json`, and the same in short inside each file."""

import json
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pne_seg.export.folder import FORMATS
from pne_seg.export.programs import INPUT, OUTPUT, Traced, smallest_side
from pne_seg.export.weights import loader
from pne_seg.trained import Trained

_PACKAGES = ("pne-seg", "torch", "segmentation-models-pytorch", "timm", "onnx", "onnxscript")


def describe(trained: Trained, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of `segmentation.json`.

    Args:
        trained: what is exported.
        files: by format, what there is to say of its file.
    """
    return {
        "data": trained.data.as_dict(),
        **trained.preprocessing.normalization,
        "stride": trained.preprocessing.stride,
        "files": {FORMATS[key]: note for key, note in files.items()},
        "inference": asdict(trained.inference),
        "network": {
            "class": f"{type(trained.network).__module__}.{type(trained.network).__qualname__}",
            "parameters": sum(p.numel() for p in trained.network.parameters()),
            "from_pretrained": loader(trained.network),
            "settings": trained.slot,
        },
        "run": trained.run_name,
        "checkpoint": trained.path.name,
        "metrics": trained.metrics,
        "versions": _versions(),
    }


def as_json(content: dict[str, Any]) -> str:
    """Indented, but for lists of numbers, which take a line each."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    numbers = re.compile(r"\[\s+([-\d.eE+]+(?:,\s+[-\d.eE+]+)*)\s+\]")
    return numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def header(trained: Trained, graph: Traced | None) -> dict[str, str]:
    """The essentials as texts (JSON where they are lists), as the files carry them inside.

    Args:
        trained: what is exported.
        graph: what is written; the bare network where not given.
    """
    stride = trained.preprocessing.stride
    values = trained.data.as_dict() | trained.preprocessing.normalization | {"stride": stride}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
    }
    return texts | conventions(stride, graph)


def conventions(stride: int, graph: Traced | None) -> dict[str, str]:
    """What goes into a file's network and comes out of it, in words.

    Args:
        stride: of the network.
        graph: what is written; the bare network where not given.
    """
    multiple = stride if graph is None else graph.multiple
    sides = f"both sides divisible by {multiple}" if multiple > 1 else "any sides"
    if graph is None:
        return {
            "input": f"float32 (batch, 3, height, width), RGB, {sides}, normalised: (pixels in "
            "0-255 - mean) / std",
            "output": "class scores (batch, classes, h, w), before the softmax; enlarge them to "
            "the image's size bilinearly (align_corners=False) where they are smaller",
        }
    if graph.size is not None:
        sides = "height {} and width {} alone".format(*graph.size)
    else:
        sides += f", {smallest_side(multiple)} pixels or more"
    return {
        "input": f"{INPUT}: float32 (batch, 3, height, width), RGB in 0-255, {sides}; normalised "
        "inside, not by the caller",
        "output": f"{OUTPUT}: class scores (batch, classes, height, width), before the softmax, at "
        "the image's size",
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # onnx is left out where it is not asked for
    return found
