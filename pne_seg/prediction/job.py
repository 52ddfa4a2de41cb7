"""One prediction of a split from beginning to end: what is left to do, and how it ended."""

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import SegmentationDataModule, usable_processors
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.data.sources import DataFile
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned
from pne_seg.prediction.benchmarks import Submission
from pne_seg.prediction.dataset import InputDataset, Video
from pne_seg.prediction.inputs import Source, check_names
from pne_seg.prediction.loading import Remaining
from pne_seg.prediction.outputs import (
    Classes,
    Layout,
    Pictures,
    Target,
    UnwritableError,
    cannot_write,
    stamp_of,
    still_to_do,
)
from pne_seg.prediction.stamps import Stamp, digest, stamp_video
from pne_seg.prediction.video import count_frames, frame_rate, frames_of, write_video

_FIRST_BYTES = 2**16  # of a video, which a disk must have room for


class Job:
    """The predictions of a data module's test split: which are there, which are left.

    A source is done when all its files are there and carry its stamp. Files of these names that
    carry another, or none, are refused before anything is written.

    Args:
        data: set up for prediction.
        layout: what is written.
        maker: digest of weights and settings.
        data_settings: what the content of images that are no files depends on.
        overwrite: whether to replace what was predicted from other sources, weights or settings.

    Attributes:
        targets: every prediction, by its index in the split.
        left: indices of those to be made.
        written: how many were made, in all processes.
        unreadable: index → reason, of all processes.
        unwritten: the same of predictions that cannot be written; the overlays of videos have
            the numbers after those of `targets`.

    Raises:
        UserError: two sources would be written under one name, or a file is in the way.
    """

    def __init__(
        self,
        data: SegmentationDataModule,
        layout: Layout,
        maker: str,
        data_settings: str = "",
        overwrite: bool = False,
    ) -> None:
        self.data = data
        self.layout = layout
        self.maker = maker
        self.overwrite = layout.overwrite = overwrite
        self.source = data.split("test")
        self._digests = _digests(_files_of(self.source))
        self.videos: list[tuple[Video, Target]] = []
        if isinstance(self.source, InputDataset):
            self._look_up_frames(self.source)
            self.targets = self._of_inputs(self.source)
            if isinstance(layout, Pictures) and "overlay" in layout.kinds:
                self.videos = self._of_videos(self.source)
        else:
            self.targets = self._of_split(data_settings)
        if isinstance(layout, Submission):
            layout.check_targets(self.targets)
        wanted = [(layout.paths(target), target) for target in self.targets]
        check_names((paths[0] for paths, _ in wanted), [target.source for target in self.targets])
        wanted += [([self._video_path(target)], target) for _, target in self.videos]
        self.left = [place for place in still_to_do(wanted, overwrite) if place < len(self.targets)]
        self.written = 0
        self.unreadable: dict[int, str] = {}
        self.unwritten: dict[int, str] = {}

    def count_there(self) -> int:
        """How many of the predictions are on the disk now."""
        wanted = [(self.layout.paths(target), target) for target in self.targets]
        return len(wanted) - len(still_to_do(wanted, overwrite=True))

    def remaining(self) -> Remaining:
        """What is left, as batches."""
        return Remaining(self.data, self.left, self.layout.pictures)

    # ---- what the predictions are called, and made of ----------------------------------------

    def _look_up_frames(self, source: InputDataset) -> None:
        """Take the number of a video's frames from those that are there: it need not be decoded."""
        for video in source.videos:
            stamp = Stamp(digest([*self._identity(video.source), 0]), self.maker)
            first = Target(f"{video.source.name}/000000", str(video.path), stamp, is_frame=True)
            found = stamp_of(self.layout.paths(first)[0])
            if isinstance(found, Stamp) and found == replace(stamp, frames=found.frames):
                video.frames = found.frames
        uncounted = [video for video in source.videos if video.frames is None]
        if uncounted:
            rank_zero_info(f"Counting the frames of {_count(len(uncounted), 'video')} …")

    def _of_inputs(self, source: InputDataset) -> list[Target]:
        targets = []
        for item in source.items:
            identity: list[object] = self._identity(item.source)
            frames = 0
            if item.video is not None:
                identity.append(item.frame)
                frames = source.videos[item.video].frames or 0
            stamp = Stamp(digest(identity), self.maker, frames)
            file = str(item.source.file)
            targets.append(Target(item.name, file, stamp, is_frame=item.video is not None))
        return targets

    def _of_videos(self, source: InputDataset) -> list[tuple[Video, Target]]:
        videos = []
        for video in source.videos:
            stamp = Stamp(digest(self._identity(video.source)), self.maker, video.frames or 0)
            videos.append((video, Target(video.source.name, str(video.path), stamp)))
        return videos

    def _of_split(self, data_settings: str) -> list[Target]:
        targets, source = [], self.source
        for index in range(len(source)):
            name = source.name(index)
            identity: object = index
            if isinstance(source, PairedDataset):
                identity = self._digests[source.pairs[index].image]
            stamp = Stamp(digest([data_settings, name, identity]), self.maker)
            targets.append(Target(name, name, stamp))
        return targets

    def _identity(self, source: Source) -> list[object]:
        """What changes when a source does: its name and content."""
        return [source.file.relative, self._digests[source.file]]

    # ---- the end, in one process -------------------------------------------------------------

    def finish(self) -> Iterator[str]:
        """Encode videos, check submissions and tidy up, once all processes are done.

        Yields:
            Lines that say how it ended.

        Raises:
            UserError: a video cannot be written, or a file is not as it must be.
        """
        self._look_for_losses()
        yield self._summary()
        if self.overwrite and isinstance(self.source, InputDataset):
            self._remove_older_frames(self.source.videos)
        for place, (video, target) in enumerate(self.videos, start=len(self.targets)):
            try:
                if line := self._encode(video, target):
                    yield line
            except UnwritableError as error:
                self.unwritten[place] = str(error)
        if isinstance(self.layout, Submission) and not self._not_reached:
            sizes = {
                self.layout.paths(target)[0]: self.source.source_size(index)
                for index, target in enumerate(self.targets)
                if index not in self.unreadable and index not in self.unwritten
            }
            yield self.layout.check_files(sizes)
        paths = [path for target in self.targets for path in self.layout.paths(target)]
        remove_abandoned([*paths, *(self._video_path(target) for _, target in self.videos)])

    def _look_for_losses(self) -> None:
        """Find what was written and is gone: someone removed the folder meanwhile."""
        if self._not_reached:
            return  # which of those that are left were written is not known
        for index in self.left:
            if index in self.unreadable or index in self.unwritten:
                continue
            for path in self.layout.paths(self.targets[index]):
                if not path.exists():
                    self.written -= 1
                    self.unwritten[index] = f"{path} is gone; the same command writes it again."
                    break

    @property
    def _not_reached(self) -> int:
        """Predictions that the trainer was told to leave out."""
        return len(self.left) - self.written - len(self.unreadable) - len(self.unwritten)

    def _summary(self) -> str:
        images = sum(not target.is_frame for target in self.targets)
        frames = sum(bool(target.stamp.frames) for target in self.targets)
        kinds = {
            "image": images,
            "video frame": frames,
            "unreadable video": len(self.targets) - images - frames,
        }
        what = [_count(number, kind) for kind, number in kinds.items() if number]
        there = len(self.targets) - len(self.left)
        parts = [f"{self.written} written", f"{there} there already"]
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} unreadable")
        if self.unwritten:
            parts.append(f"{len(self.unwritten)} not written")
        if self._not_reached:
            parts.append(f"{self._not_reached} not reached")
        together = " and ".join(filter(None, [", ".join(what[:-1]), what[-1]]))
        return f"{together}: {', '.join(parts)}."

    def _video_path(self, target: Target) -> Path:
        assert isinstance(self.layout, Pictures)
        return self.layout.video(target.name)

    def _remove_older_frames(self, videos: Sequence[Video]) -> None:
        """Remove what predict wrote of longer videos of their names, which these replace.

        An image's prediction may be called as a frame, and stays.
        """
        own = {path for target in self.targets for path in self.layout.paths(target)}
        for video in videos:
            name = video.source.name
            for frame in itertools.count(video.frames) if video.frames else ():
                target = Target(f"{name}/{frame:06d}", name, Stamp("", ""), is_frame=True)
                path = self.layout.paths(target)[0]
                if path in own:
                    continue
                found = stamp_of(path)
                if not isinstance(found, Stamp) or not found.frames:
                    break
                path.unlink(missing_ok=True)  # another command may have done it

    def _encode(self, video: Video, target: Target) -> str | None:
        """Encode a video's overlay from its frames and their classes, where it is not there."""
        layout, path = self.layout, self._video_path(target)
        assert isinstance(layout, Pictures)
        if video.frames is None or stamp_of(path) == target.stamp:
            return None  # it could not be read, which is said, or it is done
        classes = [
            layout.path("classes", f"{target.name}/{frame:06d}") for frame in range(video.frames)
        ]
        missing = sum(not file.exists() for file in classes)
        if missing:
            return f"{path} is left out: {_count(missing, 'frame')} of {video.frames} are missing."
        rank_zero_info(f"Encoding {path} …")
        # OpenCV tells the format by the name's end.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp.mp4")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The encoder does not say why it cannot open a file, nor that a disk is full.
            temporary.write_bytes(bytes(_FIRST_BYTES))
            drawn = (
                layout.laid_over(picture, _read_classes(file))
                for picture, file in zip(frames_of(video.path, video.frames), classes, strict=True)
            )
            write_video(temporary, drawn, frame_rate(video.path))
            if not _holds(temporary, video.frames):
                raise UserError(f"{path} cannot be written whole. Is there room on the disk?")
            stamp_video(temporary, target.stamp)
            temporary.replace(path)
        except OSError as error:
            raise cannot_write(path, error) from error
        finally:
            with contextlib.suppress(OSError):  # of the name: it was never there
                temporary.unlink(missing_ok=True)
        return f"{path}: {_count(video.frames, 'frame')}, without the sound."


def _files_of(source: SegmentationDataset) -> list[DataFile]:
    """The files that are predicted; none where images are made, not read."""
    if isinstance(source, InputDataset):
        return [given.file for given in source.inputs.sources]
    return [pair.image for pair in source.pairs] if isinstance(source, PairedDataset) else []


def _digests(files: Sequence[DataFile]) -> dict[DataFile, str]:
    """The digest of each file's content, which is cheap beside decoding it."""
    with ThreadPoolExecutor(usable_processors()) as threads:  # hashing leaves the interpreter
        return dict(zip(files, threads.map(_digest, files), strict=True))


def _digest(file: DataFile) -> str:
    try:
        return file.digest()
    except UserError:
        return "unreadable"  # reading it says why


def _holds(video: Path, frames: int) -> bool:
    try:
        return count_frames(video) == frames
    except UserError:  # cut so short that it cannot be opened
        return False


def _read_classes(file: Path) -> Classes:
    classes = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if classes is None:
        raise UserError(f"{file} is damaged. Remove it; the same command makes it again.")
    return classes


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
