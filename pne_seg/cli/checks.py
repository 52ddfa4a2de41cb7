"""Checks of settings before a run has a folder, and what building data and network refuses."""

import inspect
import math
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import torch

from pne_seg.cli.settings import Settings
from pne_seg.data import SegmentationDataModule
from pne_seg.data.base import usable_processors
from pne_seg.errors import UserError, nearest
from pne_seg.module import SegmentationModule
from pne_seg.networks.slot import CLASS_COUNTS, PRETRAINED
from pne_seg.optim import build_optimizer
from pne_seg.settings_files import parse_yaml

FROM_DATA = ("num_classes", "class_names", "ignore_index")
"""What the data decides for the module."""
_PROCESSES = 16  # per processor
_MIN_PROCESSORS = 4
_SEEDS = 2**32


def check_against_data(settings: Settings, data: SegmentationDataModule) -> None:
    """Refuse settings that contradict what the data decides."""
    decided = {f"model.{name}": getattr(data, name) for name in FROM_DATA}
    decided |= {f"model.network.{name}": data.num_classes for name in CLASS_COUNTS}
    for key, expected in decided.items():
        value = settings.get(key)
        if isinstance(value, str):
            value = parse_yaml(value, f"--{key} {value}")
        if value is not None and value != expected:
            raise UserError(
                f"--{key} is {value}, but {type(data).__name__} has {expected}. "
                "Leave the key out: the data decides it."
            )


def check_groups(settings: Settings, groups: Iterable[str]) -> None:
    """Refuse one value for a group of settings; before parsing, where links into it would fail."""
    tree = settings.tree()
    for group in groups:
        if not isinstance(tree.get(group, {}), dict):
            raise UserError(
                f"--{group} {tree[group]}: expected settings by name, as --help lists them. "
                "Leave the key out for the defaults."
            )


def look_for(data: SegmentationDataModule, verb: str) -> None:
    """Look for the files of a data set before weights are fetched, which may take long.

    Not of one that may be downloaded, which takes longer still.
    """
    if not getattr(data, "download", False):
        try:
            data.setup(verb)
        except UserError:
            raise
        except Exception:  # a mistake in code: raised again when all is built
            return


def reader(name: str, verb: str) -> Callable[[SegmentationDataModule], Any]:
    """Return what reads a setting of the module from the data, after a look for their files."""

    def read(data: SegmentationDataModule) -> Any:
        look_for(data, verb)
        return getattr(data, name)

    return read


def check_numbers(config: Any, key: str = "") -> None:
    """Refuse NaN, with which every comparison with a limit fails."""
    if isinstance(config, float) and math.isnan(config):
        raise UserError(f"--{key.replace('.init_args', '')} nan: expected a number.")
    if isinstance(config, dict):
        for name, part in config.items():
            check_numbers(part, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list | tuple):
        for part in config:
            check_numbers(part, key)


def check_processes(data: SegmentationDataModule, trainer: dict[str, Any]) -> None:
    """Refuse more processes than this machine can run, and a seed out of range."""
    if not 0 <= data.seed < _SEEDS:
        raise UserError(f"--data.seed must be 0 or more and below 2**32, got {data.seed}.")
    numbers = {"data.num_workers": data.num_workers}
    devices = str(trainer["devices"])
    if devices.isdecimal() and not _on_cuda(trainer):
        numbers["trainer.devices"] = int(devices)
    most = _PROCESSES * max(_MIN_PROCESSORS, usable_processors())
    for key, number in numbers.items():
        if number > most:
            raise UserError(
                f"--{key} {number}: too many processes for this machine's "
                f"{usable_processors()} processors. Give {most} at most."
            )


def check_training(
    model: SegmentationModule, data: SegmentationDataModule, trainer: dict[str, Any]
) -> object:
    """Refuse a training that would stop at its first step; return its schedule, if any."""
    synchronized = bool(trainer["sync_batchnorm"])
    if synchronized and not _on_cuda(trainer):
        raise UserError(
            "--trainer.sync_batchnorm true: PyTorch synchronizes batch normalization on GPUs "
            "only. Leave it out here; each process then normalizes by its own images."
        )
    one_device = trainer["devices"] in (1, "1") and trainer["num_nodes"] == 1
    images = data.batch_size * (2 if synchronized and not one_device else 1)
    try:
        model.requirements.check(images, *data.training_size())
        # These refuse rates and decays out of range.
        optimizer = build_optimizer(model, model.optimizer, model.parameter_groups)
        return None if model.schedule is None else model.schedule(optimizer)
    except ValueError as error:
        raise UserError(str(error)) from error


