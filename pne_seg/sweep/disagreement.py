"""Images that the networks of an arm and of the baseline segment most differently well."""

import math
from dataclasses import dataclass

import numpy as np

from pne_seg.data.images import Pixels
from pne_seg.errors import UserError
from pne_seg.segmenter import Segmenter
from pne_seg.sweep.comparison import Comparison
from pne_seg.sweep.results import Arm, Result
from pne_seg.trained import build_data, load_trained
from pne_seg.visualization.mosaics import shrink


@dataclass(frozen=True)
class Disagreement:
    """One test image with what the networks of one seed make of it.

    Attributes:
        arm: its name.
        image: its name.
        seed: of the networks that are shown.
        mean: difference of the image's mIoU, arm minus baseline, averaged over the shared seeds.
        miou: of the baseline's and the arm's network that are shown.
        pictures: image, label, baseline's and arm's prediction, (H, W, 3) uint8 RGB each.
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

    Args:
        comparison: of arms whose test images were scored one by one; without those, none is shown.
        per_arm: images for each arm.

    Raises:
        UserError: a network or the test data cannot be loaded.
    """
    chosen = {arm.name: _most_different(comparison, arm)[:per_arm] for arm in comparison.arms[1:]}
    if not any(chosen.values()):
        return []
    baselines: dict[int, _Tested] = {}
    found = []
    for arm in comparison.arms[1:]:
        seed = comparison.seeds(arm)[0]
        baseline = comparison.baseline.runs[seed]
        if seed not in baselines:
            baselines[seed] = _Tested(baseline)
        ours = baselines[seed]
        theirs = Segmenter(load_trained(arm.runs[seed].folder))
        for image, mean in chosen[arm.name]:
            photo, labels = ours.sample(image)
            predictions = ours.segmenter.predict(photo), theirs.predict(photo)
            photo, *maps = shrink(photo, labels, *predictions)
            label, before, after = (ours.segmenter.color(classes) for classes in maps)
            found.append(
                Disagreement(
                    arm=arm.name,
                    image=image,
                    seed=seed,
                    mean=mean,
                    miou=(baseline.images[image], arm.runs[seed].images[image]),
                    pictures=(photo, label, before, after),
                )
            )
    return found


def _most_different(comparison: Comparison, arm: Arm) -> list[tuple[str, float]]:
    differences = comparison.image_differences(arm)
    scored = [(name, value) for name, value in differences.items() if math.isfinite(value)]
    return sorted(scored, key=lambda item: (-abs(item[1]), item[0]))


class _Tested:
    """A run's trained network and the test split that it was scored on."""

    def __init__(self, result: Result) -> None:
        trained = load_trained(result.folder)
        self.segmenter = Segmenter(trained)
        self._split = build_data(trained.config, trained.imports).split("test")
        self._indices = {self._split.name(index): index for index in range(len(self._split))}

    def sample(self, name: str) -> tuple[Pixels, Pixels]:
        """Return an image and its labels."""
        if name not in self._indices:
            raise UserError(f"the test split no longer has the image {name}")
        image, labels, _ = self._split.read(self._indices[name])
        return image, np.asarray(labels)
