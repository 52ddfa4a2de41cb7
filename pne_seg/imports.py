"""Check what settings name, before it is imported and before it is called.

A config, a run or an export may come from anywhere, and what it names is imported and called. So a
name is checked twice: before the import, by jsonargparse's import control, under which every parser
of this project runs, and before the call, by the object that was imported.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from threading import RLock
from types import ModuleType
from typing import Any

from pne_seg.errors import UserError
from pne_seg.nameable import PACKAGES, path_of, under, why_unfit
from pne_seg.runs import RUNS
from pne_seg.settings_files import check_yaml

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_OS = ("posix", "nt", "posixpath", "ntpath")  # where the functions of `os` are defined
_STANDARD = str(Path(os.__file__).parent)
_SITE = re.compile(r"[/\\](?:site|dist)-packages(?:[/\\]|$)")
_LOCK = RLock()  # jsonargparse's import control holds for the whole process


class RefusedImportError(UserError):
    """A setting names something that is not allowed; the message says how to allow it."""


@dataclass(frozen=True)
class Imports:
    """What settings may name, depending on where they come from.

    Attributes:
        allow: further packages or modules, with everything in them.
        own: whether the settings are the user's, which may also name modules that are neither
            installed nor of the standard library: those in the working directory or on PYTHONPATH.
        setting: how messages write a setting.
        fix: how messages write the way to allow a package.
    """

    allow: tuple[str, ...] = ()
    own: bool = False
    setting: str = "{}"
    fix: str = 'pass allow=["{}"]'

    def __post_init__(self) -> None:
        for name in self.allow:
            if not all(part.isidentifier() for part in name.split(".")):
                raise UserError(
                    f"{self.fix.format(name)}: {name!r} is not the name of a module. Give one "
                    "such as my_package."
                )
            if under(name, ("jsonargparse",)):
                raise UserError(f"{name} decides what may be imported; it is never allowed.")

    def trusting(self, texts: Sequence[str]) -> "Imports":
        """Also allow the user's own modules that are named in texts that the user wrote."""
        users = replace(self, own=True)
        names = [name for text in texts for name in _NAME.findall(text)]
        own = {n.partition(".")[0] for n in names if self.refused(n) and not users.refused(n)}
        return replace(self, allow=(*self.allow, *sorted(own)))

    def refused(self, name: str) -> str | None:
        """Return why settings may not use a dotted name, None if they may; import nothing."""
        root = name.partition(".")[0]
        if root == "jsonargparse":
            return "it decides what may be imported"
        if under(name, self._allowed) or under(name, PACKAGES):
            return None
        if root in sys.stdlib_module_names:
            return "settings may not name what is in Python's standard library"
        if known := [entry for entry in PACKAGES if under(entry, (root,)) and "._" not in entry]:
            return f"of {root}, settings may name only {', '.join(known)}"
        installed = _is_installed(root)
        if installed is None:
            return None  # importing it will say so
        if self.own and not installed and root != RUNS:  # what came with a run is not the user's
            return None
        if installed:
            return f"{root} is none of the packages that settings may name"
        return "settings that come from elsewhere may not name your own modules"

    def resolve(self, name: str, key: str) -> Any:
        """Import what a setting names; `RefusedImportError` if the setting may not name it."""
        if reason := self.refused(name):
            raise self._refusal(key, name, reason)
        found = resolve_name(name)
        if reason := self._unfit(found, called=True):
            raise self._refusal(key, name, reason, path_of(found))
        return found

    @contextmanager
    def enforced(self, *settings: Any) -> Iterator[None]:
        """Have jsonargparse refuse, before an import, what the settings may not name."""
        import jsonargparse
        import yaml
        from jsonargparse._common import parsing_settings  # there is no public way back

        names = {name for _, text in _texts(settings) for name in _NAME.findall(text)}
        roots = {name.partition(".")[0] for name in names}
        if self.own:
            # A class may be named without its module, which is then imported already.
            roots |= {name.partition(".")[0] for name in [*sys.modules]} - sys.stdlib_module_names
        with _LOCK:
            before, load = dict(parsing_settings), jsonargparse.get_loader("yaml")
            denied = before["import_path_verdicts"]

            def load_within_bounds(text: str) -> Any:
                check_yaml(text, "A value")  # of a file that a setting names, too
                return load(text)

            allowed = [*PACKAGES]
            allowed += [root for root in roots if root.isidentifier() and not self.refused(root)]
            allowed += [name for name in denied if under(name, self._allowed)]
            jsonargparse.set_parsing_settings(
                import_path_denylist=["*"], import_path_allowlist=[*allowed, *self._allowed]
            )
            jsonargparse.set_loader("yaml", load_within_bounds, (yaml.YAMLError,))
            try:
                yield
            finally:
                parsing_settings.update(before)
                jsonargparse.set_loader("yaml", load, (yaml.YAMLError,))

    def check(self, parsed: Any, key: str = "") -> None:
        """Check that parsed settings name only what may be called, before anything is built."""
        from jsonargparse import Namespace

        if isinstance(parsed, list | tuple):
            for value in parsed:
                self.check(value, key)
        elif isinstance(parsed, dict | Namespace):
            values = parsed if isinstance(parsed, dict) else vars(parsed)
            named, built = values.get("class_path"), None
            if isinstance(named, str) and "." in named:
                try:
                    built = self.resolve(named, key)
                except RefusedImportError:
                    raise
                except (ImportError, AttributeError, ValueError):
                    pass  # not a class path: a value of a mapping that jsonargparse parsed
            for name, value in values.items():
                if name == "init_args" and built is not None:
                    given = vars(value) if isinstance(value, Namespace) else value
                    for argument, content in given.items():
                        if not _is_default(built, argument, content):
                            self.check(content, f"{key}.{argument}")
                elif name != "class_path":
                    self.check(value, f"{key}.{name}" if key else str(name))
        elif (callable(parsed) or isinstance(parsed, ModuleType)) and (
            reason := self._unfit(parsed)
        ):
            raise self._refusal(key, path_of(parsed), reason)

    def refused_in(self, settings: Any, key: str) -> RefusedImportError | None:
        """Return the refusal of the first text in settings that reads like a name, if any."""
        for setting, text in _texts(settings, key):
            if _NAME.fullmatch(text) and (reason := self.refused(text)):
                return self._refusal(setting, text, reason)
        return None

    @cached_property
    def _allowed(self) -> tuple[str, ...]:
        """`allow`, with the C modules behind those of the standard library."""
        implied = [f"_{name}" for name in self.allow]
        return (*self.allow, *implied, *(_OS if "os" in self.allow else ()))

    def _unfit(self, found: Any, called: bool = False) -> str | None:
        """Why settings may not hold an imported object, or have it called; None if they may."""
        if isinstance(found, partial):
            return self._unfit(found.func, called)
        path = path_of(found)
        if under(path, self._allowed):
            return None
        if not under(path, PACKAGES):
            known = _is_installed(path.partition(".")[0]) is not None
            return self.refused(path) if known else "it belongs to no module"
        return why_unfit(found, called)

    def _refusal(
        self, key: str, name: str, reason: str, path: str | None = None
    ) -> RefusedImportError:
        root = (path or name).partition(".")[0]
        fix = f"\n  If you trust it, {self.fix.format(root)}." if root != "jsonargparse" else ""
        setting = self.setting.format(key) if key else "A setting"
        return RefusedImportError(f"{setting} names {name}: {reason}.{fix}")


