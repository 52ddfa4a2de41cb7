"""Suspect labels: by hand, against scipy's filters, and against cleanlab's ranking."""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage, stats

from pne_seg.suspects import Region, SuspectSearch, WorstSuspects

IGNORE = 255
NAMES = ["road", "sky", "car", "tree"]
Array = npt.NDArray[Any]


def chances(labels: Array, predicted: Array, high: float = 0.96, low: float = 0.02) -> Array:
    """(2, H, W) log probabilities: `high` for each prediction, `low` for another label."""
    of_labels = np.where(labels == predicted, high, low)
    found: Array = np.log(np.stack([np.full(labels.shape, high), of_labels]))
    return found


def boxes(regions: Sequence[Region]) -> list[tuple[int, ...]]:
    return sorted((one.x, one.y, one.width, one.height, one.pixels) for one in regions)


def find(labels: Array, predicted: Array, search: SuspectSearch, **high: float) -> list[Region]:
    return search.regions(labels, predicted, chances(labels, predicted, **high), IGNORE)


def scene() -> tuple[Array, Array]:
    """Road below sky, a car that is labeled as road, and what must not be suspect."""
    predicted = np.zeros((40, 60), np.int16)
    predicted[:12] = 1
    labels = predicted.astype(np.uint8)
    predicted[20:28, 10:24] = 2  # 8 × 14, a car that has no label
    labels[12:14] = 1  # the horizon is two pixels off, over the whole width
    labels[30:40, 40:50] = 3  # a tree, of which the network is not sure
    labels[16:26, 50:60] = IGNORE
    predicted[16:26, 50:60] = 2
    return labels, predicted


def test_by_hand() -> None:
    labels, predicted = scene()
    logs = chances(labels, predicted)
    logs[0, 30:40, 40:50] = np.log(0.8)
    logs[0, 20:28, 10:17], logs[1, 20:28, 10:17] = np.log(0.92), np.log(0.04)
    (car,) = SuspectSearch().regions(labels, predicted, logs, IGNORE)
    assert (car.x, car.y, car.width, car.height, car.pixels) == (10, 20, 14, 8, 112)
    assert (car.label, car.predicted) == (0, 2)
    assert car.confidence == pytest.approx((0.96 + 0.92) / 2)
    assert car.label_probability == pytest.approx((0.02 + 0.04) / 2)
    assert car.score == pytest.approx(56 * np.log(0.96 / 0.02) + 56 * np.log(0.92 / 0.04))
    assert car.mask is not None
    assert car.mask.all()
    # With another threshold the tree is one, too, and with another width the horizon.
    least = SuspectSearch(min_confidence=0.8)
    assert boxes(least.regions(labels, predicted, logs, IGNORE)) == [
        (10, 20, 14, 8, 112),
        (40, 30, 10, 10, 100),
    ]
    thin = SuspectSearch(min_width=2).regions(labels, predicted, logs, IGNORE)
    assert boxes(thin) == [(0, 12, 60, 2, 120), (10, 20, 14, 8, 112)]
    assert not SuspectSearch(min_width=9).regions(labels, predicted, logs, IGNORE)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_strips_narrower_than_the_width_form_no_region(width: int) -> None:
    labels = np.zeros((20, 20), np.uint8)
    for across in range(1, 7):
        for place in (0, 7, 20 - across):  # at the image's edges too
            predicted = np.zeros((20, 20), np.int16)
            predicted[place : place + across] = 1
            found = boxes(find(labels, predicted, SuspectSearch(min_width=width)))
            assert found == ([(0, place, 20, across, 20 * across)] if across >= width else [])


def test_regions_have_one_label_and_one_prediction() -> None:
    labels, predicted = np.zeros((12, 24), np.uint8), np.ones((12, 24), np.int16)
    labels[:, 12:] = 2  # another label under the same prediction
    predicted[6:, :12] = 3  # another prediction of the same label
    found = find(labels, predicted, SuspectSearch())
    assert {(one.label, one.predicted, one.x, one.y, one.pixels) for one in found} == {
        (0, 1, 0, 0, 72),
        (0, 3, 0, 6, 72),
        (2, 1, 12, 0, 144),
    }


