"""What a setting's annotated type takes: its parts, the classes of a slot, whether a value fits."""

import types
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

_PLAIN = ("builtins", "datetime", "os", "pathlib", "jsonargparse.typing")
"""Modules whose classes are values: a setting gives them as text or numbers."""


def parts(kind: Any) -> list[Any]:
    """Return the members of a union but None, of unions within it too."""
    if get_origin(kind) not in (Union, types.UnionType):
        return [] if kind is type(None) else [kind]
    return [part for member in get_args(kind) for part in parts(member)]


def inner_types(kind: Any, container: type) -> tuple[Any, ...]:
    """Return what the container among the parts of a type holds."""
    for part in parts(kind):
        origin = get_origin(part)
        if isinstance(origin, type) and issubclass(origin, container):
            return get_args(part)
    return ()


def takes_list(kind: Any) -> bool:
    """Return whether a list is among the parts of a type; tuples are not extended."""
    origins = [get_origin(part) or part for part in parts(kind)]
    return any(isinstance(one, type) and issubclass(list, one) for one in origins)


def slot_classes(kind: Any) -> list[type]:
    """Return the classes that a slot takes, or that a callable in it returns."""
    found: list[type] = []
    for part in parts(kind):
        if get_origin(part) is Callable:
            for returned in get_args(part)[-1:]:  # empty for a plain Callable
                found += slot_classes(returned)
        elif isinstance(part, type) and get_origin(part) is None and part.__module__ not in _PLAIN:
            found.append(part)
    return found


def concrete_classes(base: type) -> set[type]:
    """Return the public, imported classes of a kind that have no abstract methods."""
    methods = (getattr(base, name, None) for name in dir(base))
    is_abstract = any(getattr(method, "__isabstractmethod__", False) for method in methods)
    found = set() if is_abstract or base.__name__.startswith("_") else {base}
    return found.union(*map(concrete_classes, type.__subclasses__(base)))


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is valid for a type, as far as jsonargparse can tell."""
    try:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--value", type=kind)
        parser.parse_object({"value": value})
    except ArgumentError:
        return False
    except Exception:  # a type that only the class itself can check
        return True
    return True


def expected_value(value: Any, kind: Any) -> str:
    """Describe what a type takes in place of a value."""
    is_number = isinstance(value, int | float) or str(value).replace(".", "").isdecimal()
    if is_number and (inner := inner_types(kind, tuple) or inner_types(kind, Sequence)):
        length = len(inner) if Ellipsis not in inner else 1
        return f"a list such as [{', '.join([str(value)] * length)}]"
    return " or ".join(dict.fromkeys(map(_type_name, parts(kind))))


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    inner = [_type_name(part) for part in get_args(kind) if isinstance(part, type)]
    name = getattr(get_origin(kind) or kind, "__name__", str(kind))
    return f"{name} of {', '.join(dict.fromkeys(inner))}" if inner else str(name)
