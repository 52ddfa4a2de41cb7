"""The packages that any settings may name, and which of their objects fit a setting."""

import inspect
import sys
from collections.abc import Collection
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any, get_type_hints

PACKAGES = (
    "pne_seg",
    *("torch.nn", "torch.optim", "torch.distributed.fsdp", "torch._C._nn"),
    *(f"torch.{name}" for name in ("relu", "sigmoid", "tanh", "_VariableFunctionsClass")),
    *(f"torch.{name}" for name in ("dtype", "float16", "bfloat16", "float32", "float64")),
    *("torchvision.models", "torchvision.ops", "segmentation_models_pytorch"),
    *("timm.layers", "timm.loss", "timm.models", "timm.optim"),
    "albumentations",
    *(
        f"lightning.{home}.{part}"
        for home in ("pytorch", "fabric")
        for part in ("accelerators", "callbacks", "loggers", "plugins", "profilers", "strategies")
    ),
    "lightning.pytorch.cli.ReduceLROnPlateau",
)
"""Packages and modules; `_CLASSES` and `_FUNCTIONS` limit what of them may be named."""

_CLASSES = (
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "albumentations.BaseCompose",
    "albumentations.BasicTransform",
    *("lightning.pytorch.LightningDataModule", "lightning.pytorch.Callback"),
    *("lightning.pytorch.loggers.Logger", "lightning.pytorch.profilers.Profiler"),
    *("lightning.pytorch.accelerators.Accelerator", "lightning.pytorch.strategies.Strategy"),
    *("lightning.pytorch.plugins.CheckpointIO", "lightning.pytorch.plugins.LayerSync"),
    *("lightning.pytorch.plugins.Precision", "lightning.fabric.plugins.ClusterEnvironment"),
)
"""A class of `PACKAGES` is one of these or, such as `Inference`, a dataclass."""
_FUNCTIONS = ("torch.nn.functional", "torchvision.ops")
"""Modules whose functions may be values of settings; so may the three of `PACKAGES`."""
_BUILDERS = "torchvision.models"
"""The module whose functions may be called to build a network."""


def why_unfit(found: Any, called: bool) -> str | None:
    """Return why an object of `PACKAGES` fits no setting, called or not; None if it fits one."""
    kind = found if isinstance(found, type) or inspect.isroutine(found) else type(found)
    if isinstance(kind, type):
        if is_dataclass(kind) or issubclass(kind, tuple(filter(None, map(_loaded, _CLASSES)))):
            return None
        return "it is not a class for settings (a network, loss, optimizer, transform, callback)"
    fits = _builds_network(found) if called else _is_plain(found)
    return None if fits else "it is not a function of a network or loss"


def under(name: str, entries: Collection[str]) -> bool:
    """Return whether a dotted name is one of the entries, or below one."""
    return any(f"{name}.".startswith(f"{entry}.") for entry in entries)


def path_of(found: Any) -> str:
    """Return the dotted path of an object, or of an instance's class."""
    if isinstance(found, ModuleType):
        return found.__name__
    if not (isinstance(found, type) or inspect.isroutine(found)):
        found = type(found)
    name = getattr(found, "__qualname__", getattr(found, "__name__", ""))
    return f"{getattr(found, '__module__', None) or ''}.{name}"


def _loaded(path: str) -> Any:
    """Look up what a path names; None if its module is not loaded."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)


def _is_plain(function: Any) -> bool:
    """Whether a function takes tensors, such as an activation or a loss."""
    homes = [vars(sys.modules[home]) for home in _FUNCTIONS if home in sys.modules]
    known = [value for home in homes for name, value in home.items() if not name.startswith("_")]
    known += [_loaded(path) for path in PACKAGES if path.count(".") == 1]
    return any(function is value for value in known)


def _builds_network(function: Any) -> bool:
    if not under(function.__module__, (_BUILDERS,)):
        return False
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # annotations of another package
        return False
    return isinstance(returned, type) and issubclass(returned, _loaded("torch.nn.Module"))
