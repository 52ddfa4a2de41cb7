"""The miniature ADE20K through a cache of decoded images."""

from pathlib import Path

import numpy as np

from pne_seg.data import ADE20K
from pne_seg.data.cache import CachedDataset
from pne_seg.data.samples import Sample

NUM_IMAGES = 6  # in the miniature ADE20K's training split


def cached(root: Path, cache: Path) -> CachedDataset:
    """The training split through the cache, not filled."""
    split = ADE20K(root, cache=cache, num_workers=0).split("train")
    assert isinstance(split, CachedDataset)
    return split


def filled(root: Path, cache: Path) -> CachedDataset:
    split = cached(root, cache)
    split.fill()
    return split


def entries(cache: Path) -> dict[Path, int]:
    """Every file of decoded pixels, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.raw")}


def assert_same(sample: Sample, other: Sample) -> None:
    for pixels, expected in ((sample.image, other.image), (sample.labels, other.labels)):
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, expected)
    assert sample.source_size == other.source_size
