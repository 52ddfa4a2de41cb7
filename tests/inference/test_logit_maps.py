"""Scores by bands of rows against whole tensors and plain loops."""

import pytest
import torch
import torch.nn.functional as F

from pne_seg.inference import logit_maps, resize_logits
from pne_seg.inference.logit_maps import LogitMap, computed, cut, mirrored, resized, stitched
from tests.inference.plain import plain_bilinear

SIZES = [(6, 10), (9, 4), (2, 3), (3, 5), (1, 1), (13, 5), (3, 11)]


@pytest.fixture(params=[1, 50, 10**9])
def _band(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_maps, "_BAND_ELEMENTS", request.param)
    monkeypatch.setattr(logit_maps, "_BAND_ROWS", 1)


def by_bands(scores: LogitMap) -> torch.Tensor:
    bands, expected = [], 0
    for rows, band in scores.bands():
        assert rows.start == expected
        assert band.shape[-2:] == (rows.stop - rows.start, scores.size[1])
        expected = rows.stop
        bands.append(band)
    assert expected == scores.size[0]
    return torch.cat(bands, 2)


@pytest.mark.parametrize("size", SIZES)
def test_resize_equals_plain_bilinear(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 4, 3, 5)
    actual = resize_logits(logits, size)
    torch.testing.assert_close(actual.double(), plain_bilinear(logits, *size), rtol=0, atol=1e-5)


def test_resize_by_hand_and_none_where_it_fits() -> None:
    doubled = resize_logits(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    assert doubled.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    logits = torch.randn(1, 2, 3, 4)
    assert resize_logits(logits, [3, 4]) is logits


@pytest.mark.usefixtures("_band")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", [(3, 5), (1, 4), (8, 8), (7, 1)])
def test_resized_bands_equal_the_whole(
    source: tuple[int, int], size: tuple[int, int], align_corners: bool
) -> None:
    scores = torch.randn(2, 4, *source)
    actual = by_bands(resized(computed(scores), size, align_corners))
    expected = F.interpolate(scores, size=size, mode="bilinear", align_corners=align_corners)
    torch.testing.assert_close(actual, expected, rtol=0, atol=3e-6)


@pytest.mark.usefixtures("_band")
def test_a_chain_of_steps_equals_the_whole() -> None:
    scores = torch.randn(1, 3, 4, 6)
    chain = resized(mirrored(cut(resized(computed(scores), (16, 24)), (13, 21))), (29, 17))
    whole = F.interpolate(scores, size=(16, 24), mode="bilinear")[..., :13, :21].flip(-1)
    expected = F.interpolate(whole, size=(29, 17), mode="bilinear")
    torch.testing.assert_close(by_bands(chain), expected, rtol=0, atol=3e-6)


@pytest.mark.usefixtures("_band")
def test_stitched_windows_are_their_weighted_mean() -> None:
    weight = torch.rand(4, 3) + 0.1
    places = [(0, 0), (0, 2), (3, 0), (3, 2)]
    parts = [torch.randn(2, 3, 4, 3) for _ in places]
    total, weights = torch.zeros(2, 3, 7, 5), torch.zeros(7, 5)
    for (top, left), part in zip(places, parts, strict=True):
        for row in range(4):
            for column in range(3):
                total[:, :, top + row, left + column] += (
                    part[:, :, row, column] * weight[row, column]
                )
                weights[top + row, left + column] += weight[row, column]
    tiles = [(*place, computed(part)) for place, part in zip(places, parts, strict=True)]
    actual = by_bands(stitched(tiles, (7, 5), weight))
    torch.testing.assert_close(actual, total / weights)


def test_half_precision_is_enlarged_in_single() -> None:
    scores = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16)
    actual = resized(computed(scores), (8, 8)).rows(0, 8)
    assert actual.dtype == torch.float32
    expected = F.interpolate(scores.float(), size=(8, 8), mode="bilinear")
    torch.testing.assert_close(actual, expected, rtol=0, atol=3e-6)


def test_only_the_rows_that_are_needed_are_computed() -> None:
    asked = 0
    source = computed(torch.randn(1, 2, 64, 8))

    def watched(start: int, stop: int) -> torch.Tensor:
        nonlocal asked
        asked += stop - start
        return source.rows(start, stop)

    resized(LogitMap(source.size, watched), (256, 32)).rows(100, 108)
    assert 0 < asked <= 4
