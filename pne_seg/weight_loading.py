"""Load weights into a module: to start a fine-tuning, or to evaluate without a run.

A *resume* continues a run exactly and is Lightning's; starting *from* weights loads what fits.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pne_seg.class_rows import class_tensors, describe_rows, rows_by_name
from pne_seg.description import are_named, class_difference, listed
from pne_seg.errors import UserError
from pne_seg.pretrained import Weights, read_weights
from pne_seg.training_loss import TRAINING_TERMS

_MOST_SHAPES = 8  # that a report lists one by one
_NETWORK = "network."
_WITHOUT_EFFECT = re.compile(
    r"network\.encoder\.(model\.)?(norm|fc_norm|head|fc|classifier)\."
    r"|backbone\.(swin\.)?layernorm\.|auxiliary_head\.|.*(num_batches_tracked|relative_position_index|attn_mask)$"
)
"""Classification heads of encoders, training-only heads, and buffers that are no weights."""


@dataclass
class Loaded:
    """What became of each tensor of a source and of a module."""

    source: str
    weights: Weights
    fitting: dict[str, Tensor] = field(default_factory=dict)
    # Name → shape in the source and in the module, which keeps fresh weights, as for those missing.
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    advice: str | None = None  # of the network, if it knows how to fix it
    classes: str | None = None  # what became of their rows

    def __str__(self) -> str:
        mapped = f" (names mapped from {self.weights.library})" if self.weights.library else ""
        lines = [f"Weights from {self.source}: {len(self.fitting)} tensors loaded{mapped}."]
        if self.weights.averaged:
            lines.append("  the moving average of the weights (ema_…) is taken, not the last ones")
        if self.classes:
            lines.append(f"  {self.classes}")
        for name, (theirs, ours) in list(self.other_shape.items())[:_MOST_SHAPES]:
            lines.append(f"  skipped for its shape: {name}, {theirs} in the file, {ours} here")
        if more := list(self.other_shape)[_MOST_SHAPES:]:
            lines.append(f"  and {len(more)} more: {_by_module(more)}")
        if self.missing:
            lines.append(f"  not in the file, fresh weights: {_by_module(self.missing)}")
        if unused := [*self.unused, *self.weights.unknown]:
            lines.append(f"  not used of the file: {_by_module(unused)}")
        if self.advice:
            lines.append(f"  {self.advice}")
        return "\n".join(lines)


def initialize_from(module: nn.Module, source: str | Path) -> Loaded:
    """Load what fits from a source into a training module, and leave the rest as it is.

    If both name their classes, the rows of the classifier, and of an auxiliary one, are loaded by
    name; other classes keep fresh rows. Otherwise rows are loaded in order, if their numbers agree.

    Args:
        module: with the network under `network`; its `class_names`, if any, are used.
        source: as for `pne_seg.pretrained.read_weights`.
    """
    report = _compare(module, str(source), getattr(module, "class_names", ()))
    # Counters of batches and index tables fit any network.
    weights = [name for name, tensor in report.fitting.items() if tensor.is_floating_point()]
    if not any(name.startswith(_NETWORK) for name in weights):
        raise UserError(
            f"{source}: nothing in it fits the network.\n  {_what_it_is(report, module)}"
        )
    report.advice = _advice(module.get_submodule("network"), report.unused)
    _copy(report, module)
    return report


def fill_network(network: nn.Module, source: str, class_names: Sequence[str] = ()) -> Loaded:
    """Load a whole network from a source, without what is for training only.

    The source's class names, if it has any, must be these, in this order; of another library only
    the order counts.
    """
    holder = nn.ModuleDict({"network": network})
    report = _compare(holder, source)
    ours = holder.state_dict()
    missing = [name for name in report.missing if ours[name].is_floating_point()]
    lacking = [*report.other_shape, *missing]
    # Weights that this network lacks mean another network, such as a deeper one.
    further = [name for name in report.unused if name.startswith(_NETWORK)]
    further += report.weights.unknown
    extra = [name for name in further if not _WITHOUT_EFFECT.match(name)]
    if lacking or extra:
        shapes = list(report.other_shape.values())
        counts = {(one[0], other[0]) for one, other in shapes if one[1:] == other[1:]}
        if len(shapes) == len(lacking) and len(counts) == 1 and not extra:  # classifiers only
            there, here = counts.pop()
            raise UserError(
                f"{source}: the weights have {there} classes, the config's data have {here}. Use "
                "a config of the data set that they were trained on."
            )
        reasons = [("it lacks", lacking), ("it also has", extra)]
        given = "; ".join(f"{text} {_by_module(names)}" for text, names in reasons if names)
        raise UserError(
            f"{source}: not the weights of the config's network:\n  {given}.\n"
            f"  {_advice(network, extra) or _what_it_is(report, holder)}"
        )
    report.classes = _same_classes(report, class_names)
    of_training = tuple(f"{term}." for term in TRAINING_TERMS)
    report.unused = [name for name in report.unused if not name.startswith(of_training)]
    _copy(report, holder)
    return report


def _compare(module: nn.Module, source: str, class_names: Sequence[str] = ()) -> Loaded:
    """Match names and shapes of a source's weights, rows by class names; load nothing yet."""
    report, ours = Loaded(source, read_weights(source)), module.state_dict()
    given = report.weights.tensors
    # A training module's names, a bare network's, or those of a module that holds a `model`.
    forms = ("", _NETWORK), ("", ""), ("model.", _NETWORK)
    named = [{new + name.removeprefix(old): t for name, t in given.items()} for old, new in forms]
    theirs = max(named, key=lambda names: len(names.keys() & ours.keys()))
    for name, tensor in ours.items():
        if name not in theirs:
            report.missing.append(name)
        elif theirs[name].shape != tensor.shape:
            report.other_shape[name] = (tuple(theirs[name].shape), tuple(tensor.shape))
        else:
            report.fitting[name] = theirs[name]
    report.unused = [name for name in theirs if name not in ours]
    if class_names and [*class_names] != [*report.weights.class_names]:
        _match_rows(module, class_names, theirs, report)
    return report


