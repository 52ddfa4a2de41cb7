"""Zip archives from elsewhere: checked before anything is read, unpacked whole or not at all."""

import os
import re
import shutil
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, NoReturn

from filelock import FileLock, Timeout
from rich.console import Console
from rich.filesize import decimal
from tqdm import tqdm

from pne_seg.errors import UserError
from pne_seg.files import check_regular

MAX_BYTES = 100 * 10**9
"""Unpacked size of an archive; the largest of the benchmarks' holds 20 GB."""
MAX_FILE_BYTES = 2 * 10**9
"""The largest file that is read into memory: an image of 8 bytes each for 178 million pixels."""

_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: member, strong encryption, masked headers
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made where files have no kind
_DAMAGE = (struct.error, zlib.error, OverflowError)
_FIX = "Fetch the archive again from its home."
# What precedes a member's bytes: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
# (4.3.7). A signature, what is known already, and the lengths of a name and of extra data.
_HEADER = struct.Struct("<4s22xHH")


def open_archive(path: Path, max_bytes: int = MAX_BYTES) -> zipfile.ZipFile:
    """Open a zip archive and check its members."""
    try:
        check_regular(path)
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    # Damage in the directory of members shows as any of these.
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole zip archive ({error}), its download may have been cut short. "
            f"{_FIX}"
        ) from error
    try:
        check_members(archive, max_bytes)
    except BaseException:
        archive.close()
        raise
    return archive


def check_members(
    archive: zipfile.ZipFile,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = 1000,  # deflate reaches 1032 on a file of zeros, images never
    ratio_counts_from: int = 100 * 10**6,
) -> None:
    """Refuse an archive that could write elsewhere, fill the disk or memory, or not be read."""
    total = packed = 0
    seen: set[str] = set()
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        ratio = member.file_size / max(1, member.compress_size)
        reason, fix = "", _FIX
        if _leads_outside(member.orig_filename):
            reason = "has a name that could lead outside of the folder it is unpacked into"
        elif kind not in _KINDS:
            reason = "is a link or a device"
        elif member.flag_bits & _ENCRYPTED:
            reason = "is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            reason = f"is compressed by method {member.compress_type}, which is not supported"
            fix = "Unpack the archive by hand and give the folder."
        elif member.file_size > ratio_counts_from and ratio > max_ratio:
            reason = f"is packed {ratio:.0f} times smaller, as no image is"
        elif member.filename in seen:
            reason = "is there twice"
        if reason:
            raise UserError(f"{archive.filename}: member {member.filename!r} {reason}. {fix}")
        seen.add(member.filename)
        total += member.file_size
        packed += member.compress_size
    if total > max_bytes:
        raise UserError(
            f"{archive.filename}: would unpack to {decimal(total)}, more than the "
            f"{decimal(max_bytes)} that are allowed. {_FIX}"
        )
    if packed > Path(archive.filename or os.devnull).stat().st_size:
        raise UserError(f"{archive.filename}: its members overlap or are cut short. {_FIX}")


def _leads_outside(name: str) -> bool:
    """Return whether a member's name is anything but a plain path on every system."""
    parts = name.removesuffix("/").split("/")
    # Windows drops dots and spaces at the end of a name.
    odd = any(not part.strip(" .") or re.match("[A-Za-z]:", part) for part in parts)
    return odd or "\\" in name or "\0" in name


def check_size(size: int, name: object) -> None:
    """Refuse to read a file into memory that is larger than any image or label map."""
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{name}: has {decimal(size)}, files of images and labels {decimal(MAX_FILE_BYTES)} at "
            "most. Cut a real image of that size into tiles."
        )


class Place(NamedTuple):
    """Where a member lies in its archive, in bytes, and what must come out."""

    offset: int
    packed: int
    size: int
    checksum: int
    deflated: bool

    @classmethod
    def of(cls, member: zipfile.ZipInfo) -> "Place":
        """Read it from the archive's directory."""
        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        sizes = member.compress_size, member.file_size
        return cls(member.header_offset, *sizes, member.CRC, deflated)


