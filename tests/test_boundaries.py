"""Distances to borders and the counts by them, against walks over all pairs of pixels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pne_seg.boundaries import BoundaryConfusion, border_bins
from pne_seg.metrics import SegmentationMetrics

IGNORE = 255


def plain_distance(labels: Tensor, row: int, column: int) -> float:
    """Of the nearest labeled pixel of another class, in king's moves."""
    own, nearest = int(labels[row, column]), math.inf
    for i, line in enumerate(labels.tolist()):
        for j, label in enumerate(line):
            if label not in (own, IGNORE):
                nearest = min(nearest, max(abs(i - row), abs(j - column)))
    return nearest


def random_labels(seed: int, size: tuple[int, int], classes: int) -> Tensor:
    """Blocks of classes with ignored pixels among them."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes, (-(-size[0] // 3), -(-size[1] // 3)))
    labels = coarse.repeat(3, 0).repeat(3, 1)[: size[0], : size[1]]
    labels[random.random(size) < 0.15] = IGNORE
    return torch.from_numpy(labels)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("widths", [(1,), (1, 3, 5), (2, 4), (30,)])
def test_bins_and_counts_equal_a_walk_over_all_pairs(seed: int, widths: tuple[int, ...]) -> None:
    size, classes = [(9, 12), (1, 17), (13, 2)][seed % 3], 2 + seed
    labels = torch.stack([random_labels(seed + 100 * image, size, classes) for image in range(2)])
    prediction = torch.randint(0, classes, labels.shape)
    bins = border_bins(labels, widths, IGNORE)
    expected = np.zeros((len(widths) + 1, classes, classes), np.int64)
    for image in range(2):
        for row in range(size[0]):
            for column in range(size[1]):
                label = int(labels[image, row, column])
                if label == IGNORE:
                    continue
                distance = plain_distance(labels[image], row, column)
                within = [place for place, width in enumerate(widths) if distance <= width]
                assert bins[image, row, column] == (within[0] if within else len(widths))
                cell = (label, int(prediction[image, row, column]))
                for place in within or [len(widths)]:
                    expected[place][cell] += 1
    counted = BoundaryConfusion(classes, IGNORE, widths)
    for image in range(2):  # streamed
        counted.update(prediction[image : image + 1], labels[image : image + 1].to(torch.uint8))
    assert np.array_equal(counted.compute().numpy(), expected)
    scores = counted.metrics()
    assert list(scores.within) == list(widths)
    for place, found in enumerate([*scores.within.values(), scores.beyond]):
        own = SegmentationMetrics.from_matrix(torch.from_numpy(expected[place]))
        assert found.miou == own.miou or (math.isnan(found.miou) and math.isnan(own.miou))


def test_the_rim_of_an_ignored_region_is_no_border_but_a_strip_hides_none() -> None:
    labels = torch.zeros(1, 1, 9, dtype=torch.int64)
    labels[..., 6:] = IGNORE
    assert (border_bins(labels, (1, 3), IGNORE)[..., :6] == 2).all()
    labels[..., 8] = 1  # beyond the strip
    assert border_bins(labels, (1, 3), IGNORE)[0, 0].tolist()[:6] == [2, 2, 2, 2, 2, 1]


def test_names() -> None:
    counted = BoundaryConfusion(2, IGNORE, (1, 3))
    labels = torch.tensor([[[0, 0, 0, 0, 0, 1]]])
    counted.update(torch.tensor([[[1, 0, 0, 0, 0, 1]]]), labels)
    # Up to 1: pixels 4 and 5, right. Up to 3: 2 to 5, right. Beyond: 0 wrong, 1 right.
    assert counted.metrics().as_dict("test") == {
        "test/boundary_mIoU/1px": 1.0,
        "test/boundary_mIoU/3px": 1.0,
    }
    assert counted.metrics().beyond.iou.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("widths", [(0,), (3, 1), (2, 2), (-1, 2)])
def test_widths_rise(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="boundary_widths must rise"):
        BoundaryConfusion(2, IGNORE, widths)
