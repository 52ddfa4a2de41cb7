"""What `predict` is given: one image or video, a folder of them, or a glob."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pne_seg.data.data_file import DataFile, open_file
from pne_seg.data.sources import IMAGE_SUFFIXES, open_tree
from pne_seg.errors import UserError
from pne_seg.files import check_regular
from pne_seg.prediction.manifest import MANIFEST, read_entries

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True, slots=True)
class Source:
    """An image, a video, or one frame of a video."""

    file: DataFile
    name: str  # path below the input without the extension; of a frame, `VIDEO/000000`
    is_video: bool
    frame: int | None = None

    def frame_at(self, number: int) -> "Source":
        """Return a frame of this video."""
        return replace(self, name=f"{self.name}/{number:06d}", frame=number)


class Inputs(NamedTuple):
    """The files that were found, sorted by name, and lines on what was left out or renamed."""

    sources: list[Source]
    remarks: list[str]


def find_inputs(given: str) -> Inputs:
    """Find the files to predict, except hidden ones and those that an earlier prediction wrote.

    A folder is searched with those below it; `**` in a glob stands for any folders.
    """
    found = sorted(_files(given), key=lambda file: file.relative)
    predicted = _predicted([Path(str(file)) for file in found])
    sources, others = [], Counter[str]()
    for file in found:
        suffix = Path(file.name).suffix.lower()
        if Path(str(file)) in predicted:
            continue
        if suffix in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            name = file.relative.removesuffix(file.name) + file.stem
            sources.append(Source(file, name, suffix in VIDEO_SUFFIXES))
        else:
            others[suffix or "without extension"] += 1
    remarks = []
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(6))
        remarks.append(f"Left out: {count(others.total(), 'other file')} ({kinds}).")
    if predicted:
        remarks.append(f"Left out: {count(len(predicted), 'file')} that predict wrote.")
    if not sources:
        raise UserError(
            f"input {given}: no image or video there. Images are {', '.join(IMAGE_SUFFIXES)}, "
            f"videos {', '.join(VIDEO_SUFFIXES)}." + "".join(f"\n  {line}" for line in remarks)
        )
    counts = Counter((source.name, source.is_video) for source in sources)
    shared = [source for source in sources if counts[source.name, source.is_video] > 1]
    if shared:
        longer = {source: replace(source, name=source.file.relative) for source in shared}
        sources = [longer.get(source, source) for source in sources]
        names = [(source.name, source.is_video) for source in sources]
        check_names(names, [str(source.file) for source in sources])
        first, second = (source.file.relative for source in shared[:2])
        remarks.append(
            f"{first} and {second} differ in their extension only: {count(len(shared), 'file')} of "
            f"that kind keep it, as in {first}.png."
        )
    return Inputs(sources, remarks)


def _files(given: str) -> Iterator[DataFile]:
    path = Path(given).expanduser()
    try:
        if path.is_dir():
            yield from open_tree(path).files("", ("",))
        elif path.exists():
            check_regular(path, f"input {given}")
            yield open_file(path)
        elif glob.has_magic(given):
            yield from _matches(path)
        else:
            entries = path.parent.iterdir() if path.parent.is_dir() else ()
            near = sorted(entry.name for entry in entries if not entry.name.startswith("."))
            raise UserError(
                f"input {given}: there is no such file or folder."
                + (f" {path.parent} holds {', '.join(near[:6])}." if near else "")
            )
    except OSError as error:
        raise UserError(f"input {given}: cannot be read ({error.strerror}).") from error


def _matches(pattern: Path) -> Iterator[DataFile]:
    """Find the files that match a glob, and those in folders that do.

    Names begin at the first wildcard's folder. A folder that is really called `[1]` is no wildcard.
    """
    parts = pattern.parts
    first = next(
        index
        for index, part in enumerate(parts)
        if glob.has_magic(part) and not Path(*parts[: index + 1]).exists()
    )
    root, wanted = Path(*parts[:first]), str(Path(*parts[first:]))
    if not root.is_dir():
        raise UserError(f"input {pattern}: there is no folder {root}.")
    tree = open_tree(root)
    found: dict[str, DataFile | None] = {}
    for match in glob.iglob(wanted, root_dir=root, recursive=True):  # noqa: PTH207 (its `**`)
        if not (root / match).is_dir():
            found[match] = tree.file(match)
        elif "**" not in wanted:  # which matches what is in folders too
            found |= {file.relative: file for file in tree.files(match, ("",))}
    yield from filter(None, found.values())


def _predicted(paths: Iterable[Path]) -> set[Path]:
    """Find the files that a manifest in or beside a folder above them names."""

    @cache
    def written_below(folder: Path) -> set[Path]:
        written: set[Path] = set()
        for file in (folder / MANIFEST, folder.parent / f"{folder.name}.{MANIFEST}"):
            with suppress(UserError):  # a file of that name that predict did not write
                if entries := read_entries(file):
                    written |= {file, *(folder / key for key in entries)}
        return written

    return {
        path
        for path in paths
        if any(path.absolute() in written_below(folder) for folder in path.absolute().parents)
    }


def check_names(names: Iterable[object], sources: Sequence[str]) -> None:
    """Refuse two sources that would be written under one name."""
    first: dict[object, str] = {}
    for name, source in zip(names, sources, strict=True):
        if name in first:
            raise UserError(
                f"{first[name]} and {source} would be written under one name. Rename one of them, "
                "or give them to separate commands."
            )
        first[name] = source


def count(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
