"""Zip archives from elsewhere: checked before anything is read, unpacked whole or not at all."""

import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from rich.filesize import decimal

from pne_seg.data.transfer import alone, bytes_bar, require_space
from pne_seg.errors import UserError
from pne_seg.files import check_regular

MAX_BYTES = 100 * 10**9
"""What an archive may hold, unpacked; the largest of the benchmarks' holds 20 GB."""

MAX_FILE_BYTES = 2 * 10**9
"""The largest file that is read into memory: an image of 8 bytes each for 178 million pixels."""

_MAX_RATIO = 1000  # deflate reaches 1032 on a file of zeros, images never
_RATIO_COUNTS_FROM = 100 * 10**6
_CHUNK = 1 << 20
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: member, strong encryption, masked headers
_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: made where files have no kind
DAMAGE = (struct.error, zlib.error, OverflowError)
FIX = "Fetch the archive again from its home."


def open_archive(path: Path, max_bytes: int = MAX_BYTES) -> zipfile.ZipFile:
    """Open a zip archive and check its members, see `check_members`.

    Raises:
        UserError: the file cannot be read, is no zip archive or is cut short, or a member is
            refused.
    """
    try:
        check_regular(path)
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    # Damage in the directory of members shows as any of these.
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole zip archive ({error}), its download may have been cut short. "
            f"{FIX}"
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
    max_ratio: float = _MAX_RATIO,
    ratio_counts_from: int = _RATIO_COUNTS_FROM,
) -> None:
    """Refuse an archive that could write elsewhere, fill the disk or memory, or not be read.

    Args:
        archive: open for reading.
        max_bytes: of all members together, unpacked.
        max_ratio: of a member's size to what it takes in the archive.
        ratio_counts_from: size in bytes of the members that `max_ratio` is about.

    Raises:
        UserError: a member leads outside, is a link or a device, is encrypted or compressed in a
            way other than deflate, is absurdly compressed, or appears twice; or the whole is too
            large or its members overlap. Archive and member are named.
    """
    total = packed = 0
    seen: set[str] = set()
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        ratio = member.file_size / max(1, member.compress_size)
        reason, fix = "", FIX
        if _leads_outside(member.orig_filename):
            reason = "has a name that could lead outside of the folder it is unpacked into"
        elif kind not in _KINDS:
            reason = "is a link or a device"
        elif member.flag_bits & _ENCRYPTED:
            reason = "is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            reason = f"is compressed by method {member.compress_type}, which is not read here"
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
            f"{decimal(max_bytes)} that are allowed. {FIX}"
        )
    if packed > Path(archive.filename or os.devnull).stat().st_size:
        raise UserError(f"{archive.filename}: its members overlap or are cut short. {FIX}")


def check_size(size: int, name: object) -> None:
    """Refuse to read a file into memory that no image or label map can be.

    Args:
        size: in bytes.
        name: of the file, for the message.

    Raises:
        UserError: it is larger than `MAX_FILE_BYTES`.
    """
    if size > MAX_FILE_BYTES:
        raise UserError(
            f"{name}: has {decimal(size)}, files of images and labels {decimal(MAX_FILE_BYTES)} at "
            "most. Cut a real image of that size into tiles."
        )


def extract(
    archive: Path, target: Path, only: str | None = None, max_bytes: int = MAX_BYTES
) -> None:
    """Unpack an archive into a new folder, which appears when it is whole.

    A process that finds another one at the same target waits for it, and then has nothing to do.

    Args:
        archive: the zip file.
        target: the folder to make; where it exists it must be empty.
        only: a folder in the archive: what it holds becomes what `target` holds. None takes all.
        max_bytes: the archive may hold that much, unpacked.

    Raises:
        UserError: the archive is refused (see `open_archive`) or damaged, `only` is not in it,
            `target` holds something, or the disk has no room.
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
        with open_archive(archive, max_bytes) as opened, alone(lock, f"unpacks to {target}"):
            if not _occupied(target):
                _extract(opened, f"{only.strip('/')}/" if only else "", target)
    except OSError as error:
        raise UserError(f"{target}: cannot unpack {archive} into it ({error}).") from error


def _extract(archive: zipfile.ZipFile, top: str, target: Path) -> None:
    files = [member for member in archive.infolist() if not member.is_dir()]
    members = [member for member in files if member.filename.startswith(top)]
    if not members:
        tops = sorted({name.split("/")[0] for name in archive.namelist()})[:8]
        raise UserError(f"{archive.filename}: no files in {top!r}; it holds {', '.join(tops)}.")
    total = sum(member.file_size for member in members)
    staging = target.with_name(f".{target.name}.unpacking")
    if staging.exists():  # left by a process that was killed: the lock tells that none is at it
        shutil.rmtree(staging)
    require_space(target.parent, total, f"unpack {archive.filename}")
    try:
        with bytes_bar(f"unpacking {Path(archive.filename or '').name}", total) as bar:
            for member in members:
                place = staging / member.filename.removeprefix(top)
                place.parent.mkdir(parents=True, exist_ok=True)
                for count in _extract_member(archive, member, place):
                    bar.update(count)
        if target.exists():
            target.rmdir()  # empty; not every system renames onto a folder
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path
) -> Iterator[int]:
    """Write one file, yielding the number of bytes of each piece."""
    written = 0
    try:
        with archive.open(member) as source, place.open("xb") as file:
            # Counted here: what the archive says of a member's size may be wrong.
            while written <= member.file_size and (data := source.read(_CHUNK)):
                written += file.write(data)
                yield len(data)
        if written != member.file_size:
            raise zipfile.BadZipFile(f"{written} bytes in place of {member.file_size}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, *DAMAGE) as error:
        raise UserError(
            f"{archive.filename}: member {member.filename!r} is damaged ({error}). {FIX}"
        ) from error


def _leads_outside(name: str) -> bool:
    """Whether a member's name is anything but a plain path on every system."""
    parts = name.removesuffix("/").split("/")
    # Windows drops dots and spaces at the end of a name.
    odd = any(not part.strip(" .") or re.match("[A-Za-z]:", part) for part in parts)
    return odd or "\\" in name or "\0" in name


def _occupied(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None)
