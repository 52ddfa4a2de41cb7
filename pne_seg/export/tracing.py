"""One graph from camera pixels to logits, traced by torch.export and written as ONNX too."""

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import statically_known_true

from pne_seg.errors import UserError
from pne_seg.export.any_size import for_any_size
from pne_seg.exported import DESCRIPTION
from pne_seg.inference import Preprocessing

SMALLEST = 64
"""Least side of an image in pixels, for graphs of any size; rounded up to a multiple."""
_USUAL_STRIDE = 32
"""Of encoders. Networks that take any side branch on it; multiples of this leave that out."""
INPUT, OUTPUT = "images", "scores"
"""What the graphs call their one input and output."""


class PixelsToLogits(nn.Module):
    """Normalization, network, and logits at the image's size, in one graph."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in 0–255, sides divisible by the stride → (B, C, H, W)."""
        logits: Tensor = self.network(self.preprocessing.normalize(images))
        size = images.shape[-2:]
        # While traced, sizes are expressions: asking whether two are equal would fix the answer in
        # the graph.
        if all(statically_known_true(a == b) for a, b in zip(logits.shape[-2:], size, strict=True)):
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Traced:
    """A traced graph, or only the weights, and which images it takes."""

    program: ExportedProgram | None  # None for the weights
    multiple: int  # pixels that must divide both sides: the network's stride or more
    size: tuple[int, int] | None = None  # height and width that it is fixed at; None for any
    reason: str | None = None  # why it is fixed, unless it was asked to be
    opset: int | None = None  # version of ONNX's operators


def round_up(side: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-side // multiple) * multiple


def trace(
    network: nn.Module, preprocessing: Preprocessing, size: tuple[int, int], fixed: bool = False
) -> Traced:
    """Trace a network for any batch and, where it allows that, any size.

    Args:
        network: in eval mode; it is not changed.
        preprocessing: normalization and stride.
        size: height and width that the graph is fixed at if any size fails, or `fixed` is set.
        fixed: whether to fix the graph at `size` without trying any other.
    """
    stride = preprocessing.stride
    rewritten = PixelsToLogits(for_any_size(network), preprocessing).eval()
    as_it_is = PixelsToLogits(network, preprocessing).eval()
    multiples = () if fixed else sorted({stride, math.lcm(stride, _USUAL_STRIDE)})
    attempts: list[tuple[nn.Module, int, tuple[int, int] | None]] = [
        *((rewritten, multiple, None) for multiple in multiples),
        (rewritten, stride, size),
        (as_it_is, stride, size),  # its layers may not be called as the rewritten ones are
    ]
    reason, failure = None, Exception()
    for graph, multiple, one_size in attempts:
        try:
            program = _export(graph, multiple, one_size)
            return Traced(program, multiple, one_size, reason if one_size else None)
        except Exception as error:  # a network fails as it likes
            failure = error
            reason = reason if one_size else first_line(error)
    raise UserError(
        f"The network cannot be traced at {size[0]}×{size[1]} pixels: {first_line(failure)}\n"
        "  Give a size that it takes, size=[HEIGHT, WIDTH], or leave the graphs out: "
        "formats=[safetensors]."
    ) from failure


def _export(graph: nn.Module, multiple: int, size: tuple[int, int] | None) -> ExportedProgram:
    shape: dict[int, Any] = {0: Dim("batch", min=1)}
    if size is None:
        least = round_up(SMALLEST, multiple)
        rows, columns = (Dim(name, min=least // multiple) for name in ("rows", "columns"))
        shape |= {2: multiple * rows, 3: multiple * columns}
        # Two different sides, and more than one of everything: a trace specializes on 1.
        size = 2 * least, 3 * least
    with _quietly(), torch.no_grad():
        return torch.export.export(
            graph, (torch.zeros(2, 3, *size),), dynamic_shapes={INPUT: shape}
        )


def write_program(traced: Traced, path: Path, metadata: Mapping[str, str]) -> Traced:
    """Write `model.pt2`, with `metadata` in its extra file `segmentation.json`."""
    assert traced.program is not None
    # Else they are saved, and as a pickle.
    traced.program.example_inputs = None
    # In memory first: on a full disk PyTorch's writer ends the process.
    content = io.BytesIO()
    with _quietly():
        torch.export.save(
            traced.program, content, extra_files={DESCRIPTION: json.dumps(metadata, indent=1)}
        )
    path.write_bytes(content.getbuffer())
    return traced


def write_onnx(traced: Traced, path: Path, metadata: Mapping[str, str]) -> Traced:
    """Write `model.onnx`, with `metadata` in its `metadata_props`."""
    import onnx_ir as ir

    assert traced.program is not None
    with _quietly(), torch.no_grad():
        written = torch.onnx.export(
            traced.program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
        )
    assert written is not None
    model = written.model
    model.metadata_props.update(metadata)
    # The tracer calls free sides by its expressions.
    for value in (*model.graph.inputs, *model.graph.outputs):
        shape: list[Any] = list(value.shape or ())
        shape[0] = ir.SymbolicDim("batch")
        if traced.size is None:
            shape[2:] = ir.SymbolicDim("height"), ir.SymbolicDim("width")
        value.shape = ir.Shape(shape)
    written.save(path)
    return replace(traced, opset=int(model.opset_imports[""]))


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporters' notes for their own developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def first_line(error: Exception) -> str:
    """Return the first lines of an exporter's message, which may take pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:240] or type(error).__name__
