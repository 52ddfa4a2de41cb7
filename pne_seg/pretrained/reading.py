"""Read the tensors of a file of weights, and its class names, without running its code."""

import json
import pickle
import pickletools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import torch
from torch import Tensor

from pne_seg.description import IN_CHECKPOINT, are_named
from pne_seg.errors import UserError
from pne_seg.files import check_regular

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which training programs keep a state dict, the most likely first."""
_PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and `torch.compile` add to every name."""

_INERT_PACKAGES = ("mmengine", "mmcv", "mmseg", "numpy")
_INERT_NAMES = ("builtins.getattr", "__builtin__.getattr")  # how mmengine's history is pickled
_ALLOWED = re.compile(r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.\w+Storage")
_PICKLE, _ZIP = b"\x80", b"PK\x03\x04"
_LONGEST_HEADER = 100_000_000  # of safetensors, in bytes, as its readers have it


class _Inert:
    """Placeholder for an object of another framework: takes any arguments, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensors(path: Path, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the state dict of a file, by its own names, and the names of the classes, if any.

    It is safetensors, or what `torch.save` wrote, also before PyTorch 1.6, known by its content.
    Wrappers (`{"state_dict": …}`) and prefixes that training programs add (`module.`) are removed;
    objects of mmengine and NumPy beside the weights are read as placeholders. Messages call the
    file `source`.
    """
    try:
        size = check_regular(path, source).st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror}).") from error
    # safetensors: the length of the JSON header in eight bytes, then the header.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        content, named = _read_safetensors(path, source)
    else:
        _check_kind(start, size, path, source)
        content = _read_pickle(path, source)
        named = _classes_of_checkpoint(content)
    held = _state_dict(content, depth=3)
    if held is None:
        raise UserError(f"{source}: holds no weights (no state dict with tensors).")
    if other := [name for name, value in held.items() if isinstance(value, _Inert)]:
        raise UserError(
            f"{source}: {other[0]} is no tensor, but a NumPy array or another object. Save "
            "tensors: torch.save(network.state_dict(), FILE)."
        )
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors, named


def _check_kind(start: bytes, size: int, path: Path, source: str) -> None:
    """Refuse what is no file of weights, by its first bytes."""
    text = start.lstrip().lower()
    if not size:
        raise UserError(f"{source}: the file is empty. Download it again.")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{source}: a web page, not weights: the server answered with a page (a login, or a "
            "file that has moved). Download the file itself."
        )
    if text.startswith(b"version https://git-lfs"):
        raise UserError(f"{source}: a Git LFS pointer, not the weights. Run `git lfs pull` there.")
    if start.startswith(_ZIP) and not _is_zip(path):
        raise UserError(f"{source}: cut short after {size} bytes. Download or copy it again.")
    if not start.startswith((_ZIP, _PICKLE)):
        raise UserError(f"{source}: neither safetensors nor a file that torch.save wrote.")


def _is_zip(path: Path) -> bool:
    try:
        return is_zipfile(path)
    except BadZipFile:  # Python raises it for some ends of damaged archives
        return False


def _read_safetensors(path: Path, source: str) -> tuple[Any, tuple[str, ...]]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        content = load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"{source}: cannot be read as safetensors ({str(error)[:200]}): cut short or damaged. "
            "Download or copy it again."
        ) from error
    try:
        return content, _as_names(json.loads(metadata.get("class_names", "null")))
    except ValueError:
        return content, ()


def _read_pickle(path: Path, source: str) -> Any:
    named: list[str] = []
    try:
        named = _names(path)
        inert: list[Any] = [(_Inert, name) for name in named if _is_inert(name)]
        # Opened here, because PyTorch goes by the suffix too.
        with torch.serialization.safe_globals(inert), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        # torch's own message advises weights_only=False.
        foreign = sorted(name for name in named if not _is_inert(name))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise UserError(
                f"{source}: not opened, because it holds more than tensors and plain values, which "
                f"could run code: {', '.join(foreign[:3])}{more}.\n"
                "  If you trust the file, save its weights only, where the program that wrote it "
                "is installed:\n"
                "  torch.save(network.state_dict(), FILE)"
            ) from error
        raise UserError(
            f"{source}: cannot be read as weights ({type(error).__name__}): cut short, damaged or "
            "of another kind (TorchScript, say, or another pickle). Download or copy it again, or "
            "take a file of weights."
        ) from error


def _is_inert(name: str) -> bool:
    return name.partition(".")[0] in _INERT_PACKAGES or name in _INERT_NAMES


def _names(path: Path) -> list[str]:
    """List the functions and classes that a file names, without those known to be allowed.

    The pickle is parsed, not run.
    """
    if _is_zip(path):
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    names, texts = set(), ["", ""]
    with path.open("rb") as file:
        # Before PyTorch 1.6: magic number, version, system, content, names of the storages.
        for _ in range(5):
            for operation, argument, _ in pickletools.genops(file):
                if operation.name == "GLOBAL":
                    names.add(str(argument).replace(" ", "."))
                elif operation.name == "STACK_GLOBAL":
                    names.add(".".join(texts[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
    return [name for name in names if not _ALLOWED.fullmatch(name)]


def _state_dict(content: Any, depth: int) -> Mapping[Any, Any] | None:
    """Find the mapping that holds tensors: under the most likely known key, else the top."""
    if not isinstance(content, Mapping) or not depth:
        return None
    for key in _WRAPPERS:
        if (found := _state_dict(content.get(key), depth - 1)) is not None:
            return found
    kinds = (Tensor, _Inert)  # a state dict of arrays gets a message of its own
    return content if any(isinstance(value, kinds) for value in content.values()) else None


def _classes_of_checkpoint(content: Any) -> tuple[str, ...]:
    """Return the class names in a checkpoint of this project or mmsegmentation; else none."""
    top = _mapping(content)
    meta = _mapping(top.get("meta"))
    own = _as_names(_mapping(top.get(IN_CHECKPOINT)).get("class_names"))
    since_1_0 = _mapping(meta.get("dataset_meta")).get("classes")
    return own or _stripped(_as_names(since_1_0) or _as_names(meta.get("CLASSES")))


def classes_of_config(file: Path) -> tuple[str, ...]:
    """Return the class names in a `config.json` of transformers; else none."""
    try:
        labels = _mapping(_mapping(json.loads(file.read_text("utf-8"))).get("id2label"))
        return _stripped(_as_names([labels[str(index)] for index in range(len(labels))]))
    except (OSError, ValueError, KeyError):
        return ()


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _as_names(value: Any) -> tuple[str, ...]:
    """Return a list of names; none if it is something else, or has numbers instead of names."""
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return ()
    names = tuple(value)
    plain = all(isinstance(name, str) for name in names) and len({*names}) == len(names)
    return names if plain and are_named(names) else ()


def _stripped(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for name in names)  # published lists have `'bed '`
