"""Settings of the protocol: what is refused, and what it says of itself."""

import math
import re
from typing import Any

import pytest

from pne_seg.inference import Inference


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stride": (4, 4)}, "need inference.window"),
        ({"overlap": 0.5}, "need inference.window"),
        ({"window": (0, 4)}, r"\[height, width\], got \[0, 4\]"),
        ({"window": (4,)}, r"\[height, width\], got \[4\]"),
        ({"window": (4, 4), "stride": (4, 5)}, r"\[4, 5\] is longer than the window \[4, 4\]"),
        ({"window": (4, 4), "stride": (0, 4)}, r"\[down, right\], got \[0, 4\]"),
        ({"window": (4, 4), "stride": (4, 4), "overlap": 0.0}, "give one"),
        ({"window": (4, 4), "overlap": 1.0}, "below 1, got 1.0"),
        ({"blend": "soft"}, "even or gaussian, got 'soft'"),
        ({"windows_per_pass": 0}, "1 or more, got 0"),
        ({"scales": ()}, "one or more factors"),
        ({"scales": (1.0, 0.0)}, r"above 0 and up to 16, got \[1.0, 0.0\]"),
        ({"scales": (math.inf,)}, r"above 0 and up to 16, got \[inf\]"),
        ({"scales": (math.nan,)}, r"above 0 and up to 16, got \[nan\]"),
        ({"scales": (1.0, 1.0)}, "twice"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Inference(**settings)


def test_steps_between_windows() -> None:
    assert Inference(window=(512, 1024)).steps == (341, 683)
    assert Inference(window=(512, 512), overlap=0.5).steps == (256, 256)
    assert Inference(window=(3, 3), overlap=0.9).steps == (1, 1)
    assert Inference(window=(512, 512), stride=(100, 200)).steps == (100, 200)
    with pytest.raises(ValueError, match=re.escape("no windows")):
        _ = Inference().steps


def test_views_are_scales_and_their_mirror_images() -> None:
    assert Inference().views == [(1.0, False)]
    assert Inference(scales=(0.5, 1.0), flip=True).views == [
        *[(0.5, False), (0.5, True), (1.0, False), (1.0, True)]
    ]


def test_in_words() -> None:
    assert str(Inference()) == "whole images"
    assert str(Inference(scales=(0.5, 1.0, 1.75), flip=True)) == (
        "whole images; scales 0.5, 1, 1.75; and mirrored"
    )
    assert str(Inference(window=(512, 512), scales=(2.0,))) == (
        "windows of 512×512, 341×341 apart, even weight; scale 2"
    )
