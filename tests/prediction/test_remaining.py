"""Batches to predict: dealt out once, no larger than memory likes, without what cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pne_seg.data.samples import SameSizeBatches, Sample
from pne_seg.errors import UserError
from pne_seg.prediction.input_data import MOST_PIXELS, InputDataset, RemainingView
from pne_seg.prediction.inputs import find_inputs
from tests.data.noise import Noise

SIZES = [(10, 10), (10, 10), (20, 20), (10, 10), (20, 20), (10, 10), (90, 90), (90, 90)]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (None, [[0, 1, 3, 5], [2, 4], [6, 7]]),
        (399, [[0, 1, 3], [2], [4], [5], [6], [7]]),
        (400, [[0, 1, 3, 5], [2], [4], [6], [7]]),
        (800, [[0, 1, 3, 5], [2, 4], [6], [7]]),
    ],
)
def test_a_batch_has_no_more_pixels_than_allowed(
    most: int | None, expected: list[list[int]]
) -> None:
    source = Noise(len(SIZES), SIZES)
    sampler = SameSizeBatches(source, 4, SIZES.__getitem__, most_pixels=most)  # type: ignore[arg-type]
    assert sorted(sampler) == expected
    assert len(sampler) == len(expected)


def test_four_images_of_cityscapes_make_a_batch() -> None:
    assert MOST_PIXELS == 4 * 1024 * 2048


class Changing(Noise):
    """The second image is gone, the third another than its header said."""

    def read(self, index: int) -> Sample:
        if index == 1:
            raise UserError("noise_1 is gone")
        sample = super().read(index)
        return sample._replace(source_size=(9, 9)) if index == 2 else sample


def test_what_cannot_be_read_is_left_out() -> None:
    view = RemainingView(Changing(6), [5, 1, 2, 3], (16, 12), keep_images=True)
    batch = view[[0, 1, 2, 3]]
    assert batch["index"] == [5, 3]
    assert batch["name"] == ["noise_5", "noise_3"]
    assert batch["image"].shape == (2, 3, 12, 16)
    assert [number for number, _ in batch["unreadable"]] == [1, 2]
    assert "noise_1 is gone" in batch["unreadable"][0][1]
    assert "its size changed meanwhile" in batch["unreadable"][1][1]
    for index, picture in zip(batch["index"], batch["picture"], strict=True):
        np.testing.assert_array_equal(picture, Noise(6).read(index).image)
    empty = view[[1]]
    assert len(empty["image"]) == 0
    assert empty["index"] == empty["picture"] == []


def test_sizes_are_asked_without_fear(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"junk")
    (tmp_path / "c.mp4").write_bytes(b"junk")
    source = InputDataset(find_inputs(str(tmp_path)))
    view = RemainingView(source, range(len(source)), None, keep_images=False)
    assert [view.size(place) for place in range(3)] == [(5, 7), (0, 0), (0, 0)]
    assert [source.name(index) for index in range(3)] == ["a", "b", "c/000000"]
