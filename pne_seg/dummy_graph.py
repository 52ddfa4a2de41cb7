"""What the autograd graph of a dummy forward says of a tensor in it.

It knows functions as well as modules: a softmax in a network's `forward` has no module to find.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_ACTIVATIONS = {
    **{"Softmax": "softmax", "SafeSoftmax": "softmax", "LogSoftmax": "log-softmax"},
    **{"Sigmoid": "sigmoid", "LogSigmoid": "log-sigmoid", "Hardsigmoid": "hardsigmoid"},
    **{"Tanh": "tanh", "Relu": "ReLU", "Softplus": "softplus"},
}
"""By the name of the graph's node; what ends in one of them has lost the range of logits."""
_LIMITS = {"Clamp": ("_saved_min", "_saved_max"), "Hardtanh": ("_saved_min_val", "_saved_max_val")}
_SHAPES = (
    *("Alias", "AsStrided", "Clone", "ConstantPad", "Expand", "Index", "Narrow", "Permute"),
    *("ReflectionPad", "ReshapeAlias", "Select", "Slice", "Split", "Squeeze", "ToCopy"),
    *("Transpose", "Unbind", "UnsafeView", "Unsqueeze", "Upsample", "View"),
)
"""Nodes that move values or interpolate them, by how their names begin."""


def last_activation(tensor: Tensor) -> str | None:
    """Return the activation that a tensor comes from, None if it comes from none.

    Between them may be resizing, cropping and the like: what enters a further layer, or is
    multiplied, as the gates of attention are, comes from that.
    """
    return _activation(tensor.grad_fn)


def _activation(node: Any, logarithm: bool = False) -> str | None:
    while node is not None:
        name = _name(node)
        if name in _ACTIVATIONS:
            return f"log({_ACTIVATIONS[name]})" if logarithm else _ACTIVATIONS[name]
        if name in _LIMITS:
            least, most = (getattr(node, limit, None) for limit in _LIMITS[name])
            if (least is not None and least >= 0) or (most is not None and most <= 1):
                return f"a clamp to {least}…{most}"
        inputs = [one for one, _ in node.next_functions if one is not None]
        if name in ("Cat", "Stack"):
            found = {_activation(one, logarithm) for one in inputs}
            return found.pop() if len(found) == 1 else None
        logarithm = logarithm or name == "Log"
        passes = name in ("Log", *_LIMITS) or name.startswith(_SHAPES)
        if len(inputs) != 1 or not (passes or (logarithm and name == "Add")):
            return None
        node = inputs[0]
    return None


def has_parameters(tensor: Tensor, network: nn.Module) -> bool:
    """Return whether any parameter of the network is trained by a loss on the tensor."""
    own = {id(parameter) for parameter in network.parameters()}
    return any(id(getattr(node, "variable", None)) in own for node in _nodes(tensor))


def comes_from(tensor: Tensor, other: Tensor) -> bool:
    """Return whether a tensor is another one, or computed from it."""
    return tensor is other or any(node is other.grad_fn for node in _nodes(tensor))


def _nodes(tensor: Tensor) -> Iterator[Any]:
    """Every node of the graph before a tensor."""
    seen: set[Any] = set()
    rest = [tensor.grad_fn]
    while rest:
        node = rest.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            rest += [one for one, _ in node.next_functions]


def _name(node: Any) -> str:
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]