def _on_cuda(trainer: dict[str, Any]) -> bool:
    return str(trainer["accelerator"]) in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def build_error(error: Exception, network: Mapping[str, Any]) -> UserError | None:
    """Return what the user can fix of an error raised by building; None for a mistake in code."""
    while isinstance(error.__cause__, Exception):  # of a class, listed by jsonargparse with others
        *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].partition(".")[0] != "jsonargparse":
            break
        error = error.__cause__
    settings, extra = network.get("init_args") or {}, network.get("dict_kwargs") or {}
    encoder = settings.get("encoder_name", "the encoder")
    if isinstance(error, UserError):
        return error
    if isinstance(error, AssertionError) or hasattr(error.__cause__, "errors"):
        return _refused_by_class(error)
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # older hubs raise both
        return UserError(str(error))
    if isinstance(error, KeyError | RuntimeError):  # by smp and timm for names that they lack
        return _unknown_encoder_or_weights(settings)
    if isinstance(error, TypeError):
        for name in ("output_stride", *extra):
            if f"'{name}'" in str(error):  # Python quotes the keyword that a function does not take
                return UserError(
                    f"The encoder {encoder} has no setting {name!r}. Take it out of "
                    "--model.network.dict_kwargs, or use another encoder: for a smaller output "
                    "stride a ResNet, such as tu-resnet101c."
                )
    if isinstance(error, OSError) and any(settings.get(key) for key in PRETRAINED):
        return UserError(
            f"The pretrained weights of {encoder} cannot be fetched "
            f"({textwrap.shorten(str(error), 160, placeholder=' …')}).\n"
            "  Connect to the network once, or start from random weights: "
            "--model.network.encoder_weights null"
        )
    return None


def _refused_by_class(error: Exception) -> UserError:
    """Describe settings that a class refuses by an assertion or by pydantic, as albumentations."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [type(frame.f_locals["self"]).__name__ for frame in frames if "self" in frame.f_locals]
    found: list[dict[str, Any]] = getattr(error.__cause__, "errors", list)()
    if not found:
        reason = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        return UserError(f"{owners[-1]} refuses its settings: {reason}. Correct them.")
    name = ".".join(map(str, found[0]["loc"]))
    given = f"{name} {found[0]['input']!r}" if name else "its settings"
    return UserError(f"{owners[-1]} refuses {given}: {found[0]['msg'].rstrip('.')}. Correct that.")


def dropped_setting(network: Mapping[str, Any], data: Any) -> str | None:
    """Describe the first setting that a class would drop silently, None if there is none.

    Of smp's encoders only timm's take further settings; albumentations' transforms only warn of
    those that they do not know.
    """
    extra = network.get("dict_kwargs") or {}
    encoder = str((network.get("init_args") or {}).get("encoder_name") or "tu-")
    if extra and not encoder.startswith("tu-"):
        return (
            f"--model.network.dict_kwargs sets {', '.join(extra)}, but the encoder {encoder} takes "
            f"no settings. Use timm's (such as tu-{encoder}), or --model.network.dict_kwargs null."
        )
    for slot in _slots(data):
        transform = _transform(slot["class_path"])
        parameters = inspect.signature(transform).parameters if transform is not None else {}
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            continue
        given = {**(slot.get("init_args") or {}), **(slot.get("dict_kwargs") or {})}
        unknown = [str(name) for name in given if name not in parameters]
        if transform is not None and unknown:
            near = nearest(unknown[0], parameters)
            known = f"The nearest is {near}." if near else f"There are {', '.join(parameters)}."
            return f"--data.transforms: {transform.__name__} has no setting {unknown[0]!r}. {known}"
    return None


def _unknown_encoder_or_weights(settings: Mapping[str, Any]) -> UserError | None:
    from segmentation_models_pytorch.encoders import encoders  # only on the way to an error

    from pne_seg.networks.catalogue import check_encoder

    if "encoder_name" not in settings:
        return None
    name, weights = str(settings["encoder_name"]), settings.get("encoder_weights")
    try:
        check_encoder(name)
    except ValueError as error:
        return UserError(str(error))
    known = encoders.get(name, {}).get("pretrained_settings") or {}
    if not known or weights in (None, *known):
        return None
    return UserError(
        f"--model.network.encoder_weights {weights}: the encoder {name} has no such weights. "
        f"Give one of {', '.join(known)}, or null."
    )


def _slots(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping with a class path, at any depth."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_path"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _slots(part)


def _transform(class_path: str) -> type | None:
    """Import the transform of a class path; None for a class of another kind."""
    import albumentations as A

    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, None) if module else None
    is_transform = isinstance(found, type) and issubclass(found, A.BasicTransform | A.BaseCompose)
    return found if is_transform else None
