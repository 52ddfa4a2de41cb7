"""Read YAML and JSON that may come from anywhere, within bounds.

YAML repeats a value by name: a few lines of such references mean billions of values, and a file of
only brackets exceeds Python's recursion limit. Both are refused before anything is built; so is a
key that a mapping gives twice, of which PyYAML keeps the last.
"""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pne_seg.errors import UserError

MAX_BYTES = 1_000_000  # of a file; the longest config of this project has 2 kB
MAX_VALUES = 20_000  # keys and values of a YAML text, each reference counted as what it stands for
MAX_DEPTH = 50  # brackets within brackets, or levels of indentation

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # no tag makes an object of a class
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_SHORT = 80  # characters: too few for many values or levels, except by references


def read_yaml(file: Path) -> Any:
    """Read a YAML file; `UserError` if it is no YAML or exceeds the bounds."""
    return parse_yaml(_text(file), str(file))


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML text; messages name its source."""
    check_yaml(text, source)
    try:
        return yaml.load(text, _LOADER)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an invalid date or number
        raise UserError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def line_of(file: Path, names: Sequence[str]) -> int | None:
    """Return the line of a YAML file that sets a key, if any; `init_args` may be left out of it."""
    node, line = yaml.compose(_text(file), _LOADER), None
    for name in names:
        found = _entries(node)
        if not {name, f"{name}+"} & found.keys() and "init_args" in found:
            found = _entries(found["init_args"][1])
        name = name if name in found else f"{name}+"  # which extends a list
        if name not in found:
            return None
        line, node = found[name]
    return line


def _entries(node: Any) -> dict[str, tuple[int, Any]]:
    """Lines and values of a mapping in YAML, by key; of a list's mappings those that occur once."""
    if isinstance(node, yaml.SequenceNode):
        items = [_entries(_entries(item).get("init_args", (0, item))[1]) for item in node.value]
        names = [name for item in items for name in item]
        return {name: one for item in items for name, one in item.items() if names.count(name) < 2}
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: (key.start_mark.line + 1, value) for key, value in node.value}


def read_json(file: Path) -> Any:
    """Read a JSON file; `UserError` if it is no JSON or exceeds the bounds."""
    text = _text(file)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise _too_deep(str(file)) from error
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}") from error
    _check_values(content, str(file))
    return content


def check_yaml(text: str, source: str) -> None:
    """Check that a text, parsed as YAML, stays within the bounds and gives no key twice.

    The texts in it are checked too: they are parsed again, by type. A text that is not YAML passes.
    """
    _check_bounds(text, source)
    _check_keys(text, source)


def _check_bounds(text: str, source: str, within: int = 0) -> None:
    """Check a text, and the texts in it, `within` levels deep."""
    if len(text) < _SHORT and "&" not in text:
        return
    if within > 3:
        raise _too_deep(source)
    total = 0
    sizes: dict[str | None, int] = {}  # of what a reference stands for
    levels: list[tuple[str | None, int]] = []  # name and where its values begin
    try:
        for event in yaml.parse(text, _LOADER):
            if isinstance(event, yaml.AliasEvent):
                if any(name == event.anchor for name, _ in levels):
                    raise UserError(f"{source} has a value, *{event.anchor}, that contains itself.")
                total += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                total += 1
                sizes[event.anchor] = 1
                if event.value != text:
                    _check_bounds(event.value, source, within + 1)
            elif isinstance(event, yaml.CollectionStartEvent):
                levels.append((event.anchor, total))
                total += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                name, start = levels.pop()
                if name is not None:
                    sizes[name] = total - start
            if total > MAX_VALUES:
                raise UserError(
                    f"{source} has more than {MAX_VALUES} values, references counted as what they "
                    "stand for. Settings need few; name a file for lists."
                )
            if len(levels) > MAX_DEPTH:
                raise _too_deep(source)
    except yaml.YAMLError:
        return  # plain text; where YAML is required, parsing reports the error


def _check_keys(text: str, source: str) -> None:
    """Check that no mapping of a text within the bounds, or of the texts in it, gives a key twice.

    What is merged by `<<` may be replaced.
    """
    if text.count(":") < 2:
        return
    try:
        root = yaml.compose(text, _LOADER)
    except yaml.YAMLError:
        return
    seen: set[int] = set()  # a reference is the same node again
    rest: list[tuple[str, Any]] = [("", root)]
    while rest:
        place, node = rest.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            rest += [(place, item) for item in node.value]
        elif isinstance(node, yaml.ScalarNode) and node.value != text:
            _check_keys(node.value, f"{source}: {place.removesuffix('.')}" if place else source)
        elif isinstance(node, yaml.MappingNode):
            first: dict[Any, Any] = {}
            for key, value in node.value:
                name = _constructed(key)
                if name in first:
                    raise UserError(_given_twice(source, place, first[name], key))
                if key.tag != _MERGE:
                    first[name] = key
                inner = "" if key.value in ("init_args", "<<") else f"{key.value}."
                rest.append((f"{place}{inner}", value))


def _constructed(key: Any) -> Any:
    """Return what the node of a key is in Python: `yes` and `on` are both True."""
    if key.tag == _TEXT:
        return key.value
    try:
        if isinstance(key, yaml.ScalarNode):
            return yaml.SafeLoader("").construct_object(key)
    except (yaml.YAMLError, ValueError):
        pass
    return id(key)  # none that a mapping can hold: parsing reports it


def _given_twice(source: str, place: str, first: Any, second: Any) -> str:
    lines = [key.start_mark.line + 1 for key in (first, second)]
    where = f"in lines {lines[0]} and {lines[1]}" if lines[0] != lines[1] else f"in line {lines[0]}"
    if first.value == second.value:
        return (
            f"{source}: {place}{first.value} is given twice, {where}; only the last would count. "
            "Keep one of them."
        )
    return (
        f"{source}: {place}{first.value} and {place}{second.value} are the same key in YAML, which "
        f"is given twice, {where}. If they are names, put them into quotes."
    )


def _check_values(content: Any, source: str, depth: int = 0) -> None:
    """Check that content read from JSON, and the texts in it, stay within the bounds."""
    if depth > MAX_DEPTH:
        raise _too_deep(source)
    if isinstance(content, str):
        check_yaml(content, source)
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            _check_values(value, source, depth + 1)


def _text(file: Path) -> str:
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(
            f"{file} is larger than {MAX_BYTES // 1_000_000} MB, too large for settings. "
            "Give another file."
        )
    return decoded(content, str(file))


def decoded(content: bytes, source: str) -> str:
    """Decode the text of a file: UTF-8, or UTF-16 that begins with its mark.

    Raises:
        UserError: if it is another encoding, with the line of the first byte that does not fit.
    """
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
        where = text.find("\0")  # as UTF-16 without its mark reads
        before, byte = text[:where].encode(), 0
    except UnicodeDecodeError as error:
        where = error.start
        before, byte = error.object[:where], error.object[where]
    if where < 0:
        return text
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    raise UserError(
        f"{source} is not UTF-8 text: byte 0x{byte:02x} in line {line}, column {column}. Save it "
        "as UTF-8."
    )


def _too_deep(source: str) -> UserError:
    return UserError(f"{source} is nested more than {MAX_DEPTH} levels deep; no settings are.")
