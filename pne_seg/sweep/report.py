"""A comparison as one HTML page: no network, light and dark, phone and desktop."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pne_seg.description import SPLIT_NAMES
from pne_seg.errors import UserError
from pne_seg.page import data_url, render
from pne_seg.page.plots import Curve, Interval, color, curve_plot, forest_plot
from pne_seg.sweep.comparison import (
    COSTS,
    Comparison,
    arms_table,
    difference_table,
    miou_table,
    notes,
)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Disagreement:
    """One test image with what the networks of one seed make of it."""

    arm: str
    image: str
    seed: int
    mean: float  # difference of its mIoU over the shared seeds, arm minus baseline
    miou: tuple[float, float]  # of the baseline's and the arm's network
    pictures: tuple[Pixels, Pixels, Pixels, Pixels]  # image, label, their predictions


def report_html(
    comparison: Comparison,
    title: str,
    curves: Mapping[str, Sequence[Curve]],
    disagreements: Sequence[Disagreement],
    command: str,
    environment: str,
) -> str:
    """Return the page.

    `curves` is the validation mIoU of each arm's seeds by step, as fractions; `command` repeats the
    comparison.
    """
    arms, baseline = comparison.arms, comparison.baseline.name
    colors = [color(index) for index in range(len(arms))]
    percents = {
        name: [{step: 100 * value for step, value in curve.items()} for curve in each]
        for name, each in curves.items()
    }
    miou = [_interval(comparison, "mIoU", index, arm.name) for index, arm in enumerate(arms[1:])]
    near = "mIoU of the pixels within so many pixels of a border between classes."
    runs = [[arm.name, str(s), str(r.folder)] for arm in arms for s, r in sorted(arm.runs.items())]
    images_notes = comparison.image_notes()
    return render(
        "sweep.html",
        title=title,
        split=SPLIT_NAMES[comparison.split],
        arms=list(zip([arm.name for arm in arms], colors, strict=True)),
        baseline=baseline,
        miou=miou_table(comparison),
        notes=notes(comparison),
        costs=arms_table(comparison),
        costs_note=COSTS,
        differences=forest_plot(miou, "points of mIoU", colors[1:]),
        curves=curve_plot(percents, "validation mIoU"),
        forests=[
            ("Classes", _forests(comparison, "IoU", "IoU by class, the largest gain first.")),
            ("mIoU by distance to a border", _forests(comparison, "boundary_mIoU", near)),
        ],
        images=[_pictures(found, baseline) for found in disagreements],
        all_metrics=[
            (arm.name, difference_table(comparison, index), images_notes.get(arm.name))
            for index, arm in enumerate(arms[1:])
        ],
        runs=(["arm", "seed", "run"], runs),
        command=command,
        environment=environment,
    )


def _interval(comparison: Comparison, metric: str, arm: int, name: str) -> Interval:
    paired = comparison.differences[metric][arm].paired
    return Interval(name, *(100 * value for value in (paired.mean, paired.low, paired.high)))


def _forests(comparison: Comparison, metric: str, caption: str) -> list[tuple[str, str]]:
    """Draw the differences of all `metric/…`, a plot with its caption for each arm."""
    names = [name for name in comparison.metrics if name.startswith(f"{metric}/")]
    plots = []
    for index, arm in enumerate(comparison.arms[1:] if names else []):
        rows = [_interval(comparison, name, index, name.partition("/")[2]) for name in names]
        if metric == "IoU":
            rows.sort(key=lambda row: -row.mean)
        plot = forest_plot(rows, f"points of {metric.split('_')[-1]}", [color(index + 1)])
        plots.append((plot, f"{arm.name}: {caption}"))
    return plots


def _pictures(found: Disagreement, baseline: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the text on an image, and its pictures with their captions."""
    before, after = (f"{100 * value:.1f}" for value in found.miou)
    captions = ["image", "label", f"{baseline}, mIoU {before}", f"{found.arm}, mIoU {after}"]
    photo, *maps = found.pictures
    sources = [data_url(photo, "jpeg"), *(data_url(picture, "png") for picture in maps)]
    text = f"{found.image}: {100 * found.mean:+.1f} on average; seed {found.seed} is shown."
    return text, list(zip(captions, sources, strict=True))


def largest_disagreements(comparison: Comparison, per_arm: int = 2) -> list[Disagreement]:
    """Predict the images whose mIoU differs most between an arm and the baseline.

    They are chosen by the mean over the shared seeds, and shown by the networks of the first one.
    Without images that were scored one by one, none is shown.
    """
    from pne_seg.segmenter import Segmenter
    from pne_seg.trained import build_data, load_trained
    from pne_seg.visualization.mosaics import shrink

    tested: dict[int, tuple[Segmenter, Any, dict[str, int]]] = {}
    found = []
    for arm in comparison.arms[1:]:
        means = [
            item for item in comparison.image_differences(arm).items() if math.isfinite(item[1])
        ]
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
