"""Auxiliary classifiers: further predictions inside a network that are trained along with it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pne_seg.dummy_graph import has_parameters, last_activation
from pne_seg.feature_hooks import FeatureHook, capture_dummy, find_module
from pne_seg.inference import resize_logits
from pne_seg.loss_checks import check_loss
from pne_seg.losses import check_class_weights
from pne_seg.training_loss import LossTerm, TrainingTerm, evaluate, set_ignore_index


class Auxiliary(TrainingTerm):
    """A classification loss on logits from inside a network, logged as `train/loss_auxiliary`.

    Args:
        weight: what the total loss multiplies the term by, 0 or more.
        loss: called `loss(logits, target)` with (B, C, H, W) and (B, H, W); by default the
            network's own main loss.
    """

    def __init__(self, weight: float = 0.4, loss: nn.Module | None = None) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must be 0 or more, got {weight}.")
        self.weight = weight
        self.loss = loss

    @abstractmethod
    def logits(self) -> Tensor:
        """Compute (B, C, h, w) logits from what the hooks captured."""

    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Attach to the network and set the loss's ignore value."""
        if self.loss is not None:
            set_ignore_index(self.loss, ignore_index)
            check_class_weights(self.loss, num_classes)
            check_loss(self.loss, num_classes, ignore_index)
        for hook in self.hooks:
            hook.attach(network)

    def forward(self, target: Tensor, step: int, size: tuple[int, int] | None = None) -> LossTerm:
        """Compute the loss of the auxiliary prediction, resized to the labels' size."""
        if self.loss is None:
            raise RuntimeError("Set the auxiliary term's loss first.")
        logits = resize_logits(self.logits(), target.shape[-2:])
        if size is not None:
            logits, target = (maps[..., : size[0], : size[1]] for maps in (logits, target))
        return LossTerm("auxiliary", evaluate(self.loss, logits, target), self.weight)


class AuxiliaryLogits(Auxiliary):
    """Train logits that the network computes on its way, such as OCRNet's first stage.

    Args:
        logits_module: dotted name of the module whose *output* is the (B, C, h, w) logits.
        **kwargs: the settings of `Auxiliary`.
    """

    def __init__(self, logits_module: str = "decoder.region_classifier", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.logits_module = logits_module

    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Attach to the module, whose output must have `num_classes` channels."""
        self.detach()
        self.hooks = [FeatureHook(self.logits_module, "output")]
        module = find_module(network, self.logits_module)
        if not isinstance(module, nn.Conv2d) or module.out_channels != num_classes:
            (found,) = capture_dummy(network, self.hooks)
            if found.ndim != 4 or found.shape[1] != num_classes:
                raise ValueError(
                    f"{self.logits_module!r} gives {tuple(found.shape)}, expected logits of "
                    f"{num_classes} classes, (B, {num_classes}, h, w)."
                )
            if activation := last_activation(found):
                raise ValueError(
                    f"{self.logits_module!r} ends in {activation}; the loss expects logits. "
                    "Name the module before it."
                )
        super().attach(network, num_classes, ignore_index)

    def logits(self) -> Tensor:
        """Return the (B, C, h, w) logits of the module."""
        tensor: Tensor = self.hooks[0].take()
        return tensor


class FCNHead(Auxiliary):
    """A small fully convolutional head on an encoder stage: 3×3 conv-BN-ReLU, dropout, classifier.

    Args:
        channels: of the 3×3 convolution.
        dropout: share of the channels dropped before the classifier.
        feature_module: dotted name of the module whose *output* is the feature.
        stage: which one, if that output is a list of features; −2 is the stage before the last.
        **kwargs: the settings of `Auxiliary`.
    """

    def __init__(
        self,
        channels: int = 256,
        dropout: float = 0.1,
        feature_module: str = "encoder",
        stage: int = -2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if channels < 1:
            raise ValueError(f"channels must be 1 or more, got {channels}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}.")
        self.channels = channels
        self.dropout = dropout
        self.feature_module = feature_module
        self.stage = stage
        self.head: nn.Sequential | None = None

    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Attach to the stage and build the head for the channels that a dummy image has there."""
        self.detach()
        self.hooks = [FeatureHook(self.feature_module, "output")]
        feature = self._select(*capture_dummy(network, self.hooks))
        if not has_parameters(feature, network):
            what = "the image itself" if feature.shape[1] == 3 else "what no trained layer computes"
            raise ValueError(
                f"{self.feature_module!r} gives at stage {self.stage} {what}: the auxiliary loss "
                "would not reach the network. Name another stage, such as -2, or feature_module."
            )
        # Drawn without touching the random state: runs with and without the head stay comparable.
        with torch.random.fork_rng(devices=[]):
            head = nn.Sequential(
                nn.Conv2d(feature.shape[1], self.channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(self.channels),
                nn.ReLU(inplace=True),
                nn.Dropout2d(self.dropout),
                nn.Conv2d(self.channels, num_classes, 1),
            )
        self.head = head.to(feature.device)
        super().attach(network, num_classes, ignore_index)

    def logits(self) -> Tensor:
        """Compute the (B, C, h, w) logits of the head."""
        if self.head is None:
            raise RuntimeError("Call attach(network, num_classes, ignore_index) first.")
        logits: Tensor = self.head(self._select(self.hooks[0].take()))
        return logits

    def _select(self, output: Any) -> Tensor:
        """Pick the stage from a module's output."""
        if isinstance(output, Mapping):
            output = list(output.values())
        if isinstance(output, Sequence):
            if not -len(output) <= self.stage < len(output):
                raise ValueError(
                    f"{self.feature_module!r} gives {len(output)} features; there is no stage "
                    f"{self.stage}. Stages count from 0, or from −1 backwards."
                )
            output = output[self.stage]
        if not isinstance(output, Tensor) or output.ndim != 4 or not output.shape[1]:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"{self.feature_module!r} gives {found}, expected (B, channels, h, w). "
                "Choose another feature_module or stage."
            )
        return output


def untrained_logits(network: nn.Module, auxiliary: TrainingTerm | None) -> str | None:
    """Return a warning if the network names `auxiliary_logits` that are not trained, else None."""
    named = getattr(network, "auxiliary_logits", None)
    trained = auxiliary.logits_module if isinstance(auxiliary, AuxiliaryLogits) else None
    if named in (None, trained):
        return None
    return (
        f"{type(network).__name__} is trained without a loss on its first logits, {named!r}, which "
        "the published method has. Set auxiliary to AuxiliaryLogits."
    )
