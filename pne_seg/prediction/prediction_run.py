"""Predict a split and write the files: what is left to do, each batch, and how it ended."""

import sys
from collections import ChainMap
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from pne_seg.data.base import SegmentationDataModule, usable_processors
from pne_seg.data.data_file import DataFile
from pne_seg.data.images import Pixels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.errors import UserError
from pne_seg.files import remove_abandoned, write_bytes_atomically
from pne_seg.prediction.input_data import InputDataset, Remaining, RemainingView
from pne_seg.prediction.inputs import count
from pne_seg.prediction.manifest import Manifest, Origin, UnwritableError, digest
from pne_seg.prediction.outputs import Classes, Pictures, Submission, Target
from pne_seg.prediction.video import FrameReader, save_video


class PredictionRun(Callback):
    """The predictions of a data module's test split, written while the network is at the next.

    Args:
        data: set up for prediction.
        layout: what is written.
        settings: digest of the weights and settings that predictions depend on.
        overwrite: whether to replace what was predicted from other sources, weights or settings.
    """

    def __init__(
        self, data: SegmentationDataModule, layout: Pictures, settings: str, overwrite: bool = False
    ) -> None:
        self.data = data
        self.layout = layout
        self.source = data.split("test")
        self.manifest = Manifest(layout.folder, layout.manifest, overwrite)
        self.videos: dict[Path, Target] = {}  # to be drawn, by their files
        self.targets = self._find_targets(settings)  # by their index in the split
        layout.check_targets(self.targets)
        wanted = {path: target.origin for target in self.targets for path in layout.paths(target)}
        wanted |= {path: target.origin for path, target in self.videos.items()}
        missing = self.manifest.plan(wanted | layout.legends())
        self.left = [
            index
            for index, target in enumerate(self.targets)
            if not missing.isdisjoint(layout.paths(target))
        ]
        self.written = 0  # at the end of all processes, as are the reasons below
        self.unreadable: dict[int, str] = {}
        self.unwritten: dict[int | str, str] = {}  # by index, or by the name of a video
        self._encoders = ThreadPoolExecutor(min(4, usable_processors()))
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def remaining(self) -> Remaining:
        """Return what is left, as batches."""
        overlays = "overlay" in self.layout.kinds
        view = RemainingView(self.source, self.left, self.data.resize_base, overlays)
        return Remaining(self.data, view)

    def _find_targets(self, settings: str) -> list[Target]:
        source = self.source
        if isinstance(source, InputDataset):
            files = [given.file for given in source.inputs.sources]
        elif isinstance(source, PairedDataset):
            files = [pair.image for pair in source.pairs]
        else:  # images are made, not read
            names = [source.name(index) for index in range(len(source))]
            origins = [Origin(name, digest(index, settings)) for index, name in enumerate(names)]
            return [Target(origin.source, origin.source, origin) for origin in origins]
        with ThreadPoolExecutor(usable_processors()) as threads:  # hashing releases the GIL
            contents = dict(zip(files, threads.map(_digest_of_file, files), strict=True))

        def target_of(name: str, file: DataFile, frames: int | None = None) -> Target:
            origin = Origin(file.relative, digest(contents[file], settings), frames or 0)
            return Target(name, str(file), origin, is_frame=frames is not None)

        if isinstance(source, PairedDataset):
            return [target_of(source.name(index), file) for index, file in enumerate(files)]
        for video in source.videos:
            # A video whose frames are entered need not be decoded to be counted.
            first = target_of(video.frame_at(0).name, video.file, 0)
            found = self.manifest.entries.get(self.manifest.key(self.layout.paths(first)[0]))
            if found is not None and found == replace(first.origin, frames=found.frames):
                source.frames[video.file] = found.frames
        if uncounted := len(source.videos) - len(source.frames):
            rank_zero_info(f"Counting the frames of {count(uncounted, 'video')} …")
        targets = [
            target_of(item.name, item.file, source.frames.get(item.file)) for item in source.items
        ]
        for video in source.videos if "overlay" in self.layout.kinds else ():
            if frames := source.frames[video.file]:
                file = self.layout.folder / "overlay" / f"{video.name}.mp4"
                self.videos[file] = target_of(video.name, video.file, frames)
        return targets

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch in another thread, after the last one: no more than two are held."""
        self.unreadable.update(batch["unreadable"])
        dtype = torch.uint8 if self.data.num_classes <= 256 else torch.uint16
        classes = outputs.to(dtype).cpu().numpy()
        self._wait()
        if batch["index"]:
            given = batch["index"], classes, batch["picture"]
            self._writing = self._writer.submit(self.write, *given)

    def write(
        self, indices: Sequence[int], classes: Sequence[Classes], images: Sequence[Pixels | None]
    ) -> None:
        """Write those files of a batch's predictions that are not there."""
        paths = {index: self.layout.paths(self.targets[index]) for index in indices}
        contents = {
            path: self._encoders.submit(self.layout.encode, path, labels, image)
            for index, labels, image in zip(indices, classes, images, strict=True)
            for path in paths[index]
        }
        wait(contents.values())  # before the folder is locked
        failed = self.manifest.put(
            contents, lambda path: write_bytes_atomically(path, contents[path].result())
        )
        for index in indices:
            if reasons := [failed[path] for path in paths[index] if path in failed]:
                self.unwritten[index] = reasons[0]
            else:
                self.written += 1

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Finish the files that are begun."""
        self._writer.shutdown()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for the last files, and bring the processes' counts together."""
        # Not at the end of the batches, of which a process without any is not told.
        self._wait()
        self._writer.shutdown()
        self._encoders.shutdown()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            found: list[Any] = [None] * trainer.world_size
            own = self.written, self.unreadable, self.unwritten
            torch.distributed.all_gather_object(found, own)
            counts, unreadable, unwritten = zip(*found, strict=True)
            self.written = sum(counts)
            self.unreadable = dict(ChainMap(*unreadable))
            self.unwritten = dict(ChainMap(*unwritten))

    def finish(self) -> None:
        """End in one process: draw videos, check a submission, and print how it ended."""
        layout = self.layout
        for _, reason in sorted(self.unreadable.items()):
            print(f"unreadable: {reason}", file=sys.stderr)
        self.manifest.refresh()
        complete = not self._not_reached  # else it is not known which of those left were written
        for index in self.left if complete else ():
            if index in self.unreadable or index in self.unwritten:
                continue
            if gone := [path for path in layout.paths(self.targets[index]) if not path.exists()]:
                self.written -= 1
                self.unwritten[index] = f"{gone[0]} is gone; the same command writes it again."
        print(self._summary())
        legends = [path for path in layout.legends() if self.manifest.state(path) != "current"]
        if legends and layout.folder.exists():  # else nothing could be predicted
            failed = self.manifest.put(legends, layout.save_legend)
            self.unwritten |= {path.name: reason for path, reason in failed.items()}
        for path, target in self.videos.items():
            try:
                self._draw_video(path, target)
            except UnwritableError as error:
                self.unwritten[target.name] = str(error)
        if complete and isinstance(layout, Submission):
            sizes = {
                layout.paths(target)[0]: self.source.source_size(index)
                for index, target in enumerate(self.targets)
                if index not in self.unreadable and index not in self.unwritten
            }
            print(layout.check_files(sizes))
        remove_abandoned([*self.manifest.wanted, self.manifest.file])
        for reason in self.unwritten.values():
            print(f"not written: {reason}", file=sys.stderr)

    def stopped(self) -> str:
        """Return how far it came when the user stopped it."""
        self.manifest.refresh()
        there = sum(
            all(self.manifest.state(path) == "current" for path in self.layout.paths(target))
            for target in self.targets
        )
        return (
            f"Stopped: {there} of {len(self.targets)} predictions are written. The same command "
            "resumes from there."
        )

    @property
    def _not_reached(self) -> int:
        """Number of predictions that the trainer's limits left out."""
        return len(self.left) - self.written - len(self.unreadable) - len(self.unwritten)

    def _summary(self) -> str:
        images = sum(not target.is_frame for target in self.targets)
        frames = sum(target.origin.frames > 0 for target in self.targets)
        videos = len(self.targets) - images - frames
        kinds = {"image": images, "video frame": frames, "unreadable video": videos}
        *first, last = (count(number, kind) for kind, number in kinds.items() if number)
        counts = {
            "unreadable": len(self.unreadable),
            "not written": len(self.unwritten),
            "not reached": self._not_reached,
        }
        return (
            f"{', '.join(first)}{' and ' if first else ''}{last}: {self.written} written, "
            f"{len(self.targets) - len(self.left)} there already"
            + "".join(f", {number} {what}" for what, number in counts.items() if number)
            + "."
        )

    def _draw_video(self, path: Path, target: Target) -> None:
        """Draw a video's overlay from its frames and their classes, if it is not there."""
        layout, manifest, frames = self.layout, self.manifest, target.origin.frames
        if manifest.state(path) == "current":
            return
        classes = [layout.path("classes", f"{target.name}/{frame:06d}") for frame in range(frames)]
        if missing := sum(not file.exists() for file in classes):
            print(f"{path} is left out: {count(missing, 'frame')} of {frames} are missing.")
            return
        rank_zero_info(f"Encoding {path} …")
        with closing(FrameReader(Path(target.source))) as reader:
            drawn = (
                layout.draw(reader.read(number), _read_classes(file))
                for number, file in enumerate(classes)
            )
            save_video(path, drawn, reader.rate, frames, manifest)
        print(f"{path}: {count(frames, 'frame')}, without the sound.")


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
