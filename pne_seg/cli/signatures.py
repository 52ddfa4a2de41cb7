"""Read the settings of classes from their source files, without importing them.

An import of this project's classes loads PyTorch and Lightning, which takes seconds; help and
mistyped keys need only names, defaults and docstrings. Whatever cannot be read with certainty is
None.
"""

import ast
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from docstring_parser import ParseError, google

_KEEPING = ("_defaults_from_env_vars",)
"""Decorators that keep a signature: that of Lightning's Trainer."""
_OF_LOSS = "settings_of"
"""The decorator of `pne_seg.contrast.component` that adds a loss's settings to a `Contrast`'s."""


@dataclass(frozen=True)
class Argument:
    """One argument of a class: type and default as in its source, and its documentation."""

    kind: str
    default: str | None
    text: str


Arguments = dict[str, Argument]


@dataclass(frozen=True)
class Definition:
    """A class or function where it is defined."""

    module: str
    node: ast.ClassDef | ast.FunctionDef

    @property
    def path(self) -> str:
        """The full path."""
        return f"{self.module}.{self.node.name}"

    @property
    def summary(self) -> str:
        """The first paragraph of its documentation."""
        return " ".join((ast.get_docstring(self.node) or "").partition("\n\n")[0].split())

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """The functions in its body, by name."""
        return {one.name: one for one in self.node.body if isinstance(one, ast.FunctionDef)}

    @property
    def is_dataclass(self) -> bool:
        """Whether it is a dataclass."""
        return any("dataclass" in ast.unparse(one) for one in self.node.decorator_list)


@cache
def arguments(path: str) -> Arguments | None:
    """Return the arguments of a class or function, including those forwarded by **kwargs.

    None if they cannot be read with certainty. There may be one too many, never one too few.
    """
    found = definition(path)
    if found is None:
        return None
    if isinstance(found.node, ast.FunctionDef):
        return None if found.node.decorator_list else _of_function(found.node, found)
    if found.is_dataclass:
        return _of_fields(found)
    if "__init__" in found.methods:
        return _of_function(found.methods["__init__"], found)
    return None if "__new__" in found.methods else _of_bases(found)


@cache
def documented(path: str) -> Arguments:
    """Return the arguments of a class for its help, described in its docstring or a base's.

    Unlike in `arguments`, its **kwargs may take further ones.
    """
    known = arguments(path)
    found = definition(path)
    if known is not None or found is None or isinstance(found.node, ast.FunctionDef):
        return known or {}
    init = found.methods.get("__init__")
    own = _own(init, found) if init else {}
    for base in found.node.bases:
        for name, one in documented(_resolved(ast.unparse(base), found)).items():
            if init is None:
                own[name] = one
            elif name in own and not own[name].text:
                own[name] = replace(own[name], text=one.text)
    return own


@cache
def definition(path: str) -> Definition | None:
    """Find where a class or function is defined, along the imports of its name."""
    module, _, name = path.rpartition(".")
    tree = _parsed(module) if module else None
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Definition(module, node)
    source = _imported_as(name, module, tree)
    return definition(source) if source not in (None, path) else None


def dataclass_in(kind: str, owner: str) -> str | None:
    """Return the dataclass that an argument of `owner` takes, or None; it has no subclasses."""
    found = definition(owner)
    names = [name.strip() for name in kind.split("|") if name.strip() != "None"]
    if found is None or len(names) != 1 or not names[0].isidentifier():
        return None
    path = _resolved(names[0], found)
    one = definition(path)
    return path if one is not None and one.is_dataclass else None


def public_classes(module: str) -> dict[str, str]:
    """Return the first line on each class that a module defines or offers, by name."""
    tree, names = _parsed(module), []
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = list(ast.literal_eval(node.value))
    if not names and tree is not None:
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    found = {name: definition(f"{module}.{name}") for name in names if name[0] != "_"}
    return {
        name: (ast.get_docstring(one.node) or "").partition("\n")[0]
        for name, one in found.items()
        if one is not None and isinstance(one.node, ast.ClassDef)
    }