def test_corners_connect() -> None:
    labels, predicted = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.int16)
    predicted[:5, :5] = predicted[5:, 5:] = 1
    assert boxes(find(labels, predicted, SuspectSearch())) == [(0, 0, 10, 10, 50)]


def plain(labels: Array, predicted: Array, logs: Array, search: SuspectSearch) -> list[Any]:
    """The same by scipy, a pair of classes at a time."""
    found = []
    for label in range(len(NAMES)):
        for said in range(len(NAMES)):
            mask = (labels == label) & (predicted == said)
            mask &= logs[0] >= np.log(search.min_confidence)
            if label == said:
                continue
            square = np.ones((search.min_width,) * 2)
            ids, count = ndimage.label(ndimage.binary_opening(mask, square), np.ones((3, 3)))
            for number in range(1, count + 1):
                y, x = np.nonzero(ids == number)
                p, q = logs[:, y, x]
                box = x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1, len(x)
                means = np.exp(p).mean(), np.exp(q).mean(), (p - q).sum()
                found.append((*map(int, box), label, said, *(round(float(v), 4) for v in means)))
    return sorted(found)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(40, 57), (1, 30), (5, 5), (64, 3)])
@pytest.mark.parametrize("classes", [2, 4])
def test_equal_to_scipys_opening_and_labels(
    size: tuple[int, int], width: int, classes: int
) -> None:
    generator = np.random.default_rng(width)

    def blobs(grain: float) -> Array:
        noise = generator.normal(size=(classes, *size))
        smooth = ndimage.gaussian_filter(noise, (0, grain, grain))
        return np.asarray(smooth.argmax(0))

    labels, predicted = blobs(3).astype(np.uint8), blobs(2).astype(np.int16)
    labels[generator.random(size) < 0.02] = IGNORE
    logs = np.log(generator.uniform(0.85, 1, (2, *size))).astype(np.float32)
    search = SuspectSearch(min_confidence=0.86, min_width=width)
    found = sorted(
        (one.x, one.y, one.width, one.height, one.pixels, one.label, one.predicted,
         *(round(v, 4) for v in (one.confidence, one.label_probability, one.score)))
        for one in search.regions(labels, predicted, logs, IGNORE)
    )  # fmt: skip
    expected = plain(labels, predicted, logs, search)
    assert [one[:7] for one in found] == [one[:7] for one in expected]
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=2e-4)


@pytest.mark.parametrize("many", [150, 255])
def test_many_classes_keep_apart(many: int) -> None:
    labels, predicted = np.zeros((8, 16), np.uint8), np.full((8, 16), many - 1, np.int16)
    labels[:, 8:] = many - 2
    found = SuspectSearch().regions(labels, predicted, chances(labels, predicted), many)
    assert [(one.label, one.predicted) for one in found] == [(0, many - 1), (many - 2, many - 1)]


