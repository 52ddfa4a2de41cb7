"""What the training loss is the sum of: losses on the logits, and terms from inside the network."""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.feature_hooks import FeatureHook
from pne_seg.loss_checks import check_loss
from pne_seg.losses import ClassWeightedLoss, check_class_weights

TRAINING_TERMS = ("contrast", "auxiliary")
"""Terms of a training module that inference does without."""
_MOST_LOGGED = 20  # class weights in a line


@dataclass
class LossTerm:
    """One named part of the training loss, logged unweighted as `train/loss_<name>`.

    `statistics` are further scalars to log, as `train/<key>`.
    """

    name: str
    value: Tensor
    weight: float
    statistics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def weighted(self) -> Tensor:
        """The weighted value, which enters the total loss."""
        return self.weight * self.value


class TrainingTerm(nn.Module, ABC):
    """A loss on tensors from inside a network, in training only.

    Subclasses choose `hooks` and build their own layers in `attach`, and turn what the hooks
    captured into a `LossTerm` in `forward`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[FeatureHook] = []

    @abstractmethod
    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Attach to a network, which is not kept, and build the layers that depend on it."""

    def detach(self) -> None:
        """Remove the hooks; the network is then exactly what it was."""
        for hook in self.hooks:
            hook.detach()

    @abstractmethod
    def forward(self, target: Tensor, step: int, size: tuple[int, int] | None = None) -> LossTerm:
        """Compute the term from what the hooks captured.

        `target` are (B, H, W) labels, padded along with the images to the right and below; `size`
        is their height and width without the padding. `step` counts optimizer steps, for warm-ups.
        """


class LogitLosses(nn.Module):
    """The main loss on a network's logits, and further ones with their weights (1 by default)."""

    def __init__(
        self,
        main: nn.Module,
        extra: Mapping[str, nn.Module] | None,
        weights: Mapping[str, float] | None,
        num_classes: int,
        ignore_index: int,
    ) -> None:
        super().__init__()
        extra, weights = extra or {}, weights or {}
        self.main = main
        for name in extra:
            if not name.isidentifier() or hasattr(nn.ModuleDict, name):
                raise ValueError(f"extra_losses names {name!r}: give it another name, as 'dice'.")
            if name in (*TRAINING_TERMS, loss_name(main)):
                raise ValueError(
                    f"extra_losses names {name}, which is logged already: train/loss_{name} would "
                    "hold two values. Give it another name."
                )
        if unknown := sorted(set(weights) - set(extra)):
            raise ValueError(
                f"extra_loss_weights names {', '.join(unknown)}, which extra_losses has not"
                + (f" (it has {', '.join(extra)})." if extra else ".")
            )
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"extra_loss_weights.{name} must be 0 or more, got {weight}.")
        self.extra = nn.ModuleDict(extra)
        self.weights = {name: weights.get(name, 1.0) for name in extra}
        for loss in (main, *extra.values()):
            set_ignore_index(loss, ignore_index)
            check_class_weights(loss, num_classes)
            # As the main loss it may have a network that ends in log-softmax: see `requirements`.
            if not (loss is main and isinstance(loss, nn.NLLLoss)):
                check_loss(loss, num_classes, ignore_index)

    def forward(self, logits: Tensor, target: Tensor) -> list[LossTerm]:
        """Compute a term for each loss, main first, of (B, C, H, W) logits and (B, H, W) labels."""
        terms = [LossTerm(loss_name(self.main), evaluate(self.main, logits, target), 1.0)]
        for name, loss in self.extra.items():
            terms.append(LossTerm(name, evaluate(loss, logits, target), self.weights[name]))
        return terms


def loss_name(loss: nn.Module) -> str:
    """Return what a loss is logged by: its `name`, or its class's in snake case without "Loss".

    `DiceLoss` gives "dice", `CrossEntropyLoss` "cross_entropy", `MCCLoss` "mcc".
    """
    name = getattr(loss, "name", None)
    if isinstance(name, str) and name:
        return name
    own = type(loss).__name__
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", own).lower()
    return words.removesuffix("loss").rstrip("_") or words