def _match_rows(
    module: nn.Module, here: Sequence[str], theirs: Mapping[str, Tensor], report: Loaded
) -> None:
    """Match the rows of classifiers to classes by name, in `report`."""
    there, ours = report.weights.class_names, module.state_dict()
    tensors = {name for name in class_tensors(module, len(here)) if name in theirs}
    if not there or not are_named(here):
        if tensors & report.fitting.keys():
            where = "here" if there else "in the source"
            report.classes = f"classes have no names {where}: all {len(here)} are taken in order"
        return
    if not tensors and len(here) == len(there):
        report.classes = "trained on other classes, but no layer was found that gives their logits"
    for name in tensors:
        rows = rows_by_name(ours[name], theirs[name], here, there)
        if rows is None:
            continue
        report.classes = describe_rows(here, there)
        report.other_shape.pop(name, None)
        if set(here).isdisjoint(there):
            report.fitting.pop(name, None)
        else:
            report.fitting[name] = rows


def _same_classes(report: Loaded, here: Sequence[str]) -> str | None:
    """Refuse weights of other classes; return a note if their names are spelled differently."""
    there = report.weights.class_names
    if len(here) != len(there):  # not named, or not the names of these weights, which fit
        return None
    difference = class_difference(here, there, "in the weights")
    if difference is None:
        return None
    moved = [name for row, name in enumerate(here) if name in there and there[row] != name]
    if report.weights.library and not moved:
        return f"classes are taken in order, though named differently: {difference}"
    raise UserError(
        f"{report.source}: the weights have other classes than the config's data: {difference}.\n"
        "  Use a config of the data set that they were trained on, with the classes in its order."
    )


def _copy(report: Loaded, module: nn.Module) -> None:
    """Copy the tensors that fit, if all of them are plain and finite."""
    ours = module.state_dict()
    for name, tensor in report.fitting.items():
        learned = ours[name].is_floating_point()
        plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        if not plain or (learned and not tensor.is_floating_point()):
            raise UserError(
                f"{report.source}: {name} holds {tensor.dtype} ({tensor.layout}), expected "
                f"{ours[name].dtype}. Save a plain state dict."
            )
        if learned and not tensor.isfinite().all():
            raise UserError(
                f"{report.source}: {name} holds values that are not finite. Take another file."
            )
    with torch.no_grad():
        for name, tensor in report.fitting.items():
            ours[name].copy_(tensor)


def _advice(network: nn.Module, further: Sequence[str]) -> str | None:
    """Return a network's advice on keys that it lacks, as UPerNet gives on its norms."""
    names = [name.removeprefix(_NETWORK) for name in further if name.startswith(_NETWORK)]
    try:
        if names:
            network.load_state_dict(dict.fromkeys(names), strict=False)
    except UserError as error:
        return str(error)
    return None


def _what_it_is(report: Loaded, module: nn.Module) -> str:
    """Describe which network the weights are of, and its config; else a few names of both."""
    # Building networks takes seconds: only on the way to an error.
    from pne_seg.networks.catalogue import recognize

    tensors = report.weights.tensors
    if found := recognize({name.removeprefix(_NETWORK): t for name, t in tensors.items()}):
        return found
    theirs, ours = list(tensors)[:3], list(module.state_dict())[:3]
    return (
        f"It holds {', '.join(theirs)}, …; the network has {', '.join(ours)}, …. Use weights of "
        "the same method and encoder."
    )


def _by_module(names: Sequence[str]) -> str:
    """Shorten names to the modules that hold them, with the number of tensors in each."""
    counts = Counter(".".join(name.split(".")[:3]) for name in names)
    return listed([f"{module} ({count})" for module, count in counts.items()])
