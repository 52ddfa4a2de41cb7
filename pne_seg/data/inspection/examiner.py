"""Look at single samples in many processes: decode their files, count labels, collect problems."""

import hashlib
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pne_seg.data.class_counts import count_labels
from pne_seg.data.images import ImageInfo, Pixels, decode_image, fitted_size
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import SegmentationDataset
from pne_seg.errors import UserError

Size = tuple[int, int]
"""Height and width."""

_STDERR = 2
_SAMPLES_AT_ONCE = 8  # are one task of a process
_TASKS_AHEAD = 3  # for each process, so that it never waits


class Problem(NamedTuple):
    """What is wrong with one sample."""

    kind: str  # `image`, `labels` or `sizes`, or `damage`, which decodes all the same
    file: str  # the sample's name if it has none
    error: UserError  # names the file and says how to fix it


@dataclass
class Examined:
    """What one sample holds: a few kilobytes."""

    size: Size | None = None  # of the image as stored; None if it cannot be read
    digest: int = 0  # of the image's bytes, never 0 if it can be read
    counts: npt.NDArray[np.int64] | None = None  # (256,) pixels of each label
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # keys of remarks, such as `grayscale`
    palette: bytes = b""  # of the label file, whose indices are classes
    indices: list[int] = field(default_factory=list)  # of classes that occur in it

    @contextmanager
    def collecting(self, kind: str, file: str) -> Iterator[None]:
        """Turn what is raised into a problem."""
        try:
            yield
        except UserError as error:
            self.problems.append(Problem(kind, file, error))
        # One odd file must not end the check of all others; mistakes of the code's own do.
        except (ValueError, LookupError, OSError, MemoryError, RuntimeError, cv2.error) as error:
            reason = UserError(f"{file}: cannot be read ({type(error).__name__}: {error}).")
            self.problems.append(Problem(kind, file, reason))


@dataclass(frozen=True)
class Examiner:
    """Looks at the samples of one split."""

    dataset: SegmentationDataset
    num_classes: int
    ignore_index: int
    crop: Size | None = None  # of the training; None where small images are no matter
    resize_base: Size | None = None  # width and height that images are fitted to before

    def examine(self, index: int, complaints: Callable[[], str] = str) -> Examined:
        """Decode a sample's files; `complaints` returns the decoder's since its last call."""
        found = Examined()
        if isinstance(self.dataset, PairedDataset):
            self._examine_pair(self.dataset, index, found, complaints)
            return found
        name = self.dataset.name(index)
        with found.collecting("image", name):
            image, labels, _ = self.dataset.read(index)
            self._note_image(image, image.tobytes(), _size(image), found)
            if _size(image) != _size(labels):
                raise UserError(
                    f"{name}: the labels are {_size(labels)} (height, width), the image is "
                    f"{_size(image)}. Make them match."
                )
            if self.dataset.labeled:
                self._count(labels, name, found)
        return found

    def _examine_pair(
        self, dataset: PairedDataset, index: int, found: Examined, complaints: Callable[[], str]
    ) -> None:
        """Image and labels separately, so that the fault of the one does not hide the other's."""
        pair = dataset.pairs[index]
        complaints()
        with found.collecting("image", str(pair.image)):
            content = pair.image.read_bytes()
            image, info = decode_image(pair.image, content)
            self._note_image(image, content, dataset.scaled(info.size), found)
            found.notes += _peculiarities(info)
            if said := complaints():
                message = (
                    f"{pair.image}: is damaged ({said}): it decodes, but part of the picture may "
                    "be wrong. Fetch it again, or look at it."
                )
                found.problems.append(Problem("damage", str(pair.image), UserError(message)))
        if pair.labels is None:
            return
        with found.collecting("labels", str(pair.labels)):
            labeled = dataset.label_format
            if isinstance(labeled, IndexLabels):
                labels, info = labeled.decode(pair.labels)
                found.palette = info.palette if labeled.takes else b""
            else:
                labels = labeled.read(pair.labels)
            counts = self._count(labels, str(pair.labels), found)
            if isinstance(labeled, IndexLabels) and found.palette:
                classes = np.flatnonzero(counts[: self.num_classes])
                found.indices = np.flatnonzero(np.isin(labeled.entries, classes)).tolist()
            if found.size is not None:
                with found.collecting("sizes", str(pair.labels)):
                    dataset.check_sizes(index, found.size, _size(labels))

    def _note_image(self, image: Pixels, content: bytes, stored: Size, found: Examined) -> None:
        found.size = _size(image)
        # At 64 bits two of a million images do not meet by chance.
        digest = hashlib.blake2b(content, digest_size=8).digest()
        found.digest = int.from_bytes(digest, "little") or 1
        if self.crop is not None:
            size = stored if self.resize_base is None else fitted_size(stored, self.resize_base)
            if size[0] < self.crop[0] or size[1] < self.crop[1]:
                found.notes.append("small")

    def _count(self, labels: Pixels, file: str, found: Examined) -> npt.NDArray[np.int64]:
        counts = count_labels(labels, file, self.num_classes, self.ignore_index)
        found.counts = counts
        if counts[self.ignore_index] == labels.size:
            found.notes.append("unlabeled")
        return counts


