"""What the training loss is the sum of: losses on the scores, and terms from inside the network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from pne_seg.losses import check_class_weights, evaluate, loss_name, set_ignore_index
from pne_seg.taps import Tap

TRAINING_TERMS = ("contrast", "auxiliary")
"""Terms of a training module that inference does without."""


@dataclass
class LossTerm:
    """One named part of the training loss.

    Attributes:
        name: logged as `train/loss_<name>`.
        value: scalar tensor, unweighted.
        weight: what the total multiplies it by.
        statistics: further scalars to log, by name (`train/<key>`).
    """

    name: str
    value: Tensor
    weight: float
    statistics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def weighted(self) -> Tensor:
        """What enters the total loss."""
        return self.weight * self.value


class TrainingTerm(nn.Module, ABC):
    """A loss on tensors from inside a network; it exists in training and nowhere else.

    Subclasses register `taps` and build their own layers in `attach`, and turn what the taps hold
    into a `LossTerm` in `forward`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []

    @abstractmethod
    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Tap the network and build the layers that depend on it.

        Args:
            network: any module from (B, 3, H, W) to (B, C, H, W). It is not kept.
            num_classes: C.
            ignore_index: the label that carries no class.
        """

    def detach(self) -> None:
        """Remove the taps; the network is then exactly what it was."""
        for tap in self.taps:
            tap.detach()

    def reattach(self, network: nn.Module) -> None:
        """Put the taps back after `detach`; layers stay as they are."""
        for tap in self.taps:
            tap.attach(network)

    @abstractmethod
    def forward(self, target: Tensor, step: int, size: tuple[int, int] | None = None) -> LossTerm:
        """Score what the taps hold.

        Args:
            target: (B, H, W) integer labels, padded along with the images.
            step: optimiser steps taken so far, for warm-ups.
            size: height and width of the labels ahead of the padding, which is below and to the
                right; those of `target` where not given.
        """


class ScoreLosses(nn.Module):
    """The main loss on a network's class scores, and further ones with their weights.

    Args:
        main: called `main(logits, target)` with (B, C, H, W) and (B, H, W).
        extra: further such losses by the name they are logged under.
        weights: of the further ones, in the total, 0 or more; 1 where not given.
        num_classes: C.
        ignore_index: the label that carries no class; every loss is told.

    Raises:
        ValueError: a loss does not know an ignore value or has weights for another number of
            classes, a name is taken or unknown, or a weight is negative.
    """

    def __init__(
        self,
        main: nn.Module,
        extra: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        num_classes: int,
        ignore_index: int,
    ) -> None:
        super().__init__()
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

    def forward(self, logits: Tensor, target: Tensor) -> list[LossTerm]:
        """Score (B, C, H, W) logits against (B, H, W) labels: a term for each loss, main first."""
        losses = [(loss_name(self.main), self.main, 1.0)]
        losses += [(name, loss, self.weights[name]) for name, loss in self.extra.items()]
        return [
            LossTerm(name, evaluate(loss, logits, target), weight) for name, loss, weight in losses
        ]