def _of_function(function: ast.FunctionDef, owner: Definition) -> Arguments | None:
    further: Arguments | None = {}
    loss = None
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == _OF_LOSS:
            loss = arguments(_resolved(ast.unparse(decorator.args[0]), owner))
            if loss is None:
                return None
        elif ast.unparse(decorator) not in _KEEPING:
            return None
    if function.args.kwarg is not None:
        forwards = isinstance(owner.node, ast.ClassDef) and _goes_to_base(function)
        further = _of_bases(owner) if forwards else None
    if further is None:
        return None
    if loss is not None:
        further = loss | {name: one for name, one in further.items() if name != "loss"}
        further.pop("ignore_index", None)
    own = _own(function, owner)
    return own | {name: one for name, one in further.items() if name not in own}


def _own(function: ast.FunctionDef, owner: Definition) -> Arguments:
    """Return the arguments that a function names."""
    given = function.args
    names = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(given.defaults))
    defaults += given.defaults
    if owner.node is not function:  # a method: without self
        names, defaults = names[1:], defaults[1:]
    names, defaults = names + given.kwonlyargs, defaults + given.kw_defaults
    texts = _documentation(owner.node) | _documentation(function)
    return {
        one.arg: _argument(one.annotation, default, texts.get(one.arg, ""))
        for one, default in zip(names, defaults, strict=True)
    }


def _of_fields(found: Definition) -> Arguments | None:
    assert isinstance(found.node, ast.ClassDef)
    if found.node.bases:
        return None
    texts = _documentation(found.node)
    return {
        node.target.id: _argument(node.annotation, node.value, texts.get(node.target.id, ""))
        for node in found.node.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _of_bases(found: Definition) -> Arguments | None:
    """Return the arguments of all bases."""
    assert isinstance(found.node, ast.ClassDef)
    merged: Arguments = {}
    for base in found.node.bases:
        of_base = arguments(_resolved(ast.unparse(base), found))
        if of_base is None or found.node.keywords:
            return None
        merged = of_base | merged
    return merged


def _goes_to_base(function: ast.FunctionDef) -> bool:
    """Whether **kwargs are passed to the base's `__init__`, and used for nothing else."""
    assert function.args.kwarg is not None
    name = function.args.kwarg.arg
    uses = sum(isinstance(one, ast.Name) and one.id == name for one in ast.walk(function))
    passed = [
        keyword
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__"
        for keyword in call.keywords
        if keyword.arg is None and ast.unparse(keyword.value) == name
    ]
    return uses == len(passed) == 1


def _argument(kind: ast.expr | None, default: ast.expr | None, text: str) -> Argument:
    shown = None if default is None else ast.unparse(default)
    return Argument("" if kind is None else ast.unparse(kind), shown, text)


def _documentation(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Return the entries below `Args:` or `Attributes:` of a docstring, each on one line."""
    try:
        found = google.parse(ast.get_docstring(node) or "").params
    except ParseError:  # another style
        return {}
    return {one.arg_name: " ".join((one.description or "").split()) for one in found}


def _resolved(name: str, within: Definition) -> str:
    """Return the full path of a name that a module uses; the name itself if it is unknown."""
    first, _, rest = name.partition(".")
    tree = _parsed(within.module)
    if tree is None:
        return name
    if any(isinstance(node, ast.ClassDef) and node.name == first for node in tree.body):
        return f"{within.module}.{name}"
    source = _imported_as(first, within.module, tree)
    return f"{source}.{rest}" if source and rest else source or name


def _imported_as(name: str, module: str, tree: ast.Module) -> str | None:
    """Return the full path of what a module imports under a name."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name) != name:
                continue
            if isinstance(node, ast.Import):
                return alias.name
            file = _file(module)
            parts = module.split(".")
            depth = node.level - (file is not None and file.name == "__init__.py")
            home = parts[: len(parts) - depth] if node.level else []
            return ".".join([*home, *([node.module] if node.module else []), alias.name])
    return None


@cache
def _parsed(module: str) -> ast.Module | None:
    file = _file(module)
    try:
        return None if file is None else ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


@cache
def _file(module: str) -> Path | None:
    """Return the source file of a module; its package is not imported."""
    path, *parts = module.split(".")
    try:
        spec = find_spec(path)
    except (ImportError, ValueError):
        return None
    for part in parts:
        path = f"{path}.{part}"
        folders = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(path, folders) if folders else None
    origin = str(spec.origin) if spec else ""
    return Path(origin) if origin.endswith(".py") else None
