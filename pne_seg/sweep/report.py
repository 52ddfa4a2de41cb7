"""A comparison as one HTML page: no network, light and dark, phone and desktop."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pne_seg.errors import UserError
from pne_seg.sweep.comparison import (
    COSTS,
    Comparison,
    Table,
    arms_table,
    difference_table,
    miou_table,
    notes,
)
from pne_seg.sweep.plots import Curve, Interval, color, curve_plot, forest_plot

_STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --paper: #ffffff; --faint: #63676d;
  --line: #dcdfe3; --box: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e7e9; --paper: #16181b; --faint: #9aa0a8;
  --line: #34383e; --box: #1f2226; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem; color: var(--text);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.note, figcaption { color: var(--faint); font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
pre { background: var(--box); padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
svg { width: 100%; height: auto; max-width: 42rem; }
svg text { fill: var(--text); font-size: 14px; }
svg .tick { fill: var(--faint); } svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--faint); stroke-dasharray: 4 3; }
.arm { display: inline-block; margin-right: 1.2rem; } .arm i { display: inline-block;
  width: 0.8rem; height: 0.8rem; border-radius: 50%; margin-right: 0.4rem; }
figure { margin: 0; } .row { display: grid; gap: 0.4rem; margin-bottom: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); } .row img { width: 100%; }
"""


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
    split = {"val": "validation", "test": "test"}[comparison.split]
    arms, baseline = comparison.arms, comparison.baseline.name
    colors = [color(index) for index in range(len(arms))]
    legend = "".join(
        f'<span class="arm"><i style="background:{dot}"></i>{html.escape(arm.name)}</span>'
        for dot, arm in zip(colors, arms, strict=True)
    )
    percents = {
        name: [{step: 100 * value for step, value in curve.items()} for curve in each]
        for name, each in curves.items()
    }
    miou = [_interval(comparison, "mIoU", index, arm.name) for index, arm in enumerate(arms[1:])]
    near = "mIoU of the pixels within so many pixels of a border between classes."
    runs = [[arm.name, str(s), str(r.folder)] for arm in arms for s, r in sorted(arm.runs.items())]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{len(arms)} arms on the {split} split, in percent. Differences are to "
        f"the arm {html.escape(baseline)}, within seeds.</p>",
        _table(miou_table(comparison)),
        *map(_note, notes(comparison)),
        _table(arms_table(comparison)),
        _note(COSTS),
        "<h2>mIoU, difference to the baseline</h2>",
        _figure(forest_plot(miou, "points of mIoU", colors[1:]), "Mean and 95% interval."),
        "<h2>Validation mIoU during training</h2>",
        f"<p>{legend}</p>",
        _figure(curve_plot(percents, "validation mIoU"), "Mean over the seeds; lowest to highest."),
        *_forests(comparison, "Classes", "IoU", "IoU by class, the largest gain first."),
        *_forests(comparison, "mIoU by distance to a border", "boundary_mIoU", near),
        *_images(disagreements, baseline),
        "<h2>All metrics</h2>",
        *_all_metrics(comparison),
        "<h2>Runs</h2>",
        _table((["arm", "seed", "run"], runs)),
        f"<h2>Repeat it</h2><pre>{html.escape(command)}</pre>",
        f"<h2>Environment</h2><pre>{html.escape(environment)}</pre>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _interval(comparison: Comparison, metric: str, arm: int, name: str) -> Interval:
    paired = comparison.differences[metric][arm].paired
    return Interval(name, *(100 * value for value in (paired.mean, paired.low, paired.high)))


def _forests(comparison: Comparison, heading: str, metric: str, caption: str) -> list[str]:
    """Draw the differences of all `metric/…`, a figure for each arm."""
    names = [name for name in comparison.metrics if name.startswith(f"{metric}/")]
    if not names:
        return []
    parts = [f"<h2>{heading}, difference to the baseline</h2>"]
    for index, arm in enumerate(comparison.arms[1:]):
        rows = [_interval(comparison, name, index, name.partition("/")[2]) for name in names]
        if metric == "IoU":
            rows.sort(key=lambda row: -row.mean)
        plot = forest_plot(rows, f"points of {metric.split('_')[-1]}", [color(index + 1)])
        parts.append(_figure(plot, f"{arm.name}: {caption}"))
    return parts


def _images(disagreements: Sequence[Disagreement], baseline: str) -> list[str]:
    if not disagreements:
        return []
    parts = [
        "<h2>Images on which arms disagree most</h2>",
        "<p>By the mean difference of an image's mIoU over the seeds. Shown are the networks of "
        "one seed.</p>",
    ]
    for found in disagreements:
        before, after = (f"{100 * value:.1f}" for value in found.miou)
        captions = ["image", "label", f"{baseline}, mIoU {before}", f"{found.arm}, mIoU {after}"]
        cells = "".join(
            f'<figure><img alt="{html.escape(caption)}" src="{_data_url(picture, caption)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, picture in zip(captions, found.pictures, strict=True)
        )
        text = f"{found.image}: {100 * found.mean:+.1f} on average; seed {found.seed} is shown."
        parts.append(f'{_note(text)}<div class="row">{cells}</div>')
    return parts


def _data_url(picture: Pixels, caption: str) -> str:
    kind = "jpeg" if caption == "image" else "png"  # JPEG would blur the colors of classes
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _all_metrics(comparison: Comparison) -> list[str]:
    parts, images = [], comparison.image_notes()
    for index, arm in enumerate(comparison.arms[1:]):
        parts += [f"<h3>{html.escape(arm.name)}</h3>", _table(difference_table(comparison, index))]
        if arm.name in images:
            parts.append(_note(images[arm.name]))
    return [*parts, _note("Of dozens of metrics some intervals exclude 0 by chance.")]


def _table(table: Table) -> str:
    header, rows = table
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _figure(picture: str, caption: str) -> str:
    return (
        f'<figure><div class="wide">{picture}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


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
