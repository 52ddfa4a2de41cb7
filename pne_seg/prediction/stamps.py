"""What a written file was made of, kept in the file itself: so a run that was stopped can go on.

A stamp goes where the format has room for remarks: a `tEXt` chunk of a PNG, a comment of a JPEG, a
`free` box at the end of an MP4. No list of what is done has to be kept beside the files, and none
can disagree with them.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pne_seg.data.sources import open_file
from pne_seg.errors import UserError
from pne_seg.files import check_regular
from pne_seg.prediction import png

_KEY = "pne_seg"
_TEXT = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{32}) (\d+)")
_LONGEST = 256  # bytes at a file's beginning or end in which a stamp lies
_COMMENT = b"\xff\xfe"  # a JPEG's marker; a segment's length counts its own two bytes

STAMPED_SUFFIXES = (".png", ".jpg", ".mp4")
"""The files that can carry a stamp."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Two digests: of what was predicted, and of what predicted it.

    Attributes:
        source: digest of the source's name and content.
        maker: digest of weights and settings.
        frames: number of frames of the video that this is a part of; 0 for an image.
    """

    source: str
    maker: str
    frames: int = 0

    def __str__(self) -> str:
        return f"{self.source} {self.maker} {self.frames}"


def digest(parts: Iterable[object]) -> str:
    """32 hexadecimal digits that change when a part does."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def digest_of_file(path: Path) -> str:
    """32 hexadecimal digits that change when the file's content does."""
    return open_file(path).digest()


def stamped(content: bytes, stamp: Stamp) -> bytes:
    """A PNG or JPEG file with the stamp in it."""
    if png.is_png(content):
        return png.with_text(content, _KEY, str(stamp))
    remark = f"{_KEY} {stamp}".encode()
    after = 4 + int.from_bytes(content[4:6], "big")  # JFIF's segment comes first
    length = (len(remark) + 2).to_bytes(2, "big")
    return content[:after] + _COMMENT + length + remark + content[after:]


def stamp_video(path: Path, stamp: Stamp) -> None:
    """Put the stamp into an MP4 file, and see to it that the file is on the disk."""
    remark = f"{_KEY} {stamp}".encode()
    with path.open("ab") as file:
        file.write((8 + len(remark)).to_bytes(4, "big") + b"free" + remark)
        file.flush()
        os.fsync(file.fileno())


def read_stamp(path: Path) -> Stamp | None:
    """A file's stamp; None where it has none, or is not a regular file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        check_regular(path)
    except UserError:
        return None
    with path.open("rb") as file:
        if path.suffix.lower() == ".mp4":
            file.seek(max(0, file.seek(0, 2) - _LONGEST))
        data = file.read(_LONGEST)
    if png.is_png(data):
        text = png.read_text(data, _KEY) or ""
    else:
        text = data.rpartition(_KEY.encode() + b" ")[2].decode("latin-1")
    found = _TEXT.match(text)
    return Stamp(found[1], found[2], int(found[3])) if found else None
