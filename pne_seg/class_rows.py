"""The tensors that hold a row for each class, and how rows follow the classes' names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pne_seg.description import listed
from pne_seg.feature_hooks import dummy_forward


def class_tensors(module: nn.Module, num_classes: int) -> set[str]:
    """Find the tensors of a training module whose first dimension is the classes.

    In the network these are the layers of whose C rows only row c reaches the logits of class c, by
    the gradient of a dummy image's logits, whatever the layers are called; and a classifier inside
    it, if the network or the auxiliary term names one (`auxiliary_logits`, `logits_module`). In an
    auxiliary head it is the last layer with C rows.

    Returns:
        Names in the state dict, statistics of such layers included. Those of the network are left
        out if they are not found, as where each logit depends on all rows.
    """
    if num_classes < 2:  # there are no rows to tell apart
        return set()
    network, auxiliary = module.get_submodule("network"), getattr(module, "auxiliary", None)
    layers = {f"network.{name}" for name in _output_layers(network, num_classes)}
    inside = (getattr(network, "auxiliary_logits", None), getattr(auxiliary, "logits_module", None))
    layers |= {f"network.{name}" for name in inside if name}
    if isinstance(auxiliary, nn.Module):
        heads = [n for n, p in auxiliary.named_parameters() if _has_rows(p, num_classes)]
        layers |= {f"auxiliary.{name.rpartition('.')[0]}" for name in heads[-1:]}
    return {
        name
        for name, tensor in module.state_dict().items()
        if name.rpartition(".")[0] in layers and _has_rows(tensor, num_classes)
    }


def _output_layers(network: nn.Module, num_classes: int) -> set[str]:
    parameters = dict(network.named_parameters())
    candidates = {n: p for n, p in parameters.items() if _has_rows(p, num_classes)}
    if not candidates:
        return set()
    required = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in candidates)
        logit = dummy_forward(network, with_graph=True)[:, 0].sum()
        gradients = torch.autograd.grad(logit, [*candidates.values()], allow_unused=True)
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(required[name])
    return {
        name.rpartition(".")[0]
        for name, gradient in zip(candidates, gradients, strict=True)
        if gradient is not None and gradient[0].any() and not gradient[1:].any()
    }


def _has_rows(tensor: Tensor, num_classes: int) -> bool:
    return tensor.ndim > 0 and len(tensor) == num_classes


def rows_by_name(
    fresh: Tensor, given: Tensor, here: Sequence[str], there: Sequence[str]
) -> Tensor | None:
    """Return `fresh`, rows of the classes `here`, with those that `given` has of the same name.

    None if `given` is no plain float tensor with a row for each class `there`.
    """
    plain = given.layout == torch.strided and given.is_floating_point() and not given.is_meta
    if not plain or given.shape != (len(there), *fresh.shape[1:]):
        return None
    row_of = {name: row for row, name in enumerate(there)}
    rows = fresh.clone()
    for row, name in enumerate(here):
        if name in row_of:
            rows[row] = given[row_of[name]]
    return rows


def describe_rows(here: Sequence[str], there: Sequence[str]) -> str:
    """Describe which classes took their rows from a source, which are new, and which are unused."""
    known = [name for name in here if name in there]
    new = [name for name in here if name not in there]
    dropped = [name for name in there if name not in here]
    kind = "other classes" if new or dropped else "the classes in another order"
    text = f"trained on {kind}; taken by name: {listed(known) or 'none'}"
    if new:
        text += f"; new, with fresh weights: {listed(new)}"
    if dropped:
        text += f"; not used: {listed(dropped)}"
    return text
