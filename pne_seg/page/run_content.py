"""The page of a run, `report.html`, from its folder, plain facts and some images."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pne_seg.description import SPLIT_NAMES, DataDescription
from pne_seg.metrics import SegmentationMetrics, percent
from pne_seg.page import data_url, render
from pne_seg.page.plots import Span, band_plot, color
from pne_seg.runs import Run, read_history
from pne_seg.visualization.colors import Labels, Pixels, color_labels, error_map
from pne_seg.visualization.confusion_plot import label_percent, largest_confusions
from pne_seg.visualization.mosaics import shown_classes, shrink

PAGE = "report.html"

_BOX = (480, 360)  # width and height that an image is fitted into, pixels
_MOST_SPANS = 200  # of a curve; neighboring values are merged
_LARGEST_MATRIX = 24  # classes
_LARGEST_CONFUSIONS = 8
_FACTS = re.compile(r'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)
_CURVES = (
    ("Losses", r"(train/loss(_.*)?|val/loss)"),
    ("Validation mIoU (%)", r"val/mIoU"),
    ("Anchors and pairs of the contrast", r"train/contrast_(anchors|pairs)"),
    ("Share of the pixels that the contrast reads (%)", r"train/contrast_used"),
    ("Gradients into the feature, L2 norm", r"train/gradient_.*"),
    ("Cosines of embeddings", r"val/embedding_.*"),
    ("Cosines of features", r"val/feature_.*"),
)
"""Titles of the plots, and the logged values that each shows."""


@dataclass(frozen=True)
class ShownImage:
    """An image with its labels and its prediction, fitted into a box, all of one size."""

    name: str
    pixel_accuracy: float
    image: Pixels
    labels: Labels
    prediction: Labels

    @classmethod
    def of(cls, name: str, image: Pixels, labels: Labels, prediction: Labels, ignore: int) -> Any:
        """Shrink an image and its maps of full size."""
        right = (labels == prediction)[labels != ignore]
        accuracy = float(right.mean()) if right.size else math.nan
        return cls(name, accuracy, *shrink(image, labels, prediction, box=_BOX))


Group = tuple[str, str, Sequence[ShownImage]]
"""Images of the page, with a heading and a text."""


def read_facts(folder: Path) -> dict[str, Any] | None:
    """Return the facts that a run's page was made from; None if there is no page."""
    file = folder / PAGE
    found = _FACTS.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    facts = json.loads(found[1]) if found else None
    return facts if isinstance(facts, dict) else None


def run_html(folder: Path, facts: Mapping[str, Any], groups: Sequence[Group]) -> str:
    """Return the page of the run in a folder.

    `facts` are plain values, which the page also keeps for `read_facts`; `facts["val"]` and
    `facts["test"]`, if there, hold the (C, C) counts of an evaluation and its protocol in words.
    """
    data = DataDescription.from_dict(facts["data"])
    metrics = {
        split: SegmentationMetrics.from_matrix(torch.tensor(facts[split]["matrix"]))
        for split in SPLIT_NAMES
        if facts.get(split)
    }
    environment = _text(Run(folder).environment)
    machine, _, packages = environment.partition("\n\n")
    command = re.search(r"^command: (.*)$", machine, re.MULTILINE)
    latest = SPLIT_NAMES[[*metrics][-1]] if metrics else ""
    return render(
        "run.html",
        title=f"{facts['name']} {facts['version']}",
        facts=facts,
        command=command[1] if command else "",
        cards=_cards(facts, metrics),
        curves=_curves(folder, facts.get("resumed_run")),
        splits=[SPLIT_NAMES[split] for split in metrics],
        classes=_class_rows(data, metrics),
        latest=latest,
        confusion=_confusion(data, [*metrics.values()][-1]) if metrics else None,
        pictures=_pictures(folder, data),
        protocols=[facts[split]["protocol"] for split in metrics],
        groups=[
            (heading, text, _legend(images, data), [_example(image, data) for image in images])
            for heading, text, images in groups
            if images
        ],
        data=_data_rows(facts, data, metrics),
        config=_text(Run(folder).config),
        machine=machine,
        packages=packages,
    )


