"""Regular files, told from what only looks like one: reading a pipe or a device never ends."""

import os
import stat
from pathlib import Path

from pne_seg.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: str | os.PathLike[str], name: object = None) -> os.stat_result:
    """Refuse anything but a regular file, before it is opened; links are followed.

    Args:
        path: what is to be opened.
        name: what messages call it; the path if None.

    Returns:
        What the system says of the file, such as its size.

    Raises:
        UserError: there is something else.
        OSError: there is nothing, or it cannot be looked at.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UserError(
            f"{path if name is None else name}: is {kind}, not a regular file. Replace or remove "
            "it."
        )
    return found
