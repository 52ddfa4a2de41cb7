"""Tables do what the recipe does step by step on every pixel."""

from typing import Any

import cv2
import numpy as np
import pytest
from scipy import stats

from pne_seg.data.transforms import PhotometricDistortion, mild_colors

PARTS: dict[str, Any] = {
    **{"added": None, "contrast": None, "saturation": None, "turn": None},
    "contrast_first": True,
}


def picture(seed: int) -> Any:
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (64, 48), interpolation=cv2.INTER_LINEAR)


def whole(values: Any) -> Any:
    """To uint8 as the published code does: clipped, fractions cut off."""
    return np.clip(values, 0, 255).astype(np.uint8)


def step_by_step(image: Any, parts: dict[str, Any]) -> Any:
    """The published order, each step to whole numbers, each color step with its own way back."""
    if parts["added"] is not None:
        image = whole(image.astype(np.float64) + parts["added"])
    if parts["contrast"] is not None and parts["contrast_first"]:
        image = whole(image.astype(np.float64) * parts["contrast"])
    if parts["saturation"] is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = whole(hsv[..., 1].astype(np.float64) * parts["saturation"])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if parts["turn"] is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + parts["turn"]) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if parts["contrast"] is not None and not parts["contrast_first"]:
        image = whole(image.astype(np.float64) * parts["contrast"])
    return image


@pytest.mark.parametrize("contrast_first", [True, False])
@pytest.mark.parametrize(
    "chosen",
    [
        {"added": 31.7},
        {"added": -32.0},
        {"contrast": 0.5},
        {"contrast": 1.49},
        {"added": 20.2, "contrast": 1.3},
        {"added": -20.2, "contrast": 0.7},
        {},
    ],
)
def test_brightness_and_contrast_are_exact(chosen: dict[str, Any], contrast_first: bool) -> None:
    parts = {**PARTS, **chosen, "contrast_first": contrast_first}
    for seed in range(5):
        image = picture(seed)
        before = image.copy()
        np.testing.assert_array_equal(
            PhotometricDistortion().apply(image, **parts), step_by_step(image, parts)
        )
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("chosen", "tolerance"),
    [
        ({"saturation": 0.5}, 0),
        ({"saturation": 1.5}, 0),
        ({"turn": 18}, 0),
        ({"turn": -18}, 0),
        ({"turn": 5, "contrast": 1.4, "contrast_first": False, "added": 12.0}, 0),
        # One way to hue and back in place of two: each rounds to 180 hues and 256 saturations.
        ({"saturation": 1.2, "turn": 7}, 8),
        ({"saturation": 0.6, "turn": -12, "contrast": 1.3, "added": -9.5}, 8),
    ],
)
def test_colors(chosen: dict[str, Any], tolerance: int) -> None:
    parts = {**PARTS, **chosen}
    for seed in range(5):
        image = picture(seed)
        made = PhotometricDistortion().apply(image, **parts).astype(int)
        expected = step_by_step(image, parts)
        assert np.abs(made - expected).max() <= tolerance
        assert np.abs(made - expected).mean() <= tolerance / 4


def test_each_part_is_drawn_half_of_the_time_and_evenly() -> None:
    transform = PhotometricDistortion()
    transform.set_random_seed(3)
    drawn = [transform.get_params() for _ in range(4000)]
    for name, (low, width) in {
        "added": (-32, 64),
        "contrast": (0.5, 1.0),
        "saturation": (0.5, 1.0),
    }.items():
        values = [parts[name] for parts in drawn if parts[name] is not None]
        assert stats.binomtest(len(values), 4000, 0.5).pvalue > 0.001
        assert stats.kstest(values, stats.uniform(low, width).cdf).pvalue > 0.001
    turns = [parts["turn"] for parts in drawn if parts["turn"] is not None]
    assert set(turns) == set(range(-18, 19))
    first = sum(parts["contrast_first"] for parts in drawn)
    assert stats.binomtest(first, 4000, 0.5).pvalue > 0.001
    # The parts are drawn by themselves: all four come together one time in sixteen.
    together = sum(all(parts[n] is not None for n in PARTS) for parts in drawn)
    assert stats.binomtest(together, 4000, 1 / 16).pvalue > 0.001


def test_mild_colors_are_half_as_strong() -> None:
    mild = mild_colors()
    assert (mild.brightness, mild.hue) == (16, 9)
    assert mild.contrast == mild.saturation == (0.75, 1.25)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"brightness": -1}, "brightness"),
        ({"contrast": (1.5, 0.5)}, "contrast"),
        ({"saturation": (-1.0, 0.5)}, "saturation"),
        ({"hue": 90}, "hue"),
        ({"p_part": 1.1}, "p_part"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PhotometricDistortion(**settings)
