"""Compare the arms of a sweep on the pixels that the baseline gets wrong.

    python -m tools.hard_pixels runs/confirmation

predicts the test split with every network of the sweep, in float32. Hard pixels of a seed are those
that at least half of the baseline's networks of the *other* seeds get wrong: chosen by the seed's
own baseline, they would look better under any other network. Even so, an arm that makes other
mistakes than the baseline gains on hard pixels and loses on the others: read all rows.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pne_seg.errors import UserError
from pne_seg.metrics import percent
from pne_seg.segmenter import Segmenter
from pne_seg.sweep.statistics import PairedDifference
from pne_seg.trained import build_data, load_trained

Right = npt.NDArray[np.bool_]


def main() -> None:
    """Print a table of pixel accuracies in percent, differences paired by seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="folder with the sweep's comparison.json")
    found = json.loads((parser.parse_args().sweep / "comparison.json").read_text())
    right: dict[str, dict[str, Right]] = {}
    for name, arm in found["arms"].items():
        right[name] = {seed: right_pixels(Path(run)) for seed, run in arm["runs"].items()}
    print("| arm | pixels | share | baseline | arm | difference | interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in table(right):
        print(f"| {' | '.join(row)} |")


def right_pixels(run: Path) -> Right:
    """Return which labeled pixels of the test split a run gets right, (P,) over all images."""
    trained = load_trained(run)
    split = build_data(trained.config, trained.imports).split("test")
    segmenter = Segmenter(trained)
    images = []
    for index in range(len(split)):
        photo, labels, _ = split.read(index)
        labels = np.asarray(labels)
        labeled = labels != trained.data.ignore_index
        images.append((segmenter.predict(photo) == labels)[labeled])
    return np.concatenate(images)


def table(right: dict[str, dict[str, Right]]) -> Iterator[list[str]]:
    """Yield the rows of right pixels (P,) by arm, the baseline first, and seed.

    Raises:
        UserError: the baseline has one seed only.
    """
    baseline, *arms = right
    ours = right[baseline]
    if len(ours) < 2:
        raise UserError(f"{baseline} has one seed: hard pixels are those of its other seeds.")
    wrong = np.sum([~pixels for pixels in ours.values()], axis=0)  # networks, by pixel
    hard = {seed: 2 * (wrong - ~pixels) >= len(ours) - 1 for seed, pixels in ours.items()}
    for arm in arms:
        seeds = [seed for seed in ours if seed in right[arm]]
        chosen = {
            "hard": [hard[seed] for seed in seeds],
            "others": [~hard[seed] for seed in seeds],
            "all": [np.ones_like(hard[seed]) for seed in seeds],
        }
        for name, masks in chosen.items():
            pairs = list(zip(seeds, masks, strict=True))
            before, after = (
                np.array([right[each][seed][mask].mean() for seed, mask in pairs])
                for each in (baseline, arm)
            )
            paired = PairedDifference.of(after - before)
            figures = np.mean(masks), before.mean(), after.mean()
            shown = [percent(float(figure)) for figure in figures]
            interval = f"{100 * paired.low:+.2f} to {100 * paired.high:+.2f}"
            yield [arm, name, *shown, f"{100 * paired.mean:+.2f}", interval]


if __name__ == "__main__":
    main()
