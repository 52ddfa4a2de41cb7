"""What files of weights call their classes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pne_seg.description import IN_CHECKPOINT, are_named


def named_classes(content: Any) -> tuple[str, ...]:
    """Classes that a checkpoint names, of this project or of mmsegmentation; else none."""
    top = _mapping(content)
    meta = _mapping(top.get("meta"))
    own = _names(_mapping(top.get(IN_CHECKPOINT)).get("class_names"))
    since_1_0 = _mapping(meta.get("dataset_meta")).get("classes")
    return own or _plain(_names(since_1_0) or _names(meta.get("CLASSES")))


def classes_of_export(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Classes that the header of an export's safetensors names; else none."""
    try:
        return _names(json.loads(metadata.get("class_names", "null")))
    except ValueError:
        return ()


def classes_of_config(file: Path) -> tuple[str, ...]:
    """Classes that a `config.json` of transformers names; else none."""
    try:
        labels = _mapping(_mapping(json.loads(file.read_text("utf-8"))).get("id2label"))
        return _plain(_names([labels[str(index)] for index in range(len(labels))]))
    except (OSError, ValueError, KeyError):
        return ()


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _names(value: Any) -> tuple[str, ...]:
    """A list of names; none if it is something else, or has numbers in place of names."""
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return ()
    names = tuple(value)
    plain = all(isinstance(name, str) for name in names) and len({*names}) == len(names)
    return names if plain and are_named(names) else ()


def _plain(names: tuple[str, ...]) -> tuple[str, ...]:
    """Without spaces at the ends, which published lists of names have (`'bed '`)."""
    return tuple(name.strip() for name in names)
