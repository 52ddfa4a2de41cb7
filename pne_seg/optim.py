"""Which parameters decay and at which rate they train, and the rate by optimiser step."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from pne_seg.errors import UserError

_NORM_TYPES = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
# Norms that are none of torch's, by the name of their class: timm's RmsNorm2d, LayerNorm2dFp32 …
_NORM_NAME = re.compile(r"Norm(Act)?([123]d)?(Fp32)?$")
_POSITION_BIASES = ("relative_position_bias_table", "pos_embed", "absolute_pos_embed")
_LR_SCALE = "lr_scale"


@dataclass
class ParameterGroups:
    """Which parameters decay, and at which share of the learning rate the heads train.

    The defaults treat all alike. A norm's own bias follows `decay_norms`, not `decay_biases` (as in
    mmcv's optimiser constructor). Swin's recipe is `decay_norms=False, decay_position_biases=False`
    (Liu et al., arXiv 2103.14030).

    Args:
        decay_norms: whether weight decay applies to the parameters of normalisation layers.
        decay_position_biases: whether it applies to position embeddings and to tables of relative
            position biases.
        decay_biases: whether it applies to the biases of all other layers.
        head_lr: the learning rate of everything outside the network's encoder (decoder, classifier,
            auxiliary head, contrast's projection) as a multiple of the optimiser's. UPerNet's norms
            of the encoder's features lie in its decoder and train as such.

    Raises:
        ValueError: `head_lr` is not above 0 and finite.
    """

    decay_norms: bool = True
    decay_position_biases: bool = True
    decay_biases: bool = True
    head_lr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.head_lr < math.inf:
            raise ValueError(f"head_lr must be above 0 and finite, got {self.head_lr}.")

    def build(self, module: nn.Module) -> Iterable[Any]:
        """Sort a training module's parameters into an optimiser's groups; see `build_optimizer`.

        Args:
            module: holds the segmentation network as `network`, whose encoder is its `encoder`
                (smp) or `backbone` (torchvision, also inside an adapter's `network`).

        Returns:
            With the defaults `module.parameters()`. Otherwise up to four groups, those without
            members left out: encoder, encoder without decay, heads, heads without decay (encoder
            and heads together where `head_lr` is 1). They hold each trainable parameter once, a
            parameter that encoder and heads share with the encoder's; `weight_decay` 0 where there
            is none, and `lr_scale` where the learning rate is to be multiplied.

        Raises:
            ValueError: `head_lr` is not 1 and no encoder is found.
        """
        if self == ParameterGroups():
            return module.parameters()
        encoder = self._encoder_parameters(module)
        order = [(in_head, undecayed) for in_head in (False, True) for undecayed in (False, True)]
        members: dict[tuple[bool, bool], list[nn.Parameter]] = {key: [] for key in order}
        seen: set[int] = set()
        for owner in module.modules():  # with their own parameters, the order of `parameters()`
            for name, parameter in owner.named_parameters(recurse=False):
                if not parameter.requires_grad or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                in_head = encoder is not None and id(parameter) not in encoder
                members[in_head, self._undecayed(owner, name)].append(parameter)
        groups: list[dict[str, Any]] = []
        for (in_head, undecayed), parameters in members.items():
            decay = {"weight_decay": 0.0} if undecayed else {}
            scale = {_LR_SCALE: self.head_lr} if in_head else {}
            if parameters:
                groups.append({"params": parameters, **decay, **scale})
        return groups

    def _undecayed(self, owner: nn.Module, name: str) -> bool:
        if _is_norm(owner):
            return not self.decay_norms
        if name in _POSITION_BIASES:
            return not self.decay_position_biases
        return name == "bias" and not self.decay_biases

    def _encoder_parameters(self, module: nn.Module) -> set[int] | None:
        """The identities of the encoder's parameters; None where all train at one rate."""
        if self.head_lr == 1:
            return None
        network = getattr(module, "network", None)
        for holder in (network, getattr(network, "network", None)):
            for name in ("encoder", "backbone"):
                encoder = getattr(holder, name, None)
                if isinstance(encoder, nn.Module):
                    return {id(parameter) for parameter in encoder.parameters()}
        raise UserError(
            f"head_lr {self.head_lr:g} sets the rate of everything outside the encoder, but "
            f"{type(network).__name__} has neither an 'encoder' nor a 'backbone'. Leave "
            "--model.parameter_groups.head_lr at 1, or give the network an attribute 'encoder'."
        )


def _is_norm(module: nn.Module) -> bool:
    named = any(_NORM_NAME.search(base.__name__) for base in type(module).__mro__)
    return named or isinstance(module, _NORM_TYPES)


def build_optimizer(
    module: nn.Module, optimizer: Callable[[Iterable[Any]], Optimizer], groups: ParameterGroups
) -> Optimizer:
    """Build the optimiser of a training module, its parameters grouped.

    Its groups hold torch's own keys alone: a scaled learning rate is written as such, ahead of any
    schedule that reads it as its base.

    Args:
        module: holds the segmentation network as `network`.
        optimizer: from parameters or groups to optimiser.
        groups: how to group the parameters.

    Raises:
        ValueError: as `ParameterGroups.build`.
    """
    parameters = groups.build(module)
    if not isinstance(parameters, list):
        return optimizer(parameters)
    scales = [group.pop(_LR_SCALE, 1.0) for group in parameters]
    built = optimizer(parameters)
    for group, scale in zip(built.param_groups, scales, strict=True):
        if scale != 1:
            group["lr"] = group["lr"] * scale  # not in place: groups may share one tensor
        if "weight_decay" not in built.defaults:  # an optimiser without weight decay
            group.pop("weight_decay", None)
    return built


class WarmupPoly(LRScheduler):
    """Polynomial decay with a floor, after a linear warm-up; one update per optimiser step.

    lr(t) = (base − floor)·(1 − t/T)^power + floor, times, while t < warm-up W,
    1 − (1 − t/W)·(1 − start). The decay counts from step 0, during the warm-up too
    (mmsegmentation 0.x).

    Args:
        optimizer: the optimiser whose groups are scheduled.
        total_steps: T; 0 leaves it to the trainer, which knows its own number of steps.
        power: exponent of the decay.
        min_lr: the floor, an absolute learning rate, the same for every group.
        warmup_steps: W; 0 for none.
        warmup_start: the rate at step 0 as a fraction of the full one.
        last_epoch: the last step taken, −1 to begin.

    Raises:
        ValueError: a negative number of steps, or a floor above a group's learning rate.
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
                f"{min(rates):g}, which would rise. Lower it: --model.schedule.min_lr 0"
            )
        self.total_steps = total_steps
        self.power = power
        self.min_lr = min_lr
        self.warmup_steps = warmup_steps
        self.warmup_start = warmup_start
        super().__init__(optimizer, last_epoch)

    def take_length(self, steps: Callable[[], float]) -> None:
        """Set T where it is not given.

        Args:
            steps: tells the training's number of optimiser steps, infinite where it has none.

        Raises:
            UserError: it has none.
        """
        if self.total_steps:
            return
        found = steps()
        if not math.isfinite(found):
            raise UserError(
                "The schedule's length is unknown: the training has no number of steps. Set "
                "--trainer.max_steps or --trainer.max_epochs, or --model.schedule.total_steps."
            )
        self.total_steps = int(found)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch widens it to Tensor
        """The rates of the current step, one per parameter group."""
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
        """Progress alone: settings come from the configuration, also after a resume."""
        keys = ("last_epoch", "_step_count", "_last_lr")
        return {key: value for key, value in super().state_dict().items() if key in keys}
