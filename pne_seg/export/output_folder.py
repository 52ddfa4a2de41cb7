"""The folder that an export is written to: what is refused, and how files take their places."""

import os
from pathlib import Path

from pne_seg.errors import UserError
from pne_seg.export.model_card import is_edited
from pne_seg.exported import CARD, DESCRIPTION, FILES, NEW_CARD, UNFINISHED, is_export
from pne_seg.files import write_bytes_atomically

STAGING = ".unfinished_export."
"""Prefix of the temporary folder beside it."""


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be replaced, before anything is traced.

    Raises:
        UserError: it holds other files, or a new card that was edited.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output {folder} is a file. Give a folder.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = {name for name in names if not name.startswith(STAGING)}
    others = sorted(names - {*FILES} if is_export(folder) else names)
    if others:
        raise UserError(
            f"--output {folder} holds files of other kinds ({others[0]}). Give a new folder, or "
            f"one of an earlier export (with {DESCRIPTION}), which is replaced."
        )
    if is_edited(folder / NEW_CARD):
        raise UserError(
            f"{folder / NEW_CARD} was edited and would be replaced. Make it the card: rename it to "
            f"{CARD}; or move it away."
        )


def publish(folder: Path, output: Path) -> None:
    """Move the files to their places, the description last: with it the export is whole.

    Args:
        folder: the finished files, on the disk of `output`.
        output: where they belong; files of an earlier export are replaced or removed.
    """
    written = sorted(folder.iterdir(), key=lambda file: file.name == DESCRIPTION)
    for file in written:  # a disk that is full says so here, before anything is replaced
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    output.mkdir(exist_ok=True)
    # Until the description is there, a mixture with an earlier export's files is not loaded.
    unfinished = f'{{"{UNFINISHED}": true}}\n'
    write_bytes_atomically(output / DESCRIPTION, unfinished.encode())
    names = {file.name for file in written}
    kept = {CARD} if NEW_CARD in names else set()
    for name in {*FILES} - names - kept - {DESCRIPTION}:
        (output / name).unlink(missing_ok=True)  # of another network: it must not stay beside this
    for file in written:
        file.replace(output / file.name)
