"""Counts and scores against plain loops and hand-computed numbers."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pne_seg.metrics import ConfusionMatrix, SegmentationMetrics


def plain_counts(
    target: NDArray[np.int64], prediction: NDArray[np.int64], classes: int, ignore_index: int
) -> NDArray[np.int64]:
    counts = np.zeros((classes, classes), dtype=np.int64)
    for label, predicted in zip(target.ravel(), prediction.ravel(), strict=True):
        if label != ignore_index:
            counts[label, predicted] += 1
    return counts


@pytest.mark.parametrize("ignore_index", [255, -1, 0])
@pytest.mark.parametrize("seed", range(4))
def test_streamed_equals_at_once_equals_plain_loops(seed: int, ignore_index: int) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 20))
    used = random.permutation(classes)[: max(2, classes // 2)]  # the others are absent
    maps = []
    for _ in range(5):  # each image at its own size
        size = (1, *random.integers(1, 25, 2))
        target = random.choice(used, size)
        target[random.random(size) < 0.3] = ignore_index
        maps.append((random.choice(used, size), target))

    streamed = ConfusionMatrix(classes, ignore_index)
    for prediction, target in maps:
        streamed.update(torch.from_numpy(prediction), torch.from_numpy(target))
    at_once = ConfusionMatrix(classes, ignore_index)
    flat = [np.concatenate([pair[side].ravel() for pair in maps]) for side in (0, 1)]
    at_once.update(torch.from_numpy(flat[0]), torch.from_numpy(flat[1]))

    expected = plain_counts(flat[1], flat[0], classes, ignore_index)
    assert streamed.compute().dtype == torch.int64
    assert np.array_equal(streamed.compute().numpy(), expected)
    assert np.array_equal(at_once.compute().numpy(), expected)
    streamed.reset()
    assert not streamed.compute().any()


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_numpy_s_bit_for_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 172))
    used = random.permutation(classes)[: max(2, int(classes * random.random()))]
    streamed = ConfusionMatrix(classes, 255)
    everything = []
    for _ in range(3):
        size = (1, *random.integers(1, 90, 2))
        target, prediction = random.choice(used, size), random.choice(used, size)
        right = random.random(size) < 0.7
        prediction[right] = target[right]
        target[random.random(size) < 0.2] = 255
        streamed.update(torch.from_numpy(prediction), torch.from_numpy(target.astype(np.uint8)))
        everything.append((target.ravel(), prediction.ravel()))
    target, prediction = (np.concatenate(parts) for parts in zip(*everything, strict=True))
    target, prediction = target[target != 255], prediction[target != 255]
    both, true, said = (np.zeros(classes, np.int64) for _ in range(3))
    for index in range(classes):
        both[index] = np.count_nonzero((target == index) & (prediction == index))
        true[index] = np.count_nonzero(target == index)
        said[index] = np.count_nonzero(prediction == index)
    occurs, labeled = true + said - both > 0, true > 0
    scores = SegmentationMetrics.from_matrix(streamed.compute())
    assert scores.miou == np.mean((both / np.where(occurs, true + said - both, 1))[occurs])
    assert scores.macc == np.mean((both / np.where(labeled, true, 1))[labeled])
    assert scores.pixel_accuracy == both.sum() / true.sum()
    assert np.array_equal(np.isnan(scores.iou.numpy()), ~occurs)
    assert np.array_equal(scores.iou.numpy()[occurs], (both / (true + said - both).clip(1))[occurs])


def test_scores_by_hand() -> None:
    #                         predicted  0  1  2
    scores = SegmentationMetrics.from_matrix(torch.tensor([[6, 2, 0], [1, 3, 0], [0, 4, 4]]))
    assert scores.iou.tolist() == pytest.approx([6 / 9, 3 / 10, 4 / 8])
    assert scores.accuracy.tolist() == pytest.approx([6 / 8, 3 / 4, 4 / 8])
    assert scores.miou == pytest.approx((6 / 9 + 3 / 10 + 4 / 8) / 3)
    assert scores.macc == pytest.approx(2 / 3)
    assert scores.pixel_accuracy == pytest.approx(13 / 20)
    assert scores.pixel_share.tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert scores.matrix.tolist() == [[6, 2, 0], [1, 3, 0], [0, 4, 4]]
    assert scores.majority_miou == pytest.approx(0.4 / 3)


def test_absent_class_is_nan_and_left_out() -> None:
    scores = SegmentationMetrics.from_matrix(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert math.isnan(scores.iou[2])
    assert math.isnan(scores.accuracy[2])
    assert scores.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.macc == pytest.approx((3 / 4 + 1) / 2)
    assert scores.pixel_share[2] == 0
    assert scores.majority_miou == pytest.approx(0.25)


def test_class_in_predictions_alone_counts_as_zero() -> None:
    scores = SegmentationMetrics.from_matrix(torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]]))
    assert scores.iou[2] == 0
    assert scores.miou == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert math.isnan(scores.accuracy[2])
    assert scores.macc == pytest.approx((3 / 4 + 1) / 2)


@pytest.mark.parametrize("labels", [(7, 5, 2, 0), (0, 0, 9, 0), (4, 4, 4, 4)])
def test_majority_miou_is_the_score_of_predicting_it_everywhere(labels: tuple[int, ...]) -> None:
    target = torch.repeat_interleave(torch.arange(4), torch.tensor(labels))
    # What the network itself predicted does not matter.
    some = ConfusionMatrix(4, 255)
    some.update(torch.randint(0, 4, target.shape), target)
    majority = ConfusionMatrix(4, 255)
    majority.update(torch.full_like(target, labels.index(max(labels))), target)
    expected = SegmentationMetrics.from_matrix(majority.compute()).miou
    assert SegmentationMetrics.from_matrix(some.compute()).majority_miou == pytest.approx(expected)


def test_all_ignored_is_nan() -> None:
    confusion = ConfusionMatrix(3, 255)
    confusion.update(torch.zeros(1, 4, 4, dtype=torch.int64), torch.full((1, 4, 4), 255))
    scores = SegmentationMetrics.from_matrix(confusion.compute())
    for value in (scores.miou, scores.macc, scores.pixel_accuracy, scores.majority_miou):
        assert math.isnan(value)
    assert scores.iou.isnan().all()


def test_counts_beyond_float32_stay_exact() -> None:
    large = 2**24  # the first integer whose successor float32 does not hold
    scores = SegmentationMetrics.from_matrix(torch.tensor([[large + 1, 0], [1, 0]]))
    assert scores.iou[0].item() == (large + 1) / (large + 2)


def test_as_dict_names() -> None:
    matrix: Tensor = torch.tensor([[2, 1], [0, 1]])
    named = SegmentationMetrics.from_matrix(matrix).as_dict("val", ["road", "sky"])
    assert list(named) == [
        "val/mIoU",
        "val/mAcc",
        "val/pixel_accuracy",
        "val/IoU/road",
        "val/IoU/sky",
    ]
    assert list(named.values()) == pytest.approx([7 / 12, 5 / 6, 3 / 4, 2 / 3, 1 / 2])
    with pytest.raises(ValueError, match="zip"):
        SegmentationMetrics.from_matrix(matrix).as_dict("val", ["road"])
