"""`Contrast`: add a pixel-contrastive loss to any segmentation network, for training only."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pne_seg.contrast.hooked_modules import capture_classifier, check_class_count
from pne_seg.contrast.interface import (
    ContrastiveLoss,
    ContrastResult,
    SelectiveLoss,
    eager,
    prepare,
    resize_nearest,
    take,
)
from pne_seg.contrast.pixel_contrast import PixelContrastLoss
from pne_seg.contrast.pne import InfoNCELoss, PNELoss
from pne_seg.feature_hooks import FeatureHook, find_classifier, find_module
from pne_seg.training_loss import LossTerm, TrainingTerm

_ATTACH = "Call attach(network, num_classes, ignore_index) first."


class Projection(nn.Sequential):
    """1×1 conv (no bias) → BN → ReLU → 1×1 conv, from features to embeddings.

    Shape: (B, in_channels, h, w) → (B, embedding_dim, h, w), hidden width `in_channels`.
    """

    def __init__(self, in_channels: int, embedding_dim: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, embedding_dim, kernel_size=1),
        )

    def project_pixels(self, varying: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Project single pixels: (M, in_channels) and (R, in_channels) → (M, D) and (R, D).

        Batch statistics are those of all of them. No gradient passes through the constant ones.
        """
        into, norm, relu, out = self
        with torch.no_grad():
            hidden = _linear(into, constant)
        hidden = torch.cat([_linear(into, varying), hidden])  # (M + R, C)
        # As an image of one row whose channels are contiguous, which is fastest in batch norm.
        image = hidden[None, None].movedim(3, 1)  # (1, C, 1, M + R)
        hidden = relu(norm(image)).movedim(1, 3)[0, 0]
        with torch.no_grad():
            embeddings = _linear(out, hidden[len(varying) :])
        return _linear(out, hidden[: len(varying)]), embeddings


