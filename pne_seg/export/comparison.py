"""Compare what was written with the network that it was written from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pne_seg.export.tracing import INPUT, smallest_side
from pne_seg.exported import FORMATS, read_network
from pne_seg.imports import Imports
from pne_seg.inference import Predictor, Preprocessing

TOLERANCE = 1e-4
"""Largest difference in logits, relative to the largest logit if that is above 1."""

Runner = Callable[[Tensor], Tensor]
"""(B, 3, H, W) in 0–255 → (B, C, H, W) logits."""


@dataclass(frozen=True)
class Agreement:
    """How far a file's logits are from the network's.

    Attributes:
        difference: the largest, over all images that were tried.
        logit: the network's largest.
    """

    difference: float
    logit: float

    @property
    def holds(self) -> bool:
        """Whether the difference is no more than rounding."""
        return self.difference <= TOLERANCE * max(1.0, self.logit)


def sizes_to_try(multiple: int, fixed: tuple[int, int] | None) -> tuple[tuple[int, int, int], ...]:
    """Return (batch, height, width): two sizes, neither the traced one, or two batches of one."""
    if fixed is not None:
        return (1, *fixed), (3, *fixed)
    # Odd sides, if they are possible.
    least, step = smallest_side(multiple), multiple * -(-17 // multiple)
    return (1, least, least + step), (3, 3 * least + step, least)


def compare(
    run: Runner,
    network: nn.Module,
    preprocessing: Preprocessing,
    sizes: Sequence[tuple[int, int, int]],
) -> Agreement:
    """Compare logits on random images.

    Args:
        run: what was written.
        network: what it was written from.
        preprocessing: the network's.
        sizes: (batch, height, width) of the images.
    """
    predictor = Predictor(network, preprocessing)
    generator = torch.Generator().manual_seed(0)
    difference = largest = 0.0
    for batch, height, width in sizes:
        images = torch.randint(0, 256, (batch, 3, height, width), generator=generator).float()
        with torch.inference_mode():
            expected = predictor.logits(images)
            got = run(images)
        if got.shape != expected.shape:
            return Agreement(float("inf"), largest)
        # Not max() of the two: NaN must not pass.
        apart = float((got - expected).abs().max())
        difference = apart if not apart <= difference else difference
        largest = max(largest, float(expected.abs().max()))
    return Agreement(difference, largest)


def load_written(
    format: str, folder: Path, preprocessing: Preprocessing, imports: Imports
) -> Runner | None:
    """Load a written file again; None if the package to run it is not installed.

    Args:
        format: one of `FORMATS`.
        folder: of the export.
        preprocessing: for the weights, which take normalized images.
        imports: what the network's settings may name.
    """
    path = folder / FORMATS[format]
    if format == "safetensors":
        return Predictor(read_network(folder, imports), preprocessing).logits
    if format == "torch":
        program: Runner = torch.export.load(path).module()
        return program
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(logits)

    return run
