"""What `predict` is given: one image or video, a folder of them, or a glob."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pne_seg.data.sources import IMAGE_SUFFIXES, DataFile, open_file, open_tree
from pne_seg.errors import UserError
from pne_seg.files import check_regular
from pne_seg.prediction.stamps import STAMPED_SUFFIXES, read_stamp

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
"""What video files may be called, in lower case."""

_READ = f"Images are {', '.join(IMAGE_SUFFIXES)}, videos {', '.join(VIDEO_SUFFIXES)}"


@dataclass(frozen=True, slots=True)
class Source:
    """One image or video file.

    Attributes:
        file: the file.
        name: its path below what was given, `/` between folders, without the extension.
        is_video: whether it is a video.
    """

    file: DataFile
    name: str
    is_video: bool


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found.

    Attributes:
        sources: sorted by name; no two of one kind share one.
        remarks: what was left out, and names that were changed; a line each.
    """

    sources: list[Source]
    remarks: list[str] = field(default_factory=list)


def find_inputs(given: str) -> Inputs:
    """Look up what is to be predicted.

    Folders are searched to their depths, hidden files passed over. What an earlier prediction wrote
    is left out, so that its folder may lie within the given one.

    Args:
        given: a file, a folder, or a glob, whose `**` stands for any folders.

    Raises:
        UserError: there is no such file, or nothing that is read.
    """
    files, others, own = [], Counter[str](), 0
    for file in _files(given):
        suffix = Path(file.name).suffix.lower()
        if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            others[suffix or "without extension"] += 1
        elif suffix in STAMPED_SUFFIXES and _is_own(file):
            own += 1
        else:
            files.append(file)
    remarks = []
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(6))
        remarks.append(f"Left out: {_count(others.total(), 'other file')} ({kinds}).")
    if own:
        remarks.append(f"Left out: {_count(own, 'file')} that predict wrote.")
    if not files:
        raise UserError(
            f"--input {given}: no image or video there. {_READ}."
            + "".join(f"\n  {remark}" for remark in remarks)
        )
    sources = [_source(file) for file in sorted(files, key=lambda file: file.relative)]
    return Inputs(*_told_apart(sources, remarks))


def _files(given: str) -> Iterator[DataFile]:
    path = Path(given).expanduser()
    try:
        if path.is_dir():
            yield from open_tree(path).files("", ("",))
        elif path.exists():
            check_regular(path, f"--input {given}")
            yield open_file(path)
        elif glob.has_magic(given):
            yield from _matches(path)
        else:
            near = path.parent if path.parent.is_dir() else None
            entries = (entry.name for entry in near.iterdir()) if near else ()
            known = sorted(name for name in entries if not name.startswith("."))[:6]
            raise UserError(
                f"--input {given}: there is no such file or folder."
                + (f" {near} holds {', '.join(known)}." if known else "")
            )
    except OSError as error:
        raise UserError(f"--input {given}: cannot be read ({error.strerror}).") from error


def _matches(pattern: Path) -> Iterator[DataFile]:
    """Files that match, and those in folders that do; named from the first wildcard's folder on.

    A folder that is really called `[1]` is no wildcard.
    """
    parts = pattern.parts
    first = next(
        place
        for place, part in enumerate(parts)
        if glob.has_magic(part) and not Path(*parts[: place + 1]).exists()
    )
    root, wanted = Path(*parts[:first]), str(Path(*parts[first:]))
    if not root.is_dir():
        raise UserError(f"--input {pattern}: there is no folder {root}.")
    tree, seen = open_tree(root), set[str]()
    for match in glob.iglob(wanted, root_dir=root, recursive=True):  # noqa: PTH207 (its `**`)
        if (root / match).is_dir():
            # `**` gives what is in them by itself.
            found = [] if "**" in wanted else tree.files(match, ("",))
        else:
            file = tree.file(match)
            found = [file] if file is not None else []
        for file in found:
            if file.relative not in seen:
                seen.add(file.relative)
                yield file


def _source(file: DataFile) -> Source:
    folder = file.relative.removesuffix(file.name)
    return Source(file, folder + file.stem, Path(file.name).suffix.lower() in VIDEO_SUFFIXES)


def _is_own(file: DataFile) -> bool:
    try:
        return read_stamp(Path(str(file))) is not None
    except OSError:
        return False  # reading it will say more


def _told_apart(sources: list[Source], remarks: list[str]) -> tuple[list[Source], list[str]]:
    """Files that differ in their extension alone keep it in their names."""
    shared = {key for key, count in Counter(map(_key, sources)).items() if count > 1}
    if not shared:
        return sources, remarks
    named = [
        replace(source, name=source.file.relative) if _key(source) in shared else source
        for source in sources
    ]
    check_names((_key(source) for source in named), [str(source.file) for source in named])
    both = [source for source in sources if _key(source) in shared][:2]
    remark = (
        f"{' and '.join(source.file.relative for source in both)} differ in their extension alone: "
        f"{_count(len([s for s in sources if _key(s) in shared]), 'file')} of that kind keep it, "
        f"as in {both[0].file.relative}.png."
    )
    return named, [*remarks, remark]


def _key(source: Source) -> tuple[str, bool]:
    return source.name, source.is_video


def check_names(names: Iterable[object], sources: list[str]) -> None:
    """Refuse two sources that would be written under one name.

    Raises:
        UserError: there are such; both are named.
    """
    first: dict[object, int] = {}
    for place, (name, source) in enumerate(zip(names, sources, strict=True)):
        other = first.setdefault(name, place)
        if other != place:
            raise UserError(
                f"{sources[other]} and {source} would be written under one name. Rename one of "
                "them, or give them to separate commands."
            )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
