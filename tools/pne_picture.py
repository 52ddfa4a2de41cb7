"""Draw docs/images/pne_*.png: an image, its wrong pixels, the pairs that PNE draws, the result.

    python -m tools.pne_picture

trains as the README's first command does, and draws one validation image as the network sees it
after a few steps and at the end. The pairs are those that the loss itself selects, with fewer
samples than in training, so that their lines can be told apart.
"""

import argparse
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from torch import Tensor

import pne_seg
from pne_seg import PNELoss
from pne_seg.cli import main as run_command
from pne_seg.contrast import Pairs, prepare
from pne_seg.data import Scenes
from pne_seg.feature_hooks import find_classifier
from pne_seg.visualization.colors import RIGHT, error_map, overlay

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "scenes_upernet_resnet18.yaml"
EARLY = 100
"""Step of the early network, of 200."""
SAMPLES = 4
"""Per set; training takes 100."""
MOST_PAIRS = 2
PULL, PUSH = "#1fd286", "#ff5a4a"
ANCHOR: Any = {"color": "white", "marker": "o", "markersize": 4.4, "markeredgecolor": "black",
               "markeredgewidth": 0.7, "linestyle": "none"}  # fmt: skip


def main() -> None:
    """Train, unless given a run with checkpoints, and draw for light and dark pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="of an earlier call, with its checkpoints")
    parser.add_argument("--image", type=int, default=36, help="of the validation split")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = given.run or _train(Path(scratch))
        sample = Scenes(val_size=60).dataset("val").read(given.image)
        (early,) = run.glob(f"checkpoints/*step={EARLY}.ckpt")
        for theme, colors in (("light", ("#ffffff", "#1f2328")), ("dark", ("#0d1117", "#e6edf3"))):
            torch.manual_seed(0)
            figure = _draw(sample.image, sample.labels, early, run, *colors)
            drawn = io.BytesIO()
            figure.savefig(drawn, dpi=200, facecolor=colors[0])
            picture = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            picture.save(given.output / f"pne_{theme}.png", optimize=True)


def _train(folder: Path) -> Path:
    steps = ["--trainer.callbacks", "ModelCheckpoint", "--trainer.callbacks.save_top_k", "-1"]
    steps += ["--trainer.callbacks.every_n_train_steps", str(EARLY)]
    os.chdir(folder)
    run_command(["fit", "--config", str(CONFIG), *steps])
    return folder / "runs" / CONFIG.stem / "0"


def _draw(
    image: Any, labels: Any, early: Path, run: Path, background: str, foreground: str
) -> Figure:
    before, after = pne_seg.load(early, device="cpu"), pne_seg.load(run, device="cpu")
    ignored = before.trained.data.ignore_index
    wrong = error_map(image, labels, before.predict(image), ignored)
    wrong[labels == ignored] = RIGHT
    result = overlay(image, after.predict(image), after.palette, ignored, opacity=0.6)
    logits = _logits(before.trained, image)
    target = torch.from_numpy(np.asarray(labels, np.int64))[None]
    loss = PNELoss(num_samples=SAMPLES, ignore_index=ignored, sampling="random")
    every = PNELoss(num_samples=loss.sampler.max_anchors, ignore_index=ignored)
    inputs = prepare(logits, logits, target)
    sizes = every.select(*inputs).pairs.count
    pairs = loss.select(*inputs).pairs
    largest = sizes[: pairs.num_pairs].argsort(descending=True, stable=True)[:MOST_PAIRS]

    figure = Figure((8, 2.02), facecolor=background)
    edges = {"left": 0, "right": 1, "bottom": 0.135, "top": 0.885, "wspace": 0.015}
    row = figure.subplots(1, 4, gridspec_kw=edges)
    titles = ("image", f"wrong pixels, step {EARLY}", "pairs of PNE", "classes, step 200")
    for axes, title, shown in zip(row, titles, (image, wrong, image, result), strict=True):
        axes.set_axis_off()
        axes.imshow(shown, interpolation="nearest" if shown is wrong else "bicubic")
        axes.set_title(title, fontsize=10, color=foreground, pad=4)
    _draw_pairs(row[2], image, pairs, largest, logits.shape[-2:], image.shape[:2])
    figure.legend(
        [
            Line2D([], [], **ANCHOR),
            Line2D([], [], color=PULL, marker="o", markersize=4, linewidth=1.6),
            Line2D([], [], color=PUSH, marker="o", markersize=4, linewidth=1.6),
        ],
        [
            "wrong pixel",
            "pulled to right pixels of its class",
            "pushed from right pixels of the class it was taken for",
        ],
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=foreground,
        borderaxespad=0.1,
        borderpad=0,
        handlelength=1.6,
        columnspacing=1.6,
    )
    return figure


def _logits(trained: Any, image: Any) -> Tensor:
    """Return the classifier's logits (1, C, h, w), which the loss reads."""
    _, name = find_classifier(trained.network)
    kept: list[Tensor] = []
    classifier = trained.network.get_submodule(name)
    handle = classifier.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        trained.network(trained.preprocessing(torch.from_numpy(image).movedim(2, 0)[None]))
    handle.remove()
    return kept[0]


def _draw_pairs(
    axes: Axes,
    image: Any,
    pairs: Pairs,
    chosen: Tensor,
    grid: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Draw pairs on the dimmed image: each anchor to its positives and negatives."""
    gray = (image @ [0.299, 0.587, 0.114])[..., None].repeat(3, 2)
    axes.imshow((20 + 0.4 * gray).astype(np.uint8), interpolation="bicubic")

    def places(samples: Tensor) -> Any:
        """Return (n, 2) columns and rows of the image, at the middle of the grid's pixels."""
        pixels = pairs.pixels[samples].numpy()
        at = np.stack([pixels % grid[1], pixels // grid[1]], 1) + 0.5
        return at * [size[1] / grid[1], size[0] / grid[0]] - 0.5

    sets = torch.arange(pairs.num_pairs)
    for anchors, right, other in zip(
        pairs.grid(sets)[chosen],
        pairs.grid(pairs.positives)[chosen],
        pairs.grid(pairs.negatives)[chosen],
        strict=True,
    ):
        starts = places(anchors)
        for ends, color in ((places(other), PUSH), (places(right), PULL)):
            lines = [(start, end) for start in starts for end in ends]
            axes.add_collection(LineCollection(lines, colors=color, linewidths=0.8, alpha=0.85))
            axes.plot(*ends.T, "o", color=color, markersize=3.2, markeredgewidth=0)
        axes.plot(*starts.T, **ANCHOR)


if __name__ == "__main__":
    main()