def read_member(archive: str, place: Place, name: object) -> bytes:
    """Read one member of a checked archive; nothing stays open that processes could share."""
    check_size(max(place.size, place.packed), name)
    try:
        with Path(archive).open("rb") as file:
            file.seek(place.offset)
            signature, name_length, extra_length = _HEADER.unpack(file.read(_HEADER.size))
            file.seek(name_length + extra_length, os.SEEK_CUR)
            data = file.read(place.packed)
        if place.deflated:
            # The size is a limit: more may come out than the archive says.
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, place.size + 1)
    except _DAMAGE as error:
        raise UserError(f"{name} is damaged ({error}). {_FIX}") from error
    if signature != b"PK\3\4" or len(data) != place.size or zlib.crc32(data) != place.checksum:
        raise UserError(f"{name} is damaged (other bytes than the archive promises). {_FIX}")
    return data


def extract(
    archive: Path, target: Path, only: str | None = None, max_bytes: int = MAX_BYTES
) -> None:
    """Unpack an archive into a new folder, which appears when it is whole.

    A process that finds another one at the same target waits for it, and then has nothing to do.
    `only` names a folder in the archive whose content becomes that of `target`; None takes all.
    """
    target = target.resolve()  # data folders are often links to other disks
    try:
        if _occupied(target):
            raise UserError(
                f"{target}: holds something already, so {archive} is not unpacked into it. Move it "
                "away, or choose another folder."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.unpacking.lock")
        with open_archive(archive, max_bytes) as opened, exclusive(lock, f"unpacks to {target}"):
            if not _occupied(target):
                _extract(opened, f"{only.strip('/')}/" if only else "", target)
    except OSError as error:
        raise UserError(f"{target}: cannot unpack {archive} into it ({error}).") from error


def _occupied(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None)


def _extract(archive: zipfile.ZipFile, top: str, target: Path) -> None:
    files = [member for member in archive.infolist() if not member.is_dir()]
    members = [member for member in files if member.filename.startswith(top)]
    if not members:
        tops = sorted({name.split("/")[0] for name in archive.namelist()})[:8]
        raise UserError(f"{archive.filename}: no files in {top!r}; it holds {', '.join(tops)}.")
    total = sum(member.file_size for member in members)
    staging = target.with_name(f".{target.name}.unpacking")
    if staging.exists():  # left by a killed process: one that is alive has the lock
        shutil.rmtree(staging)
    require_space(target.parent, total, f"unpack {archive.filename}")
    try:
        with bytes_bar(f"unpacking {Path(archive.filename or '').name}", total) as bar:
            for member in members:
                _extract_member(archive, member, staging)
                bar.update(member.file_size)
        if target.exists():
            target.rmdir()  # empty; not every system renames onto a folder
        (staging / top).rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    try:
        written = Path(archive.extract(member, folder)).stat().st_size
        if written != member.file_size:  # what the archive says of it may be wrong
            raise zipfile.BadZipFile(f"{written} bytes in place of {member.file_size}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, *_DAMAGE) as error:
        raise UserError(
            f"{archive.filename}: member {member.filename!r} is damaged ({error}). {_FIX}"
        ) from error


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Check that the disk of a folder has room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: cannot {purpose}: {decimal(size)} are needed and {decimal(free)} "
            "are free. Make room, or choose a folder on another disk."
        )


def bytes_bar(doing: str, total: int | None, done: int = 0) -> "tqdm[NoReturn]":
    """Make a progress bar over bytes, of which some are there already."""
    seconds = 0.1 if sys.stderr.isatty() else 60  # few lines in the log of a batch job
    return tqdm(None, doing, total, initial=done, unit="B", unit_scale=True, mininterval=seconds)


@contextmanager
def exclusive(lock: Path, doing: str) -> Iterator[None]:
    """Let one process at a time through; the lock of one that was killed is free."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        Console(stderr=True).print(f"Another process {doing}: waiting for it.", markup=False)
        held.acquire()
    try:
        yield
    finally:
        held.release()
