"""Crop first at its edges: tiny and elongated images, memory-mapped files, the count of classes."""

from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest

from pne_seg.data.images import fitted_size
from pne_seg.data.transforms import RandomScaleCrop, scale_crop, train_transforms
from pne_seg.data.transforms.scale_crop import Window, crop_image, crop_labels

TOLERANCE = 5
"""On noise from 0 to 255; the largest difference seen in 12,000 windows is 4."""


def window_of(generator: np.random.Generator, scaled: tuple[int, int], size: int) -> Window:
    height, width = (min(side, int(generator.integers(1, size))) for side in scaled)
    top = int(generator.integers(0, scaled[0] - height + 1))
    left = int(generator.integers(0, scaled[1] - width + 1))
    return Window(scaled, top, left, height, width)


def assert_as_scaled_then_cropped(
    generator: np.random.Generator, shape: tuple[int, int], window: Window
) -> None:
    image = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    labels = generator.integers(0, 256, shape, dtype=np.uint8)
    for pixels in (image, labels):
        pixels.flags.writeable = False
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    expected = cv2.resize(labels, window.scaled[::-1], interpolation=cv2.INTER_NEAREST)
    cut = crop_labels(labels, window)
    np.testing.assert_array_equal(cut, expected[rows, columns], err_msg=f"{shape} {window}")
    assert cut.flags.c_contiguous
    expected = cv2.resize(image, window.scaled[::-1], interpolation=cv2.INTER_LINEAR)
    piece = crop_image(image, window)
    difference = np.abs(piece.astype(int) - expected[rows, columns])
    assert difference.max() <= TOLERANCE, (shape, window)
    assert piece.flags.c_contiguous


@pytest.mark.parametrize("base", [None, (2048, 512), (2048, 1024)])
@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (97, 131), (1, 50), (33, 1)])
def test_shapes(shape: tuple[int, int], base: tuple[int, int] | None) -> None:
    generator = np.random.default_rng(2)
    for _ in range(20):
        factor = generator.uniform(0.3, 3) / (1 if base is None else 2)
        scaled = fitted_size(shape, base or shape[::-1], factor)
        assert_as_scaled_then_cropped(generator, shape, window_of(generator, scaled, 300))


def test_images_of_a_few_pixels_scaled_by_hundreds_and_apart_in_height_and_width() -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        height, width, tall, wide = (int(side) for side in generator.integers(1, (9, 9, 900, 900)))
        window = window_of(generator, (tall, wide), 300)
        assert_as_scaled_then_cropped(generator, (height, width), window)
    # The last source pixel alone would give 300 of the 301 rows from the place before it.
    assert_as_scaled_then_cropped(generator, (3, 3), Window((900, 900), 749, 749, 151, 151))


class Recorder(np.ndarray[Any, np.dtype[np.uint8]]):
    """Notes how many pixels are taken out of it."""

    taken: list[int]

    def __getitem__(self, key: Any) -> Any:
        part = np.asarray(self)[key]
        self.taken.append(part.shape[0] * part.shape[1])
        return part


def test_little_more_than_the_window_is_taken() -> None:
    generator = np.random.default_rng(4)
    image = np.zeros((1024, 2048, 3), np.uint8).view(Recorder)
    labels = np.zeros((1024, 2048), np.uint8).view(Recorder)
    ratios: dict[str, list[float]] = {"image": [], "labels": []}
    for _ in range(100):
        factor = generator.uniform(0.8, 2)
        scaled = (int(1024 * factor), int(2048 * factor))
        top, left = (int(generator.integers(0, side - 400)) for side in scaled)
        window = Window(scaled, top, left, 400, 400)
        image.taken, labels.taken = [], []
        crop_image(image, window)
        crop_labels(labels, window)
        least = 400 * 400 / factor**2
        ratios["image"].append(sum(image.taken) / least)
        ratios["labels"].append(sum(labels.taken) / least)
    assert max(ratios["labels"]) < 1.02
    # A place to begin at is found 64 pixels before the window, in the mean: 464² to 400².
    assert np.median(ratios["image"]) < 1.5
    assert np.mean(ratios["image"]) < 2


