"""Tensors of a file that may come from anywhere: none of its code is run."""

import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import torch
from torch import Tensor

from pne_seg.errors import UserError
from pne_seg.files import check_regular
from pne_seg.pretrained.class_names import classes_of_export, named_classes

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which training programs keep a state dict, the likeliest first."""

_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and `torch.compile` put before every name."""

_INERT_PACKAGES = ("mmengine", "mmcv", "mmseg", "numpy")
_INERT_NAMES = ("builtins.getattr", "__builtin__.getattr")  # how mmengine's history is pickled
_ALLOWED = re.compile(r"collections\.OrderedDict|torch\._utils\._rebuild_\w+|torch\.\w+Storage")
_PICKLE = b"\x80"
_LONGEST_HEADER = 100_000_000  # of safetensors, in bytes, as its readers have it
_ZIP = b"PK\x03\x04"


class _Inert:
    """Stands where a file has an object of another framework: takes anything, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensors(path: Path, source: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the state dict of a file, by its own names, and the names of the classes.

    Wrappers (`{"state_dict": …}`) and prefixes that training programs add (`module.`) are taken
    off. Beside the weights, a file of mmengine holds objects of its own and of NumPy; they are read
    as objects that do nothing.

    Args:
        path: safetensors, or what `torch.save` wrote, also before PyTorch 1.6; known by its
            content.
        source: what messages call the file.

    Returns:
        CPU tensors; names in the order of class indices, none if the file does not name them.

    Raises:
        UserError: the file is damaged, no weights, or would need code to be run.
    """
    try:
        size = check_regular(path, source).st_size
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror}).") from error
    if _is_safetensors(start):
        content, named = _read_safetensors(path, source)
    else:
        _check_kind(start, size, path, source)
        content = _read_pickle(path, source)
        named = named_classes(content)
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


def _is_safetensors(start: bytes) -> bool:
    """By its beginning: the length of a JSON header, in eight bytes, and the header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def _check_kind(start: bytes, size: int, path: Path, source: str) -> None:
    """Refuse by the first bytes what is no file of weights."""
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
            named = classes_of_export(file.metadata() or {})
        return load_file(path), named
    except SafetensorError as error:
        raise UserError(
            f"{source}: cannot be read as safetensors ({str(error)[:200]}): cut short or damaged. "
            "Download or copy it again."
        ) from error


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
            raise UserError(_refusal(source, foreign)) from error
        raise UserError(
            f"{source}: cannot be read as weights ({type(error).__name__}): cut short, damaged or "
            "of another kind (TorchScript, say, or another pickle). Download or copy it again, or "
            "take a file of weights."
        ) from error


def _is_inert(name: str) -> bool:
    return name.partition(".")[0] in _INERT_PACKAGES or name in _INERT_NAMES


def _refusal(source: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"{source}: not opened, because it holds more than tensors and plain values, which could "
        f"run code: {', '.join(names[:3])}{more}.\n"
        "  If you trust the file, save its weights only, where the program that wrote it is "
        "installed:\n"
        "  torch.save(network.state_dict(), FILE)"
    )


def _names(path: Path) -> list[str]:
    """Functions and classes that a file names, beyond those that PyTorch allows (as far as known).

    The pickle is taken apart, not run.
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
    """The mapping that holds tensors: under the likeliest of the known keys, else the top."""
    if not isinstance(content, Mapping) or not depth:
        return None
    for key in _WRAPPERS:
        if (found := _state_dict(content.get(key), depth - 1)) is not None:
            return found
    kinds = (Tensor, _Inert)  # a state dict of arrays is answered for what it is
    return content if any(isinstance(value, kinds) for value in content.values()) else None