@pytest.mark.parametrize(
    "case", ["nothing labeled", "all right", "unsure", "small image", "no rows wanted"]
)
def test_nothing_is_suspect(case: str) -> None:
    labels, predicted = scene()
    search = SuspectSearch(max_rows=0 if case == "no rows wanted" else 200)
    if case == "nothing labeled":
        labels[:] = IGNORE
    elif case == "all right":
        labels = predicted.astype(np.uint8)
    elif case == "small image":
        labels, predicted = labels[20:24, 10:14], predicted[20:24, 10:14]
    worst = WorstSuspects(search, NAMES, IGNORE)
    add(worst, "a", labels, predicted, 0.85 if case == "unsure" else 0.96)
    assert worst.table().count(b"\n") == 1
    assert not worst.crops()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_confidence": 1.5}, "min_confidence must be from 0 to 1, got 1.5"),
        ({"min_confidence": float("nan")}, "min_confidence must be from 0 to 1, got nan"),
        ({"min_width": 0}, "min_width must be 1 or more, got 0"),
        ({"max_rows": -1}, "max_rows must be 0 or more, got -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SuspectSearch(**settings)


# ---- the list of the worst -----------------------------------------------------------------------


def add(
    worst: WorstSuspects, name: str, labels: Array, predicted: Array, high: float = 0.96
) -> None:
    logs = torch.from_numpy(chances(labels, predicted, high))
    image = torch.zeros(3, *labels.shape, dtype=torch.uint8)
    worst.add("test", name, image, torch.from_numpy(labels), torch.from_numpy(predicted), logs)


def squares(sides: Sequence[int]) -> tuple[Array, Array]:
    """An image with a wrong square of each side."""
    labels, predicted = np.zeros((30, 200), np.uint8), np.zeros((30, 200), np.int16)
    for number, side in enumerate(sides):
        predicted[1 : 1 + side, 25 * number : 25 * number + side] = 2
    return labels, predicted


IMAGES = {"b": [9, 6, 20], "a": [9, 4], "c": [], "d": [12, 7, 8, 19, 10]}


@pytest.mark.parametrize("most", [1, 4, 200])
def test_the_worst_are_kept_whatever_the_order_and_the_processes(most: int) -> None:
    search = SuspectSearch(max_rows=most)
    alone = WorstSuspects(search, NAMES, IGNORE, shown=2)
    first, second = (WorstSuspects(search, NAMES, IGNORE, shown=2) for _ in range(2))
    for name, sides in IMAGES.items():
        add(alone, name, *squares(sides))
    for name in ("d", "a"):
        add(first, name, *squares(IMAGES[name]))
    for name in ("c", "b"):
        add(second, name, *squares(IMAGES[name]))
    second.merge([first])
    ordered = sorted((-side, name) for name, sides in IMAGES.items() for side in sides if side >= 5)
    for worst in (alone, second):
        rows = list(csv.DictReader(worst.table().decode().splitlines()))
        assert [(-int(row["width"]), row["image"]) for row in rows] == ordered[:most]
        assert [int(row["rank"]) for row in rows] == [*range(1, len(rows) + 1)]
        assert sum(one.crop is not None for one in worst.suspects) == min(2, most)
        assert all(one.region.mask is None for one in worst.suspects)
        assert (worst.regions, worst.images, worst.seen) == (9, 3, 4)
    assert alone.table() == second.table()
    assert [caption for caption, _ in alone.crops()] == [
        "1. b, road → car, confidence 96%",
        "2. d, road → car, confidence 96%",
    ][:most]


def test_the_row_of_a_suspect() -> None:
    worst = WorstSuspects(SuspectSearch(), NAMES, IGNORE)
    add(worst, "north/a, 1", *scene())
    header, row, tree = csv.reader(worst.table().decode().splitlines())
    assert header == [
        *("rank", "split", "image", "x", "y", "width", "height", "pixels"),
        *("label", "predicted", "confidence", "label_probability", "score"),
    ]
    score = f"{112 * np.log(0.96 / 0.02):.1f}"
    assert row == [
        *("1", "test", "north/a, 1", "10", "20", "14", "8", "112"),
        *("road", "car", "0.9600", "0.02", score),
    ]
    assert tree[8:10] == ["tree", "road"]
    assert str(worst) == "Suspect labels: 2 regions in 1 of 1 images."


@pytest.mark.parametrize("size", [(40, 60), (20, 30), (400, 900)])
def test_a_crop_shows_the_region_with_its_surroundings(size: tuple[int, int]) -> None:
    """The image may have another size than its labels."""
    labels, predicted = np.zeros((400, 900), np.uint8), np.zeros((400, 900), np.int16)
    predicted[100:150, 300:340] = 2
    worst = WorstSuspects(SuspectSearch(), NAMES, IGNORE)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[0, size[0] // 4 : 3 * size[0] // 8, size[1] // 3 : 17 * size[1] // 45] = 255
    logs = torch.from_numpy(chances(labels, predicted))
    worst.add("val", "a", image, torch.from_numpy(labels), torch.from_numpy(predicted), logs)
    ((_, crop),) = worst.crops()
    assert crop.image.shape == (50 + 2 * 32, 40 + 2 * 32, 3)
    assert crop.region.sum() == 50 * 40
    assert (crop.region[32:82, 32:72] == 1).all()
    assert np.array_equal(crop.prediction == 2, crop.region == 1)
    assert (crop.labels == 0).all()
    assert crop.image[57, 52, 0] > 200
    assert crop.image[5, 5, 0] == 0


def test_a_region_as_large_as_the_image_is_kept_small() -> None:
    labels, predicted = np.zeros((750, 1250), np.uint8), np.ones((750, 1250), np.int16)
    worst = WorstSuspects(SuspectSearch(), NAMES, IGNORE)
    add(worst, "a", labels, predicted)
    ((_, crop),) = worst.crops()
    assert crop.image.shape == (288, 480, 3)
    assert crop.region.all()


# ---- against cleanlab ----------------------------------------------------------------------------

CLASSES = len(NAMES)
PLANTED = {1: 18, 4: 11, 6: 26, 9: 7}
"""Images with a square of this side whose label is wrong, as far as it lies in one class."""


@pytest.fixture(scope="module")
def noisy() -> dict[str, Any]:
    """Twelve images of blobs, some with a wrong square, and a network that is not."""
    generator = np.random.default_rng(0)
    labels, truth, wrong = [], [], []
    for index in range(12):
        noise = ndimage.gaussian_filter(generator.normal(size=(CLASSES, 64, 80)), (0, 9, 9))
        classes = noise.argmax(0)
        given, planted = classes.copy(), np.zeros(classes.shape, bool)
        if side := PLANTED.get(index):
            depth = [ndimage.distance_transform_cdt(classes == c) for c in range(CLASSES)]
            deepest = int(np.argmax(np.stack(depth)))
            owner, y, x = map(int, np.unravel_index(deepest, (CLASSES, *classes.shape)))
            top, left = max(0, y - side // 2), max(0, x - side // 2)
            planted[top : top + side, left : left + side] = True
            planted &= classes == owner
            given[planted] = (owner + 1 + index % 3) % CLASSES
        labels.append(given)
        truth.append(classes)
        wrong.append(planted)
    correct = np.stack(truth)
    # Less sure at the borders, as a network is, and never quite sure.
    soft = np.stack([
        ndimage.gaussian_filter((correct == c).astype(float), (0, 1, 1)) for c in range(CLASSES)
    ], axis=1)  # fmt: skip
    chance = 0.96 * soft + 0.04 * generator.dirichlet(np.ones(CLASSES), correct.shape).transpose(
        0, 3, 1, 2
    )
    return {"labels": np.stack(labels), "wrong": np.stack(wrong), "chances": chance}


@pytest.fixture(scope="module")
def ours(noisy: dict[str, Any]) -> tuple[Array, Array]:
    """Score of each image, and the (N, H, W) mask of its suspects."""
    scores, masks = [], []
    for given, chance in zip(noisy["labels"], noisy["chances"], strict=True):
        logs = np.log(np.stack([chance.max(0), np.take_along_axis(chance, given[None], 0)[0]]))
        found = SuspectSearch().regions(given, chance.argmax(0), logs, IGNORE)
        mask = np.zeros(given.shape, bool)
        for one in found:
            assert one.mask is not None
            mask[one.y : one.y + one.height, one.x : one.x + one.width] |= one.mask
        scores.append(sum(one.score for one in found))
        masks.append(mask)
    return np.array(scores), np.stack(masks)


def test_the_pixels_are_those_of_cleanlab(noisy: dict[str, Any], ours: tuple[Array, Array]) -> None:
    from cleanlab.segmentation.filter import find_label_issues

    theirs = find_label_issues(noisy["labels"], noisy["chances"], n_jobs=1, verbose=False)
    _, mask = ours
    assert mask.sum() > 700
    assert (mask & theirs).sum() / (mask | theirs).sum() > 0.9
    assert (mask & noisy["wrong"]).sum() / (mask | noisy["wrong"]).sum() > 0.9


@pytest.mark.parametrize("method", ["softmin", "num_pixel_issues"])
def test_images_rank_as_by_cleanlab(
    noisy: dict[str, Any], ours: tuple[Array, Array], method: str
) -> None:
    from cleanlab.segmentation.rank import get_label_quality_scores

    quality, _ = get_label_quality_scores(
        noisy["labels"], noisy["chances"], method=method, n_jobs=1, verbose=False
    )
    scores, _ = ours
    size = noisy["wrong"].sum((1, 2))
    planted = np.argsort(-size, kind="stable")[: len(PLANTED)].tolist()
    assert np.argsort(-scores, kind="stable")[: len(planted)].tolist() == planted
    assert np.argsort(quality, kind="stable")[: len(planted)].tolist() == planted
    assert stats.spearmanr(scores[planted], -quality[planted]).statistic == 1
    assert stats.spearmanr(scores, -quality).statistic > 0.7