def set_ignore_index(loss: nn.Module, ignore_index: int) -> None:
    """Set the data's ignore value in a loss; refuse a loss without one, or given another.

    A value that the loss holds already counts as given if it is neither None nor its constructor's
    default (−100 in `torch`'s). Losses whose constructor takes none always get the data's.
    """
    kind = type(loss).__name__
    if not hasattr(loss, "ignore_index"):
        raise ValueError(
            f"{kind} has no ignore_index, so that pixels without a label would be trained on. "
            "These have: CrossEntropy and OHEMCrossEntropy of pne_seg.losses, DiceLoss, FocalLoss, "
            "JaccardLoss, LovaszLoss and TverskyLoss of segmentation_models_pytorch.losses, "
            "torch.nn.CrossEntropyLoss."
        )
    holder: Any = loss
    # Of all classes, because a subclass may pass it on among its keywords.
    constructors = [vars(base).get("__init__") for base in type(loss).__mro__]
    signatures = [inspect.signature(each).parameters for each in constructors if each is not None]
    defaults = [each["ignore_index"].default for each in signatures if "ignore_index" in each]
    usual = (None, inspect.Parameter.empty, ignore_index, *defaults[:1])
    if defaults and holder.ignore_index not in usual:
        raise ValueError(
            f"{kind} was given ignore_index {holder.ignore_index}, the data's is {ignore_index}. "
            "Leave it out: the loss gets the data's."
        )
    holder.ignore_index = ignore_index


def weigh_classes(module: nn.Module, data: Any, class_names: Sequence[str]) -> str | None:
    """Weigh the classes in all losses of a module that take the weights from the training data.

    Args:
        module: the training module; losses of its terms count too.
        data: the data module that counts the pixels; None or another kind is an error.
        class_names: C names.

    Returns:
        A line with the weights, None if no loss asks for them.
    """
    found = [each for each in module.modules() if isinstance(each, ClassWeightedLoss)]
    losses = [loss for loss in found if loss.automatic]
    if not losses:
        return None
    if not hasattr(data, "class_counts"):
        raise UserError(
            "class_weights is 'auto', which needs a SegmentationDataModule to count the classes. "
            "Give one number for each class, such as those of balanced_class_weights(pixels)."
        )
    pixels = data.class_counts().pixels
    lines: dict[float, str] = {}
    for loss in losses:
        loss.weigh_classes(pixels)
        assert loss.class_weights is not None
        weights = zip(loss.class_weights.tolist(), class_names, strict=True)
        named = [f"{name} {weight:.3g}" for weight, name in sorted(weights)]
        if len(named) > _MOST_LOGGED:
            half = _MOST_LOGGED // 2
            named[half:-half] = ["…"]
        lines[loss.power] = ", ".join(named)
    return "\n".join(f"Class weights (power {power}): {line}" for power, line in lines.items())


def evaluate(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """Compute any loss of (B, C, H, W) logits and (B, H, W) labels in single precision.

    It is 0, with a gradient of 0, if every pixel is ignored.
    """
    logits = logits.float()  # third-party losses refuse half precision or keep it
    criterion: Any = loss
    own = isinstance(loss, ClassWeightedLoss)  # these do not wait for the device
    if not own and not bool((target != criterion.ignore_index).any()):
        return logits.sum() * 0.0
    value: Tensor = criterion(logits, target)
    return value


def reconcile_training_terms(
    module: nn.Module, state: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Let a state dict load whether or not it and the module carry the same training-only terms.

    A pre-hook of `load_state_dict`. Weights for a term that the module lacks are dropped, and a
    term that the state lacks keeps its fresh weights.
    """
    for name in TRAINING_TERMS:
        start = f"{prefix}{name}."
        own = getattr(module, name)
        own_state = own.state_dict(prefix=start) if own is not None else {}
        given = [key for key in state if key.startswith(start)]
        if not given:
            state.update(own_state)
        elif not own_state:
            for key in given:
                del state[key]
