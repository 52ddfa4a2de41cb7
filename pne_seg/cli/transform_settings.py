"""Settings of transforms that albumentations would drop with no more than a warning."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import albumentations as A

from pne_seg.cli.mistakes import nearest


def unknown_transform_setting(data: Any) -> str | None:
    """Complain of the first setting that a transform of the data does not take.

    Args:
        data: the slot of the data as parsed, in plain dictionaries and lists; the transforms may be
            nested in others.
    """
    for slot in _slots(data):
        found = _class_of(str(slot["class_path"]))
        if found is None:
            continue
        parameters = inspect.signature(found).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            continue
        given = {**(slot.get("init_args") or {}), **(slot.get("dict_kwargs") or {})}
        for name in given:
            if name not in parameters:
                near = nearest(str(name), parameters)
                hint = (
                    f"The nearest is {near}."
                    if near
                    else f"Its settings are {', '.join(parameters)}."
                )
                return f"--data.transforms: {found.__name__} has no setting {name!r}. {hint}"
    return None


def _slots(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping with a class path, at any depth."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_path"), str):
            yield value
        value = list(value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _slots(part)


def _class_of(class_path: str) -> type | None:
    """The transform of a class path; None for a class of another kind."""
    module, _, name = class_path.rpartition(".")
    found = getattr(import_module(module), name, None) if module else None
    kinds = (A.BasicTransform, A.BaseCompose)
    return found if isinstance(found, type) and issubclass(found, kinds) else None
