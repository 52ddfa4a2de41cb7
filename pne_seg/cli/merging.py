"""Merge settings: files left to right, then the overrides of the command line.

Unlike jsonargparse, a slot whose class changes starts afresh, where `init_args` that both classes
know would leak into the new one; and a key under a slot that is null is refused, where it would
silently bring the slot back.
"""

from typing import Any

from pne_seg.cli.arguments import DEFAULT_CLASSES
from pne_seg.errors import UserError
from pne_seg.imports import imported
from pne_seg.settings_files import parse_yaml

Config = dict[str, Any]
SLOT_KEYS = ("class_path", "init_args", "dict_kwargs")

_AS_ONE = ("classes",)
"""Keys whose mappings are one value: another replaces it."""
_DEFAULT_IF_NULL = (*DEFAULT_CLASSES, "model.inference", "model.parameter_groups")
"""Keys that null does not switch off: `SegmentationModule` then takes their default."""
_TABLES = ("extra_losses", "extra_loss_weights", "lr_scales")
"""Keys whose mappings a later file extends and a flag replaces."""


def merge(base: Config, new: Config, source: str, prefix: str = "") -> Config:
    """Merge `new` over `base`: mappings key by key, other values replaced, a new class afresh.

    What is set of a class beside `class_path` is taken for its `init_args`. `KEY+` extends a list;
    settings below a list's key are those of its last class. `source` is the file of `new`, or the
    flag that says all of it.
    """
    merged = dict(base)
    for key, value in sorted(new.items(), key=lambda item: str(item[0]).endswith("+")):
        name = prefix[:-1] if key == "init_args" else f"{prefix}{key}"
        if str(key).endswith("+"):
            _append(merged, key.removesuffix("+"), value, source, name)
            continue
        listed = key if key in base else f"{key}+"
        old: Any = _as_list(base.get(listed), source)
        if isinstance(old, list) and _is_of_last(value, old, source, name):
            last = merge({key: old[-1]}, {key: value}, source, prefix)[key]
            merged[listed] = [*old[:-1], last]
            continue
        merged.pop(f"{key}+", None)
        old = base.get(key)
        is_whole_flag = source == f"--{name}"
        if isinstance(value, dict):
            below_null = key in base and old is None and not is_whole_flag
            if below_null and "class_path" not in value and name not in _DEFAULT_IF_NULL:
                raise UserError(
                    f"{source}: '{name}.{next(iter(value), '')}' is set while '{name}' is null, "
                    "which switches it off. Leave the key out, or give the class first "
                    f"(--{name} CLASS)."
                )
            old = {"class_path": old} if isinstance(old, str) else old
        elif isinstance(value, str) and isinstance(old, dict) and "class_path" in old:
            same = same_class(str(old["class_path"]), value)
            value = {"class_path": value} if same else value
        if isinstance(value, dict) and key not in _AS_ONE:
            is_default = "class_path" not in value and not isinstance(old, dict)
            if is_default and key != "init_args" and name in DEFAULT_CLASSES:
                old = {"class_path": DEFAULT_CLASSES[name]}
            replaces = key in _TABLES and is_whole_flag
            if not isinstance(old, dict) or replaces or _changes_class(old, value):
                old = {}
            value = _with_init_args(value) if "class_path" in old else value
            value = merge(old, value, source, f"{name}.")
        merged[key] = value
    return merged


def _append(merged: Config, key: str, value: Any, source: str, name: str) -> None:
    """Extend a list in place; without one, `KEY+` remains for the parser, which has the default."""
    items = _as_list(value, source)
    items = items if isinstance(items, list) else [items] if items is not None else []
    place = key if key in merged else f"{key}+"
    old = _as_list(merged.get(place), source)
    if isinstance(old, dict) and "class_path" not in old:
        raise UserError(
            f"{source}: '{name.removesuffix('+')}' holds {', '.join(map(str, old))} and is no list "
            "that could be appended to. Give all of it, or a class before its settings."
        )
    if old is None:
        merged[place] = items
    else:
        merged[place] = [*(old if isinstance(old, list) else [old]), *items]


def _as_list(value: Any, source: str) -> Any:
    """Return the list that a text from the command line stands for; other values as they are."""
    is_list = isinstance(value, str) and value.startswith("[")
    return parse_yaml(value, f"{source} {value}") if is_list else value


def _is_of_last(value: Any, items: list[Any], source: str, name: str) -> bool:
    """Return whether a value is settings of the last class in a list, not a value of its own."""
    if not isinstance(value, dict) or "class_path" in value or not items:
        return False
    is_class = isinstance(items[-1], dict) and "class_path" in items[-1]
    return is_class or (isinstance(items[-1], str) and source.startswith(f"--{name}."))


def same_class(one: str, other: str) -> bool:
    """Return whether two class paths, in full or only by the class's name, mean one class."""
    if "." in one and "." in other and one != other:
        found = imported(one)
        return found is not None and found is imported(other)
    return one.rpartition(".")[2] == other.rpartition(".")[2]


def _with_init_args(slot: Config) -> Config:
    """Move what stands beside `class_path` into `init_args`."""
    spec = {part: slot[part] for part in slot if part in SLOT_KEYS}
    if settings := {part: slot[part] for part in slot if part not in SLOT_KEYS}:
        spec["init_args"] = {**(spec.get("init_args") or {}), **settings}
    return spec


def _changes_class(old: Config, new: Config) -> bool:
    """Return whether `new` names another class than `old`, which may be settings of a default."""
    if "class_path" not in new:
        return False
    if "class_path" in old:
        return not same_class(str(old["class_path"]), str(new["class_path"]))
    return any(part not in SLOT_KEYS for part in old)
