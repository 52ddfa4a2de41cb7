"""Read checkpoint files, and check that they are as they were written."""

from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from pne_seg.errors import UserError
from pne_seg.files import check_regular


def previous_checkpoint(path: Path) -> Path:
    """Return where the checkpoint before a `last.ckpt` is kept: `last.previous.ckpt`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def check_checkpoint(path: Path) -> None:
    """Raise a UserError unless a checkpoint is a complete file of PyTorch's, as it was written."""
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    status = check_regular(path)
    try:
        damaged = _damaged_member(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path} is not a checkpoint, or only a part of one. Use another checkpoint of the run."
        ) from error
    if damaged is not None:
        raise UserError(
            f"{path} is damaged: the checksum of {damaged} does not match. Use another checkpoint "
            "of the run."
        )


@lru_cache(maxsize=8)  # a command asks several times, and each reads the whole file
def _damaged_member(path: Path, _size: int, _changed: int) -> str | None:
    """Return the first member of a zip archive whose checksum does not match."""
    with ZipFile(path) as archive:
        if any(member.compress_type != ZIP_STORED for member in archive.infolist()):
            raise BadZipFile("PyTorch compresses nothing; this could expand without end.")
        return archive.testzip()


def usable_checkpoint(path: Path) -> Path:
    """Return a checkpoint, or the one kept before it if it is missing or damaged."""
    try:
        check_checkpoint(path)
    except UserError as error:
        previous = previous_checkpoint(path)
        if not previous.is_file():
            raise
        check_checkpoint(previous)
        from lightning.pytorch.utilities import rank_zero_warn  # not needed to load a network

        rank_zero_warn(f"{error} The one saved before it is used: {previous}")
        return previous
    return path


def read_checkpoint(path: Path, map_tensors: bool = True) -> dict[str, Any]:
    """Read a checkpoint of a run, which may come from anywhere, without running code.

    With `map_tensors` they are mapped from the file instead of copied, for callers that use only
    some of them, or copy them.
    """
    import torch  # not needed to check a file

    check_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=map_tensors)
    except Exception as error:  # unpickling fails in many ways
        # torch's own message advises weights_only=False.
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
            "tensors and plain values, which is not opened because it could run code."
        ) from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and (torch.is_tensor(value) or name.endswith("_extra_state"))
        for name, value in state.items()
    ):
        raise UserError(f"{path} holds no state dict of a run. Give a checkpoint that fit wrote.")
    return dict(checkpoint)
