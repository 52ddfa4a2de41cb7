"""Weights into a module: where a fine-tuning starts, and what is scored without a run.

A *resume* continues a run exactly and is Lightning's; starting *from* weights takes what fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.pretrained import Weights, read_weights
from pne_seg.terms import TRAINING_TERMS

_MOST_SHAPES = 8
"""Tensors of another shape that a report lists one by one."""

_NETWORK = "network."


@dataclass
class Loaded:
    """What became of each tensor of a source and of a module.

    Attributes:
        source: as it was given.
        weights: what it holds.
        loaded: names that were taken over.
        other_shape: name → (shape in the source, shape in the module); these keep fresh weights.
        missing: names of the module that the source lacks; these keep fresh weights.
        unused: names of the source that the module lacks.
    """

    source: str
    weights: Weights
    loaded: list[str] = field(default_factory=list)
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        mapped = f" (names mapped from {self.weights.library})" if self.weights.library else ""
        lines = [f"Weights from {self.source}: {len(self.loaded)} tensors loaded{mapped}."]
        if self.weights.averaged:
            lines.append("  the moving average of the weights (ema_…) is taken, not the last ones")
        for name, (theirs, ours) in list(self.other_shape.items())[:_MOST_SHAPES]:
            lines.append(f"  skipped for its shape: {name}, {theirs} in the file, {ours} here")
        if len(self.other_shape) > _MOST_SHAPES:
            more = list(self.other_shape)[_MOST_SHAPES:]
            lines.append(f"  and {len(more)} more: {_by_module(more)}")
        if self.missing:
            lines.append(f"  not in the file, fresh weights: {_by_module(self.missing)}")
        if unused := [*self.unused, *self.weights.unknown]:
            lines.append(f"  not used of the file: {_by_module(unused)}")
        return "\n".join(lines)


def initialize_from(module: nn.Module, source: str | Path) -> Loaded:
    """Load what fits of a source into a training module, and leave the rest as it is.

    Args:
        module: with the network under `network`.
        source: as for `pne_seg.pretrained.read_weights`.

    Returns:
        What was loaded, what was skipped for its shape, and what was missing on either side.

    Raises:
        UserError: the source cannot be read, or nothing in it fits the network; the message names
            the network that it does fit, if there is one.
    """
    report, fitting = _compare(module, str(source))
    # Counters of batches and index tables fit any network.
    weights = [name for name, tensor in fitting.items() if tensor.is_floating_point()]
    if not any(name.startswith(_NETWORK) for name in weights):
        raise UserError(
            f"{source}: nothing in it fits the network.\n  {_what_it_is(report, module)}"
        )
    ours = module.state_dict()
    with torch.no_grad():
        for name, tensor in fitting.items():
            ours[name].copy_(tensor)
    return report


def fill_network(network: nn.Module, source: str) -> Loaded:
    """Load a whole network from a source; what is for training only is left.

    Args:
        network: bare; each of its parameters and statistics is overwritten.
        source: as for `pne_seg.pretrained.read_weights`.

    Raises:
        UserError: the source cannot be read, or does not hold the whole of the network.
    """
    holder = nn.ModuleDict({"network": network})
    report, fitting = _compare(holder, source)
    lacking = [*report.other_shape, *(name for name in report.missing if _carries(holder, name))]
    # A key of the decoder that has no place here would make it another network.
    extra = [name for name in report.unused if name.startswith(f"{_NETWORK}decoder.")]
    extra += [name for name in report.weights.unknown if name.startswith("decode_head.")]
    if lacking or extra:
        shapes = list(report.other_shape.values())
        counts = {(theirs[0], ours[0]) for theirs, ours in shapes if theirs[1:] == ours[1:]}
        if len(shapes) == len(lacking) and len(counts) == 1:  # classifiers only
            theirs, ours = counts.pop()
            raise UserError(
                f"{source}: the weights have {theirs} classes, the config's data have {ours}. Use "
                "a config of the data set that they were trained on."
            )
        # A network may know what the further keys are of, as UPerNet does, and say what to set.
        further = (name.removeprefix(_NETWORK) for name in extra)
        network.load_state_dict(dict.fromkeys(further), strict=False)
        reasons = [f"it lacks {_by_module(lacking)}"] if lacking else []
        reasons += [f"it also has {_by_module(extra)}"] if extra else []
        raise UserError(
            f"{source}: not the weights of the config's network:\n  {'; '.join(reasons)}.\n"
            f"  {_what_it_is(report, holder)}"
        )
    terms = tuple(f"{term}." for term in TRAINING_TERMS)
    report.unused = [name for name in report.unused if not name.startswith(terms)]
    network.load_state_dict(
        {name.removeprefix(_NETWORK): tensor for name, tensor in fitting.items()}, strict=False
    )
    return report


def _carries(module: nn.Module, name: str) -> bool:
    """Whether a tensor holds something learned; counters and index tables do not."""
    tensor: Tensor = module.state_dict()[name]
    return tensor.is_floating_point()


def _compare(module: nn.Module, source: str) -> tuple[Loaded, dict[str, Tensor]]:
    """Match names and shapes of a source's weights; nothing is loaded yet."""
    weights, ours = read_weights(source), module.state_dict()
    given = weights.tensors
    # A training module's names, a bare network's, or those of a module that holds a `model`.
    forms = ("", _NETWORK), ("", ""), ("model.", _NETWORK)
    named = [{new + name.removeprefix(old): t for name, t in given.items()} for old, new in forms]
    theirs = max(named, key=lambda names: len(names.keys() & ours.keys()))
    report = Loaded(source, weights)
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
    return report, fitting


def _what_it_is(report: Loaded, module: nn.Module) -> str:
    """The network that the weights are of, and its config; else a few names of both."""
    from pne_seg.pretrained.recognition import (
        recognize,  # builds networks: only on the way to an error
    )

    tensors = report.weights.tensors
    if found := recognize({name.removeprefix(_NETWORK): t for name, t in tensors.items()}):
        return found
    theirs, ours = list(tensors)[:3], list(module.state_dict())[:3]
    return (
        f"It holds {', '.join(theirs)}, …; the network has {', '.join(ours)}, …. Use weights of "
        "the same method and encoder."
    )


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
