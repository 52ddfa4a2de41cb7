"""The colors of folders: told apart by the eye, by the color difference CIEDE2000."""

import cv2
import numpy as np
import pytest

from pne_seg.data.classes import distinct_colors


def ciede2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The difference of colors (..., 3) in CIELAB, as Sharma, Wu and Dalal (2005) write it."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    c1, c2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, stretch * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = np.radians(h1 + turn / 2)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * np.cos(hue - np.radians(30)) + 0.24 * np.cos(2 * hue)
    t += 0.32 * np.cos(3 * hue + np.radians(6)) - 0.20 * np.cos(4 * hue - np.radians(63))
    away = (np.degrees(hue) % 360 - 275) / 25
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    rotation *= np.sin(np.radians(60 * np.exp(-(away**2))))
    lightness = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    saturation = (c2 - c1) / (1 + 0.045 * chroma)
    hues = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    return np.asarray(
        np.sqrt(lightness**2 + saturation**2 + hues**2 + rotation * saturation * hues)
    )


def lab(colors: object) -> np.ndarray:
    image = np.asarray(colors, np.float32)[None] / 255
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab)[0], np.float64)


def test_the_difference_is_that_of_the_published_pairs() -> None:
    one = np.array([[50, 2.6772, -79.7751], [50, 2.5, 0], [22.7233, 20.0904, -46.694]])
    other = np.array([[50, 0, -82.7485], [73, 25, -18], [23.0331, 14.973, -42.5619]])
    assert ciede2000(one, other) == pytest.approx([2.0425, 27.1492, 2.0373], abs=1e-4)


@pytest.mark.parametrize(("count", "least"), [(8, 29), (11, 25), (20, 19), (40, 14)])
def test_colors_are_told_apart_from_each_other_and_from_black_and_white(
    count: int, least: float
) -> None:
    # Sky and car of eleven classes were 9 apart.
    colors = distinct_colors(count)
    assert len(colors) == count
    places = lab(colors)
    differences = ciede2000(places[:, None], places[None])
    assert differences[~np.eye(count, dtype=bool)].min() > least
    for ignored in ((0, 0, 0), (255, 255, 255)):
        assert ciede2000(places, lab([ignored])).min() > 15


def test_a_further_class_keeps_the_colors() -> None:
    longest = distinct_colors(200)
    assert all(distinct_colors(count) == longest[:count] for count in (1, 7, 40, 41, 150))
    assert np.array(longest).shape == (200, 3)
    assert 0 <= np.min(longest) <= np.max(longest) <= 255
