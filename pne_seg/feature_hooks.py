"""Reach into a network by module name: capture tensors, drop channels.

All of it is done by forward hooks, which leave the network's class, parameters and state dict as
they are, and its outputs too outside training.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

DUMMY_SIZES = (64, 224, 256, 384, 512)
"""Sides of dummy images in pixels; the larger ones are for fixed-size transformers."""


class ModuleHook(ABC):
    """A forward hook on a submodule that can be attached to a network, and removed."""

    _handle: RemovableHandle | None = None

    @abstractmethod
    def attach(self, network: nn.Module) -> None:
        """Register the hook."""

    def detach(self) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


class FeatureHook(ModuleHook):
    """Keep what enters or leaves a submodule, in forward passes inside `capture` only.

    The `"input"` is the first argument, the `"output"` the result. `in_training` also
    keeps it outside `capture`, in training mode and with gradients, for a training loop that knows
    nothing of hooks.
    """

    def __init__(
        self, module_name: str, side: Literal["input", "output"], in_training: bool = False
    ) -> None:
        self.module_name = module_name
        self.side = side
        self.in_training = in_training
        self.capturing = False
        self.passes = 0  # since the last `take`
        self._captured: Any = None

    def attach(self, network: nn.Module) -> None:
        """Register the hook."""
        self.detach()
        module = find_module(network, self.module_name)
        # Bound methods, because a deepcopy of the network then copies the hook along with it; a
        # closure would still write into the original.
        if self.side == "input":
            # First in line, so that what a later pre-hook adds (dropout, say) is not seen.
            self._handle = module.register_forward_pre_hook(
                self._on_input, prepend=True, with_kwargs=True
            )
        else:
            self._handle = module.register_forward_hook(self._on_output)

    def detach(self) -> None:
        """Remove the hook and release any tensor."""
        super().detach()
        self._captured = None
        self.passes = 0

    @property
    def has_captured(self) -> bool:
        """Whether a forward pass has left something to take."""
        return self._captured is not None

    def take(self) -> Any:
        """Return what the last forward pass left and forget it, so that it keeps no memory.

        Usually a tensor; a list of them if the module returns one, as encoders do.
        """
        if self._captured is None:
            raise RuntimeError(
                f"No tensor has passed the {self.side} of {self.module_name!r} since it was last "
                "read. Name a module that runs once in every training step; run a network in eval "
                "mode inside `with pne_seg.feature_hooks.capture(term.hooks):`."
            )
        captured, self._captured = self._captured, None
        self.passes = 0
        return captured

    def _captures(self, module: nn.Module) -> bool:
        trains = self.in_training and module.training and torch.is_grad_enabled()
        return self.capturing or trains

    def _on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._captures(module):
            self._captured = args[0] if args else next(iter(kwargs.values()), None)
            self.passes += 1

    def _on_output(self, module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        if self._captures(module):
            # A copy of a list, because the next module may change the list itself.
            self._captured = list(output) if isinstance(output, list) else output
            self.passes += 1


@contextmanager
def capture(hooks: Sequence[FeatureHook]) -> Iterator[None]:
    """Let the hooks keep tensors inside the block only: other passes cost and hold nothing."""
    for hook in hooks:
        hook.capturing = True
    try:
        yield
    finally:
        for hook in hooks:
            hook.capturing = False


def find_module(network: nn.Module, name: str) -> nn.Module:
    """Look a submodule up by its dotted name; the error names the nearest ones."""
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if name in modules:
        return modules[name]
    near = difflib.get_close_matches(name, [key for key in modules if key], n=3, cutoff=0.3)
    raise ValueError(
        f"{type(network).__name__} has no module {name!r}. "
        + (f"The nearest are {', '.join(map(repr, near))}." if near else "It has no submodules.")
    )


class Classifier(NamedTuple):
    """Names of the modules around a network's classifier.

    The *input* of `feature` is the feature, ahead of any dropout; the *output* of `logits` the
    logits, before any upsampling.
    """

    feature: str
    logits: str


def find_classifier(network: nn.Module) -> Classifier:
    """Find the last convolution of `segmentation_head` (smp) or `classifier` (torchvision).

    Dropout layers directly before it are skipped, so that the feature is the clean one.
    """
    modules = dict(network.named_modules())
    for head in ("segmentation_head", "classifier", "network.classifier"):
        inside = modules[head].named_modules(prefix=head) if head in modules else ()
        leaves = [(name, module) for name, module in inside if not list(module.children())]
        while leaves and not isinstance(leaves[-1][1], nn.Conv2d):
            leaves.pop()
        if leaves:
            feature = logits = leaves.pop()[0]
            while leaves and isinstance(leaves[-1][1], nn.Dropout | nn.Dropout2d):
                feature = leaves.pop()[0]
            return Classifier(feature, logits)
    raise ValueError(
        f"{type(network).__name__} has neither a 'segmentation_head' nor a 'classifier' that ends "
        "in a convolution. Name the modules yourself: 'feature_module', whose input is the feature "
        "that enters the classifier, and 'logits_module', whose output is the logits."
    )


class ClassifierDropout(ModuleHook):
    """Drop a share of the channels of the feature that enters the classifier, in training only.

    A forward pre-hook, so that the network keeps its class and its parameter names. Feature hooks
    on the same module see the feature before it.
    """

    def __init__(self, probability: float) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {probability}.")
        self.probability = probability

    def attach(self, network: nn.Module) -> None:
        """Register the hook; none for a probability of 0."""
        self.detach()
        if self.probability:
            classifier = find_module(network, find_classifier(network).feature)
            self._handle = classifier.register_forward_pre_hook(self._on_input)

    def _on_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (F.dropout2d(args[0], self.probability, module.training), *args[1:])


def dummy_forward(
    network: nn.Module,
    hooks: Sequence[FeatureHook] = (),
    *,
    with_graph: bool = False,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Run a small (1, 3, s, s) image through the network in eval mode and return its output.

    Several sizes are tried, or only `size` (height and width).

    Weights, batch statistics, random state and each module's train/eval mode stay as they were. The
    image is blank; `with_graph` runs noise, which reaches all layers, and keeps the graph.
    """
    modes = [(module, module.training) for module in network.modules()]
    anchor = next(network.parameters(), torch.empty(0))
    gpus = [anchor.device] if anchor.is_cuda else []
    draw = torch.randn if with_graph else torch.zeros
    first_failure: Exception | None = None
    sizes = [(side, side) for side in DUMMY_SIZES] if size is None else [size]
    network.eval()
    try:
        with torch.set_grad_enabled(with_graph), capture(hooks), torch.random.fork_rng(gpus):
            for height, width in sizes:
                image = draw(1, 3, height, width, device=anchor.device, dtype=torch.float32)
                # With a graph even if all weights are frozen; a leaf could not be changed in place.
                image = image.requires_grad_().clone() if with_graph else image
                try:
                    output: Tensor = network(image)
                except Exception as failure:  # a size that does not fit raises whatever it likes
                    first_failure = first_failure or failure
                    continue
                return output
    finally:
        for module, mode in modes:
            module.training = mode
    tried = ", ".join(f"{height}×{width}" for height, width in sizes)
    raise ValueError(
        f"{type(network).__name__} accepts no image of {tried} pixels: {first_failure}"
    ) from first_failure


def capture_dummy(network: nn.Module, hooks: Sequence[FeatureHook]) -> list[Any]:
    """Attach hooks, capture what a dummy image leaves at each, and remove them again.

    The tensors keep their graph, see `pne_seg.dummy_graph`. `ValueError` if a module is not run
    once.
    """
    try:
        for hook in hooks:
            hook.attach(network)
        dummy_forward(network, hooks, with_graph=True)
        for hook in hooks:
            if hook.passes != 1:
                often = f"runs {hook.passes} times" if hook.passes else "is not run"
                raise ValueError(
                    f"{hook.module_name!r} {often} in a forward pass of {type(network).__name__} "
                    "in eval mode. Name a module that runs once in each."
                )
        return [hook.take() for hook in hooks]
    finally:
        for hook in hooks:
            hook.detach()