def is_varied(labels: Any, ratio: float, ignore: int) -> bool:
    """A plain loop over the classes."""
    counts = [int((labels == value).sum()) for value in set(labels.ravel().tolist()) - {ignore}]
    return len(counts) > 1 and max(counts) / sum(counts) < ratio


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("ignore", [255, 0, -100])
def test_the_count_of_classes_decides_as_a_plain_loop_does(ratio: float, ignore: int) -> None:
    generator = np.random.default_rng(5)
    transform = RandomScaleCrop((4, 4), cat_max_ratio=ratio, ignore_index=ignore)
    decisions = []
    for _ in range(150):
        shape = tuple(int(side) for side in generator.integers(1, 40, 2))
        values = generator.choice([0, *range(180, 256)], generator.integers(1, 60), replace=False)
        chances = generator.dirichlet(np.full(len(values), generator.choice([0.1, 1, 10])))
        labels = generator.choice(values, shape, p=chances).astype(np.uint8)
        decisions.append(is_varied(labels, ratio, ignore))
        assert transform._is_varied(labels) == decisions[-1], np.unique(labels, return_counts=True)
    assert len(set(decisions)) == 2


def test_a_class_with_just_the_share_is_too_much() -> None:
    labels = np.array([[1, 1, 1, 2], [255, 255, 255, 255]], np.uint8)
    assert not RandomScaleCrop((4, 4), cat_max_ratio=0.75)._is_varied(labels)
    assert RandomScaleCrop((4, 4), cat_max_ratio=0.76)._is_varied(labels)
    assert not RandomScaleCrop((4, 4))._is_varied(np.full((4, 4), 255, np.uint8))


def test_a_class_that_a_coarse_grid_misses_counts() -> None:
    labels = np.ones((64, 64), np.uint8)
    labels[::8] = 2
    labels[:, ::8] = 3  # all that every eighth row and column shows
    assert not RandomScaleCrop((4, 4), cat_max_ratio=0.76)._is_varied(labels)
    assert RandomScaleCrop((4, 4), cat_max_ratio=0.77)._is_varied(labels)


def test_memory_mapped_files_give_the_same_and_labels_are_cut_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(6)
    plain = {
        "image": generator.integers(0, 256, (90, 120, 3), dtype=np.uint8),
        "mask": generator.integers(0, 5, (90, 120), dtype=np.uint8),
    }
    mapped = {}
    for name, pixels in plain.items():
        (tmp_path / name).write_bytes(pixels.tobytes())
        mapped[name] = np.memmap(tmp_path / name, np.uint8, mode="r", shape=pixels.shape)
    cuts = []

    def counted(labels: Any, window: Window) -> Any:
        cuts.append(window)
        return crop_labels(labels, window)

    monkeypatch.setattr(scale_crop, "crop_labels", counted)
    pipeline = A.Compose(train_transforms((64, 64)))
    for seed in range(20):
        made = []
        for source in (plain, mapped):
            cuts.clear()
            pipeline.set_random_seed(seed)
            made.append(pipeline(**source))
            assert len(cuts) == 1  # five classes of noise: the first window is taken
        for name in plain:
            np.testing.assert_array_equal(made[0][name], made[1][name])
            assert made[1][name].dtype == np.uint8
            assert made[1][name].flags.c_contiguous
    for name, pixels in plain.items():
        assert (tmp_path / name).read_bytes() == pixels.tobytes()


def test_two_masks_are_each_their_own() -> None:
    """The labels that a window was decided on are not taken for another mask's."""
    generator = np.random.default_rng(7)
    masks = generator.integers(0, 5, (2, 60, 80), dtype=np.uint8)
    pipeline = A.Compose([RandomScaleCrop((32, 32))], additional_targets={"other": "mask"})
    image = np.zeros((60, 80, 3), np.uint8)
    made = []
    for first, second in (masks, masks[::-1]):
        pipeline.set_random_seed(1)
        made.append(pipeline(image=image, mask=first, other=second))
    np.testing.assert_array_equal(made[0]["mask"], made[1]["other"])
    np.testing.assert_array_equal(made[0]["other"], made[1]["mask"])
    assert (made[0]["mask"] != made[0]["other"]).any()
