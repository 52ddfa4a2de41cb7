"""Weights from a file: where a fine-tuning starts, and checkpoints with other training-only parts.

A *resume* goes on with a run exactly and is Lightning's; starting *from* a file takes what fits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.terms import TRAINING_TERMS

_MOST_SHAPES = 8
"""Tensors of another shape that a report lists one by one."""


@dataclass
class Loaded:
    """What became of each tensor of a file and of a module.

    Attributes:
        file: where the weights came from.
        loaded: names that were taken over.
        other_shape: name → (shape in the file, shape in the module); these keep fresh weights.
        missing: names of the module that the file lacks; these keep fresh weights.
        unused: names of the file that the module lacks.
    """

    file: Path
    loaded: list[str] = field(default_factory=list)
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"Initialised from {self.file}: {len(self.loaded)} tensors loaded."]
        for name, (theirs, ours) in list(self.other_shape.items())[:_MOST_SHAPES]:
            lines.append(f"  skipped for its shape: {name}, {theirs} in the file, {ours} here")
        if len(self.other_shape) > _MOST_SHAPES:
            more = list(self.other_shape)[_MOST_SHAPES:]
            lines.append(f"  and {len(more)} more: {_by_module(more)}")
        if self.missing:
            lines.append(f"  not in the file, fresh weights: {_by_module(self.missing)}")
        if self.unused:
            lines.append(f"  not used of the file: {_by_module(self.unused)}")
        return "\n".join(lines)


def initialise_from(module: nn.Module, file: str | Path) -> Loaded:
    """Load what fits of a file into a training module, and leave the rest as it is.

    Args:
        module: with the network under `network`.
        file: a checkpoint of a run, a network's own state dict (with or without the prefix
            `network.`), or `.safetensors`.

    Returns:
        What was loaded, what was skipped for its shape, and what was missing on either side.

    Raises:
        UserError: the file is missing or unreadable, or nothing in it fits the module.
    """
    path = Path(file)
    theirs = _read(path)
    ours = module.state_dict()
    if not any(name in ours for name in theirs):
        theirs = {f"network.{name}": tensor for name, tensor in theirs.items()}
    report = Loaded(path)
    fitting: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        if name not in theirs:
            report.missing.append(name)
        elif theirs[name].shape != tensor.shape:
            report.other_shape[name] = (tuple(theirs[name].shape), tuple(tensor.shape))
        else:
            fitting[name] = theirs[name]
            report.loaded.append(name)
    report.unused = [name for name in theirs if name not in ours]
    # Counters of batches and index tables fit any network.
    weights = [name for name, tensor in fitting.items() if tensor.is_floating_point()]
    if not any(name.startswith("network.") for name in weights):
        raise UserError(
            f"--model.init_from {path}: nothing in it fits the network. It holds "
            f"{', '.join(list(theirs)[:3])}, …; the network has {', '.join(list(ours)[:3])}, …. "
            "Use a checkpoint of the same method and encoder."
        )
    with torch.no_grad():
        for name, tensor in fitting.items():
            ours[name].copy_(tensor)
    return report


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"--model.init_from {path}: there is no such file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            # The file may come from anywhere: it must not run code.
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling fails in many ways
        # torch's own message advises weights_only=False.
        raise UserError(
            f"--model.init_from {path} cannot be read as weights ({type(error).__name__}): it was "
            "cut short, is another kind of file, or holds more than tensors and plain values, "
            "which is left closed because it could run code. A state dict will do: "
            "torch.save(network.state_dict(), FILE)."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"--model.init_from {path} holds no state dict.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"--model.init_from {path} holds no tensors.")
    return tensors


def _by_module(names: Sequence[str], most: int = 6) -> str:
    """Names shortened to the modules that hold them, with the number of tensors in each."""
    counts: dict[str, int] = {}
    for name in names:
        module = ".".join(name.split(".")[:3])
        counts[module] = counts.get(module, 0) + 1
    listed = [f"{module} ({count})" for module, count in list(counts.items())[:most]]
    more = len(counts) - most
    return ", ".join(listed) + (f", and {more} more" if more > 0 else "")


def reconcile_training_terms(
    module: nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Let a state dict load whether or not it and the module carry the same training-only terms.

    A pre-hook of `load_state_dict`. Weights for a term that the module lacks are left, and a term
    that the state lacks keeps its fresh weights.
    """
    for name in TRAINING_TERMS:
        start = f"{prefix}{name}."
        own = getattr(module, name)
        own_state = own.state_dict(prefix=start) if own is not None else {}
        given = [key for key in state if key.startswith(start)]
        if not own_state:
            for key in given:
                del state[key]
        elif not given:
            state.update(own_state)
