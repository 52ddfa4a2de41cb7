"""Images that the networks of an arm and of the baseline segment most differently well."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.segmenter import Segmenter
from pne_seg.sweep.comparison import Comparison
from pne_seg.trained import build_data, load_trained
from pne_seg.visualization.mosaics import shrink


@dataclass(frozen=True)
class Disagreement:
    """One test image with what the networks of one seed make of it.

    `mean` is the difference of its mIoU over the shared seeds, arm minus baseline; `miou` that of
    the baseline's and the arm's network, whose predictions are the last two pictures, after image
    and label, (H, W, 3) uint8 RGB each.
    """

    arm: str
    image: str
    seed: int
    mean: float
    miou: tuple[float, float]
    pictures: tuple[Pixels, Pixels, Pixels, Pixels]


def largest_disagreements(comparison: Comparison, per_arm: int = 2) -> list[Disagreement]:
    """Predict the images whose mIoU differs most between an arm and the baseline.

    They are chosen by the mean over the shared seeds, and shown by the networks of the first one.
    Without images that were scored one by one, none is shown.
    """
    tested: dict[int, tuple[Segmenter, Any, dict[str, int]]] = {}
    found = []
    for arm in comparison.arms[1:]:
        means = [item for item in comparison.image_differences(arm).items() if isfinite(item[1])]
        if not means:
            continue
        seed = comparison.seeds(arm)[0]
        baseline = comparison.baseline.runs[seed]
        if seed not in tested:
            trained = load_trained(baseline.folder)
            split = build_data(trained.config, trained.imports).split("test")
            indices = {split.name(index): index for index in range(len(split))}
            tested[seed] = Segmenter(trained), split, indices
        ours, split, indices = tested[seed]
        theirs = Segmenter(load_trained(arm.runs[seed].folder))
        means.sort(key=lambda item: (-abs(item[1]), item[0]))
        for image, mean in means[:per_arm]:
            if image not in indices:
                raise UserError(f"the test split no longer has the image {image}")
            photo, labels, _ = split.read(indices[image])
            predictions = ours.predict(photo), theirs.predict(photo)
            photo, *maps = shrink(photo, np.asarray(labels), *predictions)
            label, before, after = map(ours.color, maps)
            miou = baseline.images[image], arm.runs[seed].images[image]
            pictures = (photo, label, before, after)
            found.append(Disagreement(arm.name, image, seed, mean, miou, pictures))
    return found