def _linear(layer: nn.Module, pixels: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    return F.linear(pixels, layer.weight.flatten(1), layer.bias)


class Contrast(TrainingTerm):
    """Project the feature that enters the classifier and weight a contrastive loss on it.

    The network is neither changed nor kept; nothing of this runs outside training. The projection
    head is drawn without touching the random state, so that a run with and one without it see the
    same random numbers everywhere else.

    Args:
        loss: called `loss.compute(embeddings, logits, target)`, as `PNELoss` is.
        weight: what the total loss multiplies the term by (the authors: 1.3).
        warmup_steps: optimizer steps over which the weight rises linearly from 0; 0 for none.
        embedding_dim: channels D of the embedding.
        min_stride: finest grid of embeddings, in image pixels per embedding: a network whose
            feature comes at stride 1 or 2 is subsampled to it before the projection, and logits and
            labels with it. `None` keeps the feature's own resolution.
        project: "used" projects the pixels that the loss reads and takes batch statistics over
            them: less time and memory, and no gradient through pixels that the loss holds constant.
            "all" projects all pixels, as the authors. None is "used" if the loss selects its
            pixels, as all losses of this package do, else "all".
        feature_module: name of the module whose *input* is the feature; found by default.
        logits_module: name of the module whose *output* is the logits; found by default.
    """

    def __init__(
        self,
        loss: ContrastiveLoss,
        weight: float = 1.3,
        warmup_steps: int = 0,
        embedding_dim: int = 256,
        min_stride: int | None = 4,
        project: Literal["all", "used"] | None = None,
        feature_module: str | None = None,
        logits_module: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("weight", weight, 0),
            ("warmup_steps", warmup_steps, 0),
            ("embedding_dim", embedding_dim, 1),
            ("min_stride", 1 if min_stride is None else min_stride, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}.")
        if project not in ("all", "used", None):
            raise ValueError(f"project must be 'all', 'used' or None, got {project!r}.")
        # A subclass's own `compute` would not be called.
        selects = isinstance(loss, SelectiveLoss) and type(loss).compute is SelectiveLoss.compute
        if project == "used" and not selects:
            raise ValueError(
                "project='used' needs a loss that selects its pixels (a SelectiveLoss without its "
                f"own compute()), got {type(loss).__name__}. Use project='all'."
            )
        if (feature_module is None) != (logits_module is None):
            raise ValueError("Name both 'feature_module' and 'logits_module', or neither.")
        self.loss = loss
        self.weight = weight
        self.warmup_steps = warmup_steps
        self.embedding_dim = embedding_dim
        self.min_stride = min_stride
        self.project = project or ("used" if selects else "all")
        self.feature_module = feature_module
        self.logits_module = logits_module
        self.projection: Projection | None = None

    def attach(self, network: nn.Module, num_classes: int, ignore_index: int) -> None:
        """Attach to the classifier and build the projection for the channels of its feature.

        From then on, each forward pass of the network in training mode leaves what the next call
        of this component reads. Attach before the optimizer is built: the projection's parameters
        exist only then.
        """
        self.detach()
        feature_name, logits_name = self.feature_module, self.logits_module
        if feature_name is None or logits_name is None:
            feature_name, logits_name = find_classifier(network)
        self.hooks = [
            FeatureHook(feature_name, "input", in_training=True),
            FeatureHook(logits_name, "output", in_training=True),
        ]
        classifier = find_module(network, logits_name)
        if self.feature_module is None and isinstance(classifier, nn.Conv2d):
            channels, classes = classifier.in_channels, classifier.out_channels
            device = classifier.weight.device
        else:
            feature, logits = capture_classifier(network, self.hooks, num_classes)
            channels, classes, device = feature.shape[1], logits.shape[1], feature.device
        check_class_count(logits_name, classes, num_classes)
        with torch.random.fork_rng(devices=[]):
            self.projection = Projection(channels, self.embedding_dim).to(device)
        self.loss.ignore_index = ignore_index
        for hook in self.hooks:
            hook.attach(network)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Iterate over the projection's parameters, which `attach` creates."""
        if self.projection is None:  # an optimizer of none of them would leave it untrained
            raise RuntimeError(f"{type(self).__name__} has no parameters yet. {_ATTACH}")
        return super().named_parameters(*args, **kwargs)

    def forward(
        self,
        target: Tensor,
        step: int | None = None,
        size: tuple[int, int] | None = None,  # noqa: ARG002  # padding is ignored by its label
    ) -> LossTerm:
        """Project the captured feature and compute the loss; see `TrainingTerm.forward`."""
        if self.projection is None:
            raise RuntimeError(_ATTACH)
        if step is None and self.warmup_steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}: pass step, to warm up by.")
        feature, logits = (hook.take() for hook in self.hooks)
        result = self.compute(feature, logits, target)
        warmup = min(1.0, (step or 0) / self.warmup_steps) if self.warmup_steps else 1.0
        counts = {"contrast_pairs": result.num_pairs, "contrast_anchors": result.num_anchors}
        return LossTerm("contrast", result.loss, self.weight * warmup, counts)

    def compute(self, feature: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """Compute the unweighted loss of what enters and leaves the classifier."""
        assert self.projection is not None
        feature = self.subsample(feature, target)
        if self.project == "used":
            return self._project_used(feature, logits, target)
        return self.loss.compute(self.projection(feature), logits, target)

    @eager
    def _project_used(self, feature: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        """Select the pixels first, and project only these."""
        assert isinstance(self.loss, SelectiveLoss)
        assert self.projection is not None
        selection = self.loss.select(*prepare(feature, logits, target))
        varying, pixels = take(feature, selection.varying), selection.constant
        if len(varying) + len(pixels) < 2:  # too few for batch statistics, which processes exchange
            pixels = torch.cat([pixels, torch.arange(2, device=pixels.device)])
        constant = take(feature.detach(), pixels)
        if feature.device.type == "cpu":
            # oneDNN would compile and keep a bfloat16 kernel for every number of pixels.
            dtype = next(self.projection.parameters()).dtype
            varying, constant = varying.to(dtype), constant.to(dtype)
        with torch.autocast("cpu", enabled=False):
            varying, constant = self.projection.project_pixels(varying, constant)
        return self.loss.score(varying, constant[: len(selection.constant)], selection)

    def subsample(self, feature: Tensor, target: Tensor) -> Tensor:
        """Bring a feature (B, C, h, w) to the grid of `min_stride`, for labels (B, H, W)."""
        if self.min_stride is None:
            return feature
        height, width = feature.shape[-2:]
        rows, columns = (max(1, side // self.min_stride) for side in target.shape[-2:])
        return resize_nearest(feature, (min(height, rows), min(width, columns)))


_Initialize = Callable[..., None]


def settings_of(loss: type[ContrastiveLoss]) -> Callable[[_Initialize], _Initialize]:
    """Give the `__init__` of a `Contrast` the settings of `loss`, and build the loss from them.

    The signature lists all settings, for the command line and for readers; they are defined only
    in `loss` and in `Contrast`. The data decides `ignore_index`.
    """

    def decorate(initialize: _Initialize) -> _Initialize:
        settings = _parameters(loss, without="ignore_index")

        @functools.wraps(initialize)
        def build(self: Contrast, **given: Any) -> None:
            own = {name: given.pop(name) for name in settings if name in given}
            initialize(self, loss=loss(**own), **given)

        receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        further = _parameters(Contrast, without="loss") | _parameters(initialize, without="self")
        parameters = [receiver, *settings.values(), *further.values()]
        build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        build.__doc__ = loss.__doc__
        return build

    return decorate


def _parameters(function: Callable[..., Any], without: str) -> dict[str, inspect.Parameter]:
    return {
        one.name: one.replace(kind=one.KEYWORD_ONLY)
        for one in inspect.signature(function).parameters.values()
        if one.name != without and one.kind is not one.VAR_KEYWORD
    }


class PNE(Contrast):
    """The Positive-Negative Equal contrastive loss (arXiv 2207.01417) as a training component."""

    @settings_of(PNELoss)
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


class InfoNCE(Contrast):
    """The supervised InfoNCE loss on PNE's pairs as a training component."""

    @settings_of(InfoNCELoss)
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


class PixelContrast(Contrast):
    """The pixel contrast of Wang et al. (ICCV 2021), with the weight of its authors."""

    @settings_of(PixelContrastLoss)
    def __init__(self, weight: float = 0.1, **settings: Any) -> None:
        super().__init__(weight=weight, **settings)
