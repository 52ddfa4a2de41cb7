"""One prediction of a split from beginning to end: what is left to do, and how it ended."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import SegmentationDataModule, usable_processors
from pne_seg.data.images import Pixels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.sources import DataFile
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned, write_bytes_atomically
from pne_seg.prediction.input_data import InputDataset
from pne_seg.prediction.inputs import check_names, count
from pne_seg.prediction.manifest import Manifest, Origin, UnwritableError, digest
from pne_seg.prediction.outputs import Classes, Layout, Pictures, Target
from pne_seg.prediction.remaining import Remaining
from pne_seg.prediction.submission import Submission
from pne_seg.prediction.video import FrameReader, count_frames, write_video

_FIRST_BYTES = 2**16  # of a video, which a disk must have room for


class PredictionRun:
    """The predictions of a data module's test split: which are there, which are left.

    Args:
        data: set up for prediction.
        layout: what is written.
        settings: digest of the weights and settings that predictions depend on.
        overwrite: whether to replace what was predicted from other sources, weights or settings.

    Attributes:
        targets: every prediction, by its index in the split.
        left: indices of those still to be made.
        written: how many were made, in all processes.
        unreadable: index → reason, of all processes.
        unwritten: index or name of a video → reason why it cannot be written, of all processes.

    Raises:
        UserError: two sources would be written under one name, or a file is in the way.
    """

    def __init__(
        self,
        data: SegmentationDataModule,
        layout: Layout,
        settings: str,
        overwrite: bool = False,
    ) -> None:
        self.data = data
        self.layout = layout
        self.source = data.split("test")
        self.manifest = Manifest(layout.folder, layout.manifest, overwrite)
        self.targets, self.videos = self._find_targets(settings)
        layout.check_targets(self.targets)
        paths = [layout.paths(target) for target in self.targets]
        check_names((first for first, *_ in paths), [target.source for target in self.targets])
        wanted = {
            path: target.origin
            for target, files in zip(self.targets, paths, strict=True)
            for path in files
        }
        wanted |= {path: target.origin for path, target in self.videos.items()}
        missing = self.manifest.plan(wanted)
        self.left = [index for index, files in enumerate(paths) if not missing.isdisjoint(files)]
        self.written = 0
        self.unreadable: dict[int, str] = {}
        self.unwritten: dict[int | str, str] = {}

    def remaining(self) -> Remaining:
        """Return what is left, as batches."""
        return Remaining(self.data, self.left, self.layout.needs_images)

    def write(self, index: int, classes: Classes, image: Pixels | None) -> None:
        """Write those of a prediction's files that are not there.

        Raises:
            UnwritableError: the name or the size of one is not possible; the others are written.
            UserError: no file can be written.
        """
        failed: UnwritableError | None = None
        for path in self.layout.paths(self.targets[index]):
            try:
                content = self.layout.encode(path, classes, image)
                self.manifest.put(path, partial(write_bytes_atomically, path, content))
            except UnwritableError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def count_there(self) -> int:
        """Count the predictions that are on the disk now."""
        self.manifest.refresh()
        return sum(
            all(self.manifest.state(path) == "current" for path in self.layout.paths(target))
            for target in self.targets
        )

    def _find_targets(self, settings: str) -> tuple[list[Target], dict[Path, Target]]:
        """Return every prediction, and the videos to be drawn by their files."""
        source = self.source
        files: list[DataFile] = []  # none if images are made, not read
        frames: dict[DataFile, int] = {}
        if isinstance(source, InputDataset):
            files, frames = [given.file for given in source.inputs.sources], source.frames
        elif isinstance(source, PairedDataset):
            files = [pair.image for pair in source.pairs]
        with ThreadPoolExecutor(usable_processors()) as threads:  # hashing releases the GIL
            contents = dict(zip(files, threads.map(_digest_of_file, files), strict=True))

        def target_of(name: str, file: DataFile | None, index: int = 0) -> Target:
            if file is None:
                return Target(name, name, Origin(name, digest(index, settings)))
            origin = Origin(file.relative, digest(contents[file], settings), frames.get(file, 0))
            return Target(name, str(file), origin, is_frame=file in frames)

        if not isinstance(source, InputDataset):
            given = enumerate(files or [None] * len(source))
            return [target_of(source.name(index), file, index) for index, file in given], {}
        for video in source.videos:
            # A video whose frames are entered need not be decoded to be counted.
            first = replace(target_of(video.frame_at(0).name, video.file), is_frame=True)
            found = self.manifest.entries.get(self.manifest.key(self.layout.paths(first)[0]))
            if found is not None and found == replace(first.origin, frames=found.frames):
                frames[video.file] = found.frames
        if uncounted := len(source.videos) - len(frames):
            rank_zero_info(f"Counting the frames of {count(uncounted, 'video')} …")
        targets = [target_of(item.name, item.file) for item in source.items]
        videos = {
            path: target_of(video.name, video.file)
            for video in source.videos
            if (path := self.layout.video(video.name)) and frames[video.file]
        }
        return targets, videos

    # ---- the end, in one process -------------------------------------------------------------

    def finish(self) -> Iterator[str]:
        """Draw videos, check submissions and remove temporary files, after all processes.

        Yields:
            Lines that say how it ended.

        Raises:
            UserError: no file can be written, or one is not as a submission needs it.
        """
        self.manifest.refresh()
        complete = not self._not_reached  # else it is not known which of those left were written
        if complete:
            self._find_removed()
        yield self._summary()
        if self.manifest.overwrite:
            self._remove_frames_of_longer_videos()
        for path, target in self.videos.items():
            try:
                if line := self._draw_video(path, target):
                    yield line
            except UnwritableError as error:
                self.unwritten[target.name] = str(error)
        if complete and isinstance(self.layout, Submission):
            yield self.layout.check_files(
                {
                    self.layout.paths(target)[0]: self.source.source_size(index)
                    for index, target in enumerate(self.targets)
                    if index not in self.unreadable and index not in self.unwritten
                }
            )
        remove_abandoned([*self.manifest.wanted, self.manifest.file])

    def _find_removed(self) -> None:
        """Find what was written and is gone: someone removed the folder meanwhile."""
        for index in self.left:
            if index in self.unreadable or index in self.unwritten:
                continue
            gone = [path for path in self.layout.paths(self.targets[index]) if not path.exists()]
            if gone:
                self.written -= 1
                self.unwritten[index] = f"{gone[0]} is gone; the same command writes it again."

    @property
    def _not_reached(self) -> int:
        """Number of predictions that the trainer's limits left out."""
        return len(self.left) - self.written - len(self.unreadable) - len(self.unwritten)

    def _summary(self) -> str:
        images = sum(not target.is_frame for target in self.targets)
        frames = sum(target.origin.frames > 0 for target in self.targets)
        kinds = {
            "image": images,
            "video frame": frames,
            "unreadable video": len(self.targets) - images - frames,
        }
        counts = [count(number, kind) for kind, number in kinds.items() if number]
        together = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
        parts = [
            f"{self.written} written",
            f"{len(self.targets) - len(self.left)} there already",
        ]
        for number, what in (
            (len(self.unreadable), "unreadable"),
            (len(self.unwritten), "not written"),
            (self._not_reached, "not reached"),
        ):
            parts += [f"{number} {what}"] if number else []
        return f"{together}: {', '.join(parts)}."

    def _remove_frames_of_longer_videos(self) -> None:
        """Remove what predict wrote of longer videos of the same names.

        An image's prediction may be called as a frame, and stays.
        """
        layout, manifest = self.layout, self.manifest
        frames = [target for target in self.targets if target.origin.frames]
        folders = {path.parent for target in frames for path in layout.paths(target)}
        entered = {layout.folder / key: origin for key, origin in manifest.entries.items()}
        older = [
            path
            for path, origin in entered.items()
            if origin.frames and path.parent in folders and path not in manifest.wanted
        ]
        if older:
            manifest.remove(older)

    def _draw_video(self, path: Path, target: Target) -> str | None:
        """Draw a video's overlay from its frames and their classes, if it is not there."""
        layout, manifest, frames = self.layout, self.manifest, target.origin.frames
        assert isinstance(layout, Pictures)
        if manifest.state(path) == "current":
            return None
        classes = [layout.path("classes", f"{target.name}/{frame:06d}") for frame in range(frames)]
        if missing := sum(not file.exists() for file in classes):
            return f"{path} is left out: {count(missing, 'frame')} of {frames} are missing."
        rank_zero_info(f"Encoding {path} …")
        # OpenCV tells the format by the name's end.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp.mp4")
        try:
            with manifest.naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                # The encoder does not say why it cannot open a file, nor that a disk is full.
                temporary.write_bytes(bytes(_FIRST_BYTES))
            with closing(FrameReader(Path(target.source))) as reader:
                drawn = (
                    layout.draw(reader.read(number), _read_classes(file))
                    for number, file in enumerate(classes)
                )
                write_video(temporary, drawn, reader.rate)
            if count_frames(temporary) != frames:
                raise UserError(f"{path} cannot be written whole. Is there room on the disk?")
            with manifest.naming(path), temporary.open("rb+") as file:
                os.fsync(file.fileno())
            manifest.put(path, lambda: temporary.replace(path))
        finally:
            with contextlib.suppress(OSError):  # of the name: it was never there
                temporary.unlink(missing_ok=True)
        return f"{path}: {count(frames, 'frame')}, without the sound."


def _digest_of_file(file: DataFile) -> str:
    try:
        return file.digest()
    except UserError:
        return "unreadable"  # reading it says why


def _read_classes(file: Path) -> Classes:
    classes = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if classes is None:
        raise UserError(f"{file} is damaged. Remove it; the same command makes it again.")
    return classes