def _peculiarities(info: ImageInfo) -> Iterator[str]:
    if info.rotated:
        yield "rotated"
    if info.mode in ("1", "L", "LA", "F") or info.mode.startswith("I"):
        yield "grayscale"
    if info.mode == "CMYK":
        yield "cmyk"
    if info.mode in ("LA", "PA", "RGBA"):
        yield "transparent"
    if info.bits is not None:
        yield "deep" if info.bits in (16, 32) or info.range is not None else f"deep{info.bits}"


def _size(image: Pixels) -> Size:
    return image.shape[0], image.shape[1]


_examiners: list[Examiner] = []  # of this process; they come once, not with each task


def examine_all(
    examiners: Sequence[Examiner], processes: int, started: Callable[[], None]
) -> Generator[tuple[int, int, Examined]]:
    """Examine every sample of all splits in processes; yield number of the split, index and result.

    Whoever starts threads does it in `started`, as a forked process must not inherit half of one.
    """
    samples = [(n, i) for n, examiner in enumerate(examiners) for i in range(len(examiner.dataset))]
    tasks = [samples[i : i + _SAMPLES_AT_ONCE] for i in range(0, len(samples), _SAMPLES_AT_ONCE)]
    if not tasks:
        return
    processes = max(1, min(processes, len(tasks)))
    # A fork takes no time and shares the lists of files; elsewhere it is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(examiners,))
    ahead, task = processes * _TASKS_AHEAD, tasks[0]
    try:
        pending = deque(pool.submit(_examine, task) for task in tasks[:ahead])
        started()
        for number, task in enumerate(tasks):
            results = pending.popleft().result()
            if number + ahead < len(tasks):
                pending.append(pool.submit(_examine, tasks[number + ahead]))
            for (split, index), found in zip(task, results, strict=True):
                yield split, index, found
    except BrokenProcessPool as error:
        split, index = task[0]
        name = examiners[split].dataset.name(index)
        raise UserError(
            "A process that reads the files was killed, as the system does where memory runs out; "
            f"it was at one of the images from {name} on. Use fewer at a time, such as processes=1."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(examiners: Sequence[Examiner]) -> None:
    _examiners[:] = examiners
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    cv2.setNumThreads(0)  # one processor for each process
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # The decoders complain of damage on the standard error stream only.
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), _STDERR)


def _end_with_parent() -> None:
    """End the process if its parent was killed; it would wait for tasks forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _examine(task: list[tuple[int, int]]) -> list[Examined]:
    return [_examiners[split].examine(index, _decoder_complaints) for split, index in task]


def _decoder_complaints() -> str:
    """Return what a JPEG decoder has said since the last call; other remarks are no damage."""
    length = os.lseek(_STDERR, 0, os.SEEK_CUR)
    if not length:
        return ""
    os.lseek(_STDERR, 0, os.SEEK_SET)
    lines = os.read(_STDERR, length).decode(errors="replace").splitlines()
    os.lseek(_STDERR, 0, os.SEEK_SET)
    os.ftruncate(_STDERR, 0)
    return "; ".join(dict.fromkeys(line for line in lines if "JPEG" in line))
