"""Which parameters decay and at which rate they train, and the rate by optimizer step."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pne_seg.errors import UserError

_NORM_TYPES = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Norms that are none of torch's, by the name of their class: timm's RmsNorm2d, LayerNorm2dFp32 …
_NORM_NAME = re.compile(r"Norm(Act)?([123]d)?(Fp32)?$")
_POSITION_BIASES = (
    "relative_position_bias_table",
    *("pos_embed", "absolute_pos_embed", "cls_token", "reg_token"),
)
_BIASES = ("bias", "gamma")


@dataclass
class ParameterGroups:
    """Which parameters decay, and at which share of the learning rate the parts of a network train.

    The defaults treat all alike. A norm's own bias follows `decay_norms`, not `decay_biases` (as in
    mmcv's optimizer constructor). Swin's recipe is `decay_norms=False, decay_position_biases=False`
    (Liu et al., arXiv 2103.14030).

    Args:
        decay_norms: whether weight decay applies to the parameters of normalization layers.
        decay_position_biases: whether it applies to position embeddings, class tokens and tables of
            relative position biases.
        decay_biases: whether it applies to the biases of all other layers, and to layer scales
            (timm's `gamma`).
        head_lr: the learning rate of everything outside the network's encoder (decoder, classifier,
            auxiliary head, contrast's projection) as a multiple of the optimizer's. UPerNet's norms
            of the encoder's features lie in its decoder and train as such.
        layer_decay: factor from one layer of the encoder to the one before it: of L layers, layer i
            (0 the embedding, L − 1 the last) trains at layer_decay^(L − i) of the rate, the heads
            at all of it (BEiT, arXiv 2106.08254). Layers are timm's groups (`group_matcher`), which
            its ViTs have.
        lr_scales: multiples of the rate by the beginning of a parameter's name in the network, up
            to a dot (`encoder.model.stages_0`); the longest that fits counts.
    """

    decay_norms: bool = True
    decay_position_biases: bool = True
    decay_biases: bool = True
    head_lr: float = 1.0
    layer_decay: float = 1.0
    lr_scales: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scales = {"head_lr": self.head_lr, "layer_decay": self.layer_decay}
        scales |= {f"lr_scales {name}": scale for name, scale in self.lr_scales.items()}
        for name, scale in scales.items():
            if not 0 < scale < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {scale}.")
        if self.layer_decay > 1:
            raise ValueError(f"layer_decay must be at most 1, got {self.layer_decay}.")

    def build(self, module: nn.Module) -> Iterable[Any]:
        """Sort a training module's parameters into an optimizer's groups; see `build_optimizer`.

        The module holds the segmentation network as `network`, whose encoder is its `encoder`
        (smp) or `backbone` (torchvision, also inside an adapter's `network`).

        Returns:
            With the defaults `module.parameters()`. Otherwise groups in the order encoder, heads;
            within each by rising rate; with decay, without. They hold each trainable parameter
            once, a parameter that encoder and heads share with the encoder's; `weight_decay` 0
            if there is none, and `lr_scale` if the learning rate is to be multiplied.
        """
        if self == ParameterGroups():
            return module.parameters()
        scales = self._scales(module)
        members: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
        for full_name, parameter in module.named_parameters():  # each once
            owner, _, name = full_name.rpartition(".")
            if parameter.requires_grad:
                undecayed = self._undecayed(module.get_submodule(owner), name)
                members.setdefault((*scales[id(parameter)], undecayed), []).append(parameter)
        groups: list[dict[str, Any]] = []
        for (_, scale, undecayed), parameters in sorted(members.items(), key=lambda item: item[0]):
            decay = {"weight_decay": 0.0} if undecayed else {}
            rate = {"lr_scale": scale} if scale != 1 else {}
            groups.append({"params": parameters, **decay, **rate})
        return groups

    def _undecayed(self, owner: nn.Module, name: str) -> bool:
        named_norm = any(_NORM_NAME.search(base.__name__) for base in type(owner).__mro__)
        if named_norm or isinstance(owner, _NORM_TYPES):
            return not self.decay_norms
        if name in _POSITION_BIASES:
            return not self.decay_position_biases
        return name in _BIASES and not self.decay_biases

    def _scales(self, module: nn.Module) -> dict[int, tuple[bool, float]]:
        """Map each parameter's id to whether it is the heads', and the multiple of its rate."""
        scales = {id(parameter): (False, 1.0) for parameter in module.parameters()}
        if self.head_lr != 1 or self.layer_decay != 1:
            encoder = _encoder(module)
            scales = dict.fromkeys(scales, (True, self.head_lr))
            scales |= {id(parameter): (False, 1.0) for parameter in encoder.parameters()}
            if self.layer_decay != 1:
                for parameter, share in _layer_shares(encoder, self.layer_decay):
                    scales[id(parameter)] = False, share
        network = module.get_submodule("network") if self.lr_scales else module
        used = set()
        for name, parameter in network.named_parameters():
            if fitting := [start for start in self.lr_scales if f"{name}.".startswith(f"{start}.")]:
                used.update(fitting)
                in_head, scale = scales[id(parameter)]
                longest = max(fitting, key=len)
                scales[id(parameter)] = in_head, scale * self.lr_scales[longest]
        if unknown := sorted(self.lr_scales.keys() - used):
            raise UserError(
                f"lr_scales names {unknown[0]}, which begins no parameter's name in the network. "
                "The names are those of its state dict."
            )
        return scales


def _encoder(module: nn.Module) -> nn.Module:
    network = getattr(module, "network", None)
    for holder in (network, getattr(network, "network", None)):
        for name in ("encoder", "backbone"):
            encoder = getattr(holder, name, None)
            if isinstance(encoder, nn.Module):
                return encoder
    raise UserError(
        "head_lr and layer_decay set the rates of encoder and heads, but "
        f"{type(network).__name__} has neither an 'encoder' nor a 'backbone'. Leave both at 1, or "
        "give the network an attribute 'encoder'."
    )


def _layer_shares(encoder: nn.Module, decay: float) -> Iterator[tuple[nn.Parameter, float]]:
    """Yield each parameter of an encoder with the share of the rate that its layer trains at."""
    model: Any = getattr(encoder, "model", encoder)  # timm's, inside smp's encoder
    if not hasattr(model, "group_matcher"):
        raise UserError(
            f"layer_decay needs an encoder whose layers timm groups, as its ViTs; "
            f"{type(model).__name__} has no group_matcher. Leave it at 1, or set lr_scales."
        )
    from timm.models import group_parameters

    layers: dict[str, int] = group_parameters(model, model.group_matcher(), reverse=True)
    classifier = {id(parameter) for parameter in model.get_classifier().parameters()}
    parameters = [(p, layers[name]) for name, p in model.named_parameters()]
    count = 1 + max(layer for p, layer in parameters if id(p) not in classifier)
    for parameter, layer in parameters:
        yield parameter, decay ** (count - layer)  # 1 for timm's classifier, if there is one


def build_optimizer(
    module: nn.Module, optimizer: Callable[[Iterable[Any]], Optimizer], groups: ParameterGroups
) -> Optimizer:
    """Build the optimizer of a training module, its parameters grouped.

    Its groups hold only torch's own keys: a scaled learning rate is written as such, before any
    schedule reads it as its base.
    """
    parameters = groups.build(module)
    if not isinstance(parameters, list):
        return optimizer(parameters)
    scales = [group.pop("lr_scale", 1.0) for group in parameters]
    built = optimizer(parameters)
    for group, scale in zip(built.param_groups, scales, strict=True):
        if scale != 1:
            group["lr"] = group["lr"] * scale  # not in place: groups may share one tensor
        if "weight_decay" not in built.defaults:  # an optimizer without weight decay
            group.pop("weight_decay", None)
    return built


class WarmupPoly(LRScheduler):
    """Polynomial decay with a floor, after a linear warm-up; one update per optimizer step.

    lr(t) = (base − floor)·(1 − t/T)^power + floor, times, while t < warm-up W,
    1 − (1 − t/W)·(1 − start). The decay counts from step 0, during the warm-up too
    (mmsegmentation 0.x).

    Args:
        optimizer: the optimizer whose groups are scheduled.
        total_steps: T; 0 for the trainer's own number of steps.
        power: exponent of the decay.
        min_lr: the floor, an absolute learning rate, the same for every group.
        warmup_steps: W; 0 for none.
        warmup_start: the rate at step 0 as a fraction of the full one.
        last_epoch: the last step taken, −1 at the start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int = 0,
        power: float = 0.9,
        min_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_start: float = 1e-6,
        last_epoch: int = -1,
    ) -> None:
        if total_steps < 0 or warmup_steps < 0:
            raise ValueError(f"Steps must be 0 or more, got {total_steps=} and {warmup_steps=}.")
        rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        if min_lr > min(rates):
            raise ValueError(
                f"The schedule's floor min_lr {min_lr:g} is above the learning rate "
                f"{min(rates):g}, which would rise. Lower it, as min_lr=0."
            )
        self.total_steps = total_steps
        self.power = power
        self.min_lr = min_lr
        self.warmup_steps = warmup_steps
        self.warmup_start = warmup_start
        super().__init__(optimizer, last_epoch)

    def take_length(self, steps: Callable[[], float]) -> None:
        """Set T, if it is 0, to the training's number of steps, infinite if it has none."""
        if self.total_steps:
            return
        found = steps()
        if not math.isfinite(found):
            raise UserError(
                "The schedule's length is unknown: the training has no number of steps. Set the "
                "trainer's max_steps or max_epochs, or the schedule's total_steps."
            )
        self.total_steps = int(found)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch widens it to Tensor
        """Compute the rates of the current step, one per parameter group."""
        step = self.last_epoch
        left = max(0.0, 1 - step / self.total_steps) if self.total_steps else 1.0
        ramp = 1.0
        if step < self.warmup_steps:
            ramp = 1 - (1 - step / self.warmup_steps) * (1 - self.warmup_start)
        return [
            ((float(base) - self.min_lr) * left**self.power + self.min_lr) * ramp
            for base in self.base_lrs
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return only the progress: settings come from the configuration, also after a resume."""
        keys = ("last_epoch", "_step_count", "_last_lr")
        return {key: value for key, value in super().state_dict().items() if key in keys}