def imported(path: str) -> Any:
    """Return what a path names, None if that takes an import beyond this project's packages."""
    if not under(path, PACKAGES) and path.rpartition(".")[0] not in sys.modules:
        return None
    try:
        return Imports(own=True).resolve(path, "")
    except (ImportError, AttributeError, ValueError):
        return None


def is_own(run: Path, *roots: Path) -> bool:
    """Return whether a run's folder is below `runs` of the working directory or of other roots."""
    folder = run.resolve()
    return any((root / RUNS).resolve() in folder.parents for root in (Path(), *roots))


def _is_installed(root: str) -> bool | None:
    """Whether a package is installed, not merely found; None if there is none."""
    module = sys.modules.get(root)
    spec = getattr(module, "__spec__", None)
    if module is None:
        try:
            spec = find_spec(root)
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return None
    if spec is None:
        return False  # such as __main__, of a script or a notebook
    # Some loaders give paths, where Python's own give strings.
    paths = [str(path) for path in spec.submodule_search_locations or []] or [spec.origin or ""]
    return any(path.startswith(_STANDARD) or _SITE.search(path) for path in paths)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in settings, with the setting that it belongs to."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, part in value.items():
            inner = key if name in ("class_path", "init_args") else f"{key}.{name}"
            yield from _texts(part, inner)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part, key)


def _is_default(built: Any, argument: str, value: Any) -> bool:
    """Whether a function or class is the default of an argument."""
    if not callable(value):
        return False
    for owner in getattr(built, "__mro__", (built,)):
        try:
            parameter = inspect.signature(owner).parameters.get(argument)
        except (TypeError, ValueError):
            continue
        if parameter is not None and parameter.default is value:
            return True
    return False
