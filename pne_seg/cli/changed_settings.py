"""The settings of a run that differ from their defaults."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pne_seg.cli.parser import settings_parser
from pne_seg.imports import imported

_NOT_SHOWN = ("name", "ckpt_path", "seed_everything", "config")


def changed_settings(
    config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Return keys, `init_args` left out, with their value and their default, as texts.

    `defaults` are those of the command. A class's are those of its own signature, so that another
    class in a slot is one difference, and its settings are only those that were changed.
    """
    return [
        (key, _text(value), _text(default))
        for key, value, default in _differences(_plain(config), _plain(defaults), "")
        if key not in _NOT_SHOWN
    ]


def _differences(
    config: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, Any]]:
    for name, value in config.items():
        key, default = f"{prefix}{name}", defaults.get(name)
        inner = default if isinstance(default, dict) else {}
        if isinstance(value, dict) and "class_path" in value:
            class_path = value["class_path"]
            if class_path != inner.get("class_path"):
                yield key, class_path, inner.get("class_path", "")
            given = {**(value.get("init_args") or {}), **(value.get("dict_kwargs") or {})}
            yield from _differences(given, _class_defaults(class_path), f"{key}.")
        elif isinstance(value, dict) and value:
            yield from _differences(value, inner.get("init_args", inner), f"{key}.")
        elif value != default:
            yield key, value, default


def _class_defaults(class_path: str) -> dict[str, Any]:
    found = imported(class_path)
    if found is None:
        return {}
    try:
        defaults: dict[str, Any] = _plain(settings_parser(found).get_defaults().as_dict())
    except Exception:  # signatures of third-party code
        return {}
    return defaults


def _plain(values: Any) -> Any:
    """Write values as a config does: tuples as lists, anything else as text."""
    return json.loads(json.dumps(values, default=str))


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