def duration(seconds: float) -> str:
    """Write seconds as `42 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _cards(facts: Mapping[str, Any], metrics: Mapping[str, SegmentationMetrics]) -> list[Any]:
    """Return the headline: names, values and notes."""
    cards = []
    if "test" in metrics:
        cards.append(("test mIoU", f"{percent(metrics['test'].miou)}%", ""))
    if "val" in metrics:
        when = facts["val"]["when"]
        note = f"epoch {when['epoch']}, step {when['step']}" if when else ""
        cards.append(("best validation mIoU", f"{percent(metrics['val'].miou)}%", note))
    if metrics:
        split, last = [*metrics.items()][-1]
        note = f"{SPLIT_NAMES[split]} split"
        cards.append(("pixel accuracy", f"{percent(last.pixel_accuracy)}%", note))
    trained = f"{facts['steps']:,} steps, {facts['epochs']} epochs"
    cards.append(("training", duration(facts["seconds"]), trained))
    cards.append(("seed", str(facts["seed"]), facts["began"]))
    return cards


def _curves(folder: Path, resumed_run: str | None) -> list[Any]:
    """Return titles, legends, plots and captions, of the run and of the one that it resumed."""
    history = read_history(folder)
    before = read_history(Path(resumed_run)) if resumed_run else {}
    plots = []
    for title, pattern in _CURVES:
        names = [name for name in history if re.fullmatch(pattern, name)]
        scale = 100 if title.endswith("(%)") else 1
        lines = {}
        for name in names:
            start = history[name][0][0]
            points = [p for p in before.get(name, ()) if p[0] < start] + history[name]
            spans = _spans([(s, scale * v) for s, v in points if math.isfinite(v)])
            if spans:
                lines[name] = spans
        if lines:
            legend = [(name, color(index)) for index, name in enumerate(lines)]
            plot = band_plot([*lines.values()], title, focus=title == "Losses")
            caption = ""
            if "val/mIoU" in lines:
                step, _, _, most = max(lines["val/mIoU"], key=lambda span: span.high)
                caption = f"Highest: {most:.2f}% at step {step:,}."
            plots.append((title, legend if len(legend) > 1 else [], plot, caption))
    return plots


def _spans(points: Sequence[tuple[float, float]]) -> list[Span]:
    """Merge neighboring points so that a curve of any length stays small."""
    each = max(1, math.ceil(len(points) / _MOST_SPANS))
    chunks = [points[start : start + each] for start in range(0, len(points), each)]
    spans = []
    for chunk in chunks:
        steps, values = zip(*chunk, strict=True)
        spans.append(Span(steps[-1], min(values), sum(values) / len(values), max(values)))
    return spans


def _class_rows(data: DataDescription, metrics: Mapping[str, SegmentationMetrics]) -> list[Any]:
    """Return name, color, IoU of each split, accuracy and share of the latest; the best first."""
    if not metrics:
        return []
    last = [*metrics.values()][-1]
    rows = []
    for index, name in enumerate(data.class_names):
        ious = [percent(float(of.iou[index])) for of in metrics.values()]
        numbers = [percent(float(of[index])) for of in (last.accuracy, last.pixel_share)]
        rows.append((name, _hex(data.palette[index]), ious, *numbers))
    order = np.argsort(-np.nan_to_num(last.iou.numpy(), nan=-1), kind="stable")
    return [rows[index] for index in order]


def _confusion(data: DataDescription, metrics: SegmentationMetrics) -> Any:
    """Return the largest confusions, and the rows of the matrix in percent if it is small."""
    shares, names = label_percent(metrics.matrix.numpy().astype(float)), data.class_names
    largest = [
        (names[row], names[column], f"{shares[row, column]:.1f}")
        for row, column in largest_confusions(shares, _LARGEST_CONFUSIONS)
    ]
    if len(names) > _LARGEST_MATRIX:
        return {"largest": largest, "names": names, "rows": []}
    rows = [
        # Colors by the square root, or confusions of a few percent would not show.
        [(f"{v:.1f}" if v >= 0.05 else "", round(10 * math.sqrt(v))) for v in row]
        for row in np.nan_to_num(shares)
    ]
    return {"largest": largest, "names": names, "rows": list(zip(names, rows, strict=True))}


def _pictures(folder: Path, data: DataDescription) -> list[tuple[str, str]]:
    """Return figures of the run that the page does not draw itself."""
    shown = {"embeddings": "Embeddings, at first and at last"}
    if len(data.class_names) > _LARGEST_MATRIX:
        shown["confusion_matrix"] = "Confusion"
    files = {folder / "figures" / f"{name}.png": title for name, title in shown.items()}
    return [
        (title, f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}")
        for file, title in files.items()
        if file.is_file()
    ]


def _example(shown: ShownImage, data: DataDescription) -> dict[str, Any]:
    """Return an image as the page shows it, with its maps and its wrong pixels."""
    ignore = data.ignore_index
    maps = [color_labels(of, data.palette, ignore) for of in (shown.labels, shown.prediction)]
    wrong = error_map(shown.image, shown.labels, shown.prediction, ignore)
    return {
        "name": shown.name,
        "accuracy": percent(shown.pixel_accuracy),
        "size": shown.image.shape[1::-1],
        "photo": data_url(shown.image, "jpeg"),
        "label": data_url(maps[0], "png"),
        "prediction": data_url(maps[1], "png"),
        "wrong": data_url(wrong, "jpeg"),
    }


def _legend(images: Sequence[ShownImage], data: DataDescription) -> list[tuple[str, str]]:
    maps = [of for shown in images for of in (shown.labels, shown.prediction)]
    return [(name, _hex(mark)) for name, mark in shown_classes(maps, data)]


def _data_rows(
    facts: Mapping[str, Any], data: DataDescription, metrics: Mapping[str, SegmentationMetrics]
) -> list[tuple[str, str]]:
    rows = [("data set", data.data)]
    rows += [(f"{split} images", f"{count:,}") for split, count in facts["splits"].items()]
    rows.append(("classes", f"{len(data.class_names)}, ignored label {data.ignore_index}"))
    if facts.get("batch"):
        images, height, width = facts["batch"]
        rows.append(("training batch", f"{images} images of {width}×{height} pixels"))
    rows += [
        (f"labeled {SPLIT_NAMES[split]} pixels", f"{int(of.matrix.sum()):,}")
        for split, of in metrics.items()
    ]
    return rows


def _hex(mark: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*mark)
