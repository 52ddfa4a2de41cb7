"""A crop from the decoded cache touches its window of the file, and no other memory."""

import ctypes
import faulthandler
import mmap
import multiprocessing
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pne_seg.data import Folder
from pne_seg.data.samples import Sample
from pne_seg.data.transforms import train_transforms

FORK = multiprocessing.get_context("fork")
ROWS, COLUMNS = 1024, 512
PER_LABEL = 8
MARGIN = 2 * PER_LABEL  # rows; the system's pages are of some rows, too
WINDOW = (128, 256)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """From the cache: one image whose labels tell the row."""
    image = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
    labels = np.repeat(np.arange(ROWS, dtype=np.int64)[:, None] // PER_LABEL, COLUMNS, axis=1)
    for split in ("train", "val"):
        for kind, pixels in (("images", image), ("masks", labels.astype(np.uint8))):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / split / kind / "one.bmp")
    classes = [f"row {row}" for row in range(0, ROWS, PER_LABEL)]
    settings: dict[str, Any] = {"num_workers": 0, "batch_size": 1}
    data = Folder(tmp_path, classes, cache=tmp_path / "cache", **settings)
    data.train_dataloader()
    return data.split("train").read(0)


def crop(sample: Sample) -> npt.NDArray[np.uint8]:
    """The labels of the recipe's crop, the same each time."""
    transform = A.Compose(train_transforms(WINDOW, None, (0.8, 1.25)))
    transform.set_random_seed(1)
    out = transform(image=sample.image, mask=sample.labels)
    assert out["image"].shape == (*WINDOW, 3)
    labels: npt.NDArray[np.uint8] = out["mask"]
    return labels


def close(rows: npt.NDArray[np.uint8]) -> None:
    """Let the process die that touches the memory of these rows, up to whole pages."""
    first = -(-rows.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (rows.ctypes.data + rows.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
    assert length > 0
    no_access = 0
    libc = ctypes.CDLL(None)
    assert libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(length), no_access) == 0


@pytest.mark.parametrize(
    ("touch", "exit_code"),
    [
        (crop, 0),
        (lambda sample: sample.image[::16, 0].sum(), -signal.SIGSEGV),
        (lambda sample: sample.labels[::16, 0].sum(), -signal.SIGSEGV),
    ],
)
def test_a_crop_touches_its_window_alone(
    touch: Callable[[Sample], object], exit_code: int, sample: Sample
) -> None:
    for pixels in (sample.image, sample.labels):
        assert isinstance(pixels, np.memmap)  # reading it has touched nothing
    rows = crop(sample).astype(int) * PER_LABEL
    above, below = rows.min() - MARGIN, rows.max() + PER_LABEL + MARGIN
    assert 0 < above < below < ROWS
    assert below - above < 0.25 * ROWS

    def act() -> None:
        faulthandler.disable()  # what it would print is no one's concern
        for pixels in (sample.image, sample.labels):
            close(pixels[:above])
            close(pixels[below:])
        touch(sample)

    child = FORK.Process(target=act)
    child.start()
    child.join(60)
    assert child.exitcode == exit_code
