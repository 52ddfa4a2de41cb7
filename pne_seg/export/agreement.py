"""Compare what was written with the network that it was written from."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from pne_seg.export.tracing import INPUT, SMALLEST, Traced, first_line, round_up
from pne_seg.exported import FORMATS, read_network
from pne_seg.inference import Predictor
from pne_seg.trained import Trained

TOLERANCE = 1e-4
"""Largest difference in logits, relative to the largest logit if that is above 1."""


class DisagreementError(Exception):
    """What was written does not return what the network returns."""


def compare(
    trained: Trained, folder: Path, format: str, written: Traced
) -> tuple[float, float] | None:
    """Return the largest difference from the network's logits, and the largest of these.

    None if the package to run the file is not installed. More than rounding is an error.
    """
    run = _load(trained, folder, format)
    if run is None:
        return None
    fix = "Nothing was written."
    if format != "safetensors":
        fix += f"\n  {leave_out(format)}"
        if written.size is None:
            fix += ", or fix the graphs at one size: size=[HEIGHT, WIDTH]"
    try:
        apart, largest = difference(run, trained, written)
    except Exception as error:  # runtimes fail as they like
        raise DisagreementError(
            f"{FORMATS[format]} does not run: {first_line(error)}\n  {fix}"
        ) from error
    if not apart <= TOLERANCE * max(1.0, largest):
        raise DisagreementError(
            f"{FORMATS[format]} returns logits up to {apart:.2g} away from the network's, whose "
            f"largest is {largest:.3g}; {TOLERANCE:g} of it is allowed. {fix}"
        )
    return apart, largest


def _load(trained: Trained, folder: Path, format: str) -> Callable[[Tensor], Tensor] | None:
    """Load a written file again: (B, 3, H, W) in 0–255 → (B, C, H, W) logits."""
    path = folder / FORMATS[format]
    if format == "safetensors":
        return Predictor(read_network(folder, trained.imports), trained.preprocessing).logits
    if format == "torch":
        program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
        return program
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def difference(
    run: Callable[[Tensor], Tensor], trained: Trained, written: Traced
) -> tuple[float, float]:
    """Return the largest difference from the network's logits, and the largest of these.

    Images are random: of two sizes that were not traced, or two batches of a fixed one.
    """
    sizes = [(1, *written.size), (3, *written.size)] if written.size else []
    if not sizes:  # odd sides, if they are possible
        least, step = round_up(SMALLEST, written.multiple), round_up(17, written.multiple)
        sizes = [(1, least, least + step), (3, 3 * least + step, least)]
    predictor = Predictor(trained.network, trained.preprocessing)
    generator = torch.Generator().manual_seed(0)
    apart = largest = 0.0
    for batch, height, width in sizes:
        images = torch.randint(0, 256, (batch, 3, height, width), generator=generator).float()
        with torch.inference_mode():
            expected, got = predictor.logits(images), run(images)
        if got.shape != expected.shape:
            return float("inf"), largest
        # Not max() of the two: NaN must not pass.
        here = float((got - expected).abs().max())
        apart = here if not here <= apart else apart
        largest = max(largest, float(expected.abs().max()))
    return apart, largest


def leave_out(format: str) -> str:
    """Return the advice to leave a format out."""
    others = ", ".join(known for known in FORMATS if known != format)
    return f"Leave it out: formats=[{others}]"
