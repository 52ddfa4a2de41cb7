"""Pictures for the tests, and what stands in those that were drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from pne_seg.description import DataDescription
from pne_seg.visualization.training_plots import History

PALETTE = [[250, 10, 10], [10, 250, 10], [10, 10, 250]]


def classes(
    names: Sequence[str], palette: Sequence[Sequence[int]] = PALETTE, ignore_index: int = 255
) -> DataDescription:
    colors = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
    return DataDescription("Data", tuple(names), colors, ignore_index, None)


def flat(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.findobj(Text)]


def some_history() -> History:
    steps = range(200)
    return {
        "train/loss": [(step, 2 + 0.1 * (-1) ** step) for step in steps],
        "train/loss_ce": [(step, 1.0) for step in steps],
        "val/loss": [(99, 1.5), (199, 1.4)],
        "val/mIoU": [(99, 0.25), (149, 0.5), (199, 0.4)],
    }
