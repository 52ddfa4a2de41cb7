"""Images a second of one core: training samples and validation samples, from files.

python -m benchmarks.data                                    all cases, 5 minutes on one core
python -m benchmarks.data --only ADE20K --rounds 3
python -m benchmarks.data --source ../shared/camvid/train    on photographs

Files in the layout of each data set are written to a temporary folder: drawn scenes, or photographs
of `--source`, under as much noise as makes them as large as the real ones (none where they are
larger already). From the same files, with the same random draws, called in turn:

usual order          decode (OpenCV), table (NumPy), scale the whole image, crop; then the same
                     flip, colors, padding and way to a tensor as pne_seg
pne_seg              the data set's class with its default transforms
pne_seg, cache       the same over decoded images in memory-mapped files
mmseg 1.x            the steps of mmsegmentation's configuration (benchmarks/mmseg_pipeline.py);
mmseg 0.x            likewise, which also normalizes on the processor

All take a sample in turn, so that a disturbance hits all alike; a rate is the median of the rounds.
What is counted is processor time, which is the wall's where the machine has nothing else to do.
Files come from the page cache: a disk's time is not in it. The stages are in milliseconds an image.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch

from benchmarks.measure import machine
from benchmarks.mmseg_pipeline import MmsegEvaluation, MmsegSettings, MmsegTraining
from benchmarks.pictures import CASES, Case, find_photographs, write_files
from benchmarks.usual_pipeline import UsualDataset, WholeScaleCrop
from pne_seg.data import images
from pne_seg.data.cache import CachedDataset
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.label_formats import IndexLabels
from pne_seg.data.paired_files import PairedDataset
from pne_seg.data.samples import SampleKey, SampleView, SegmentationDataset, sample_seed
from pne_seg.data.transforms import RandomScaleCrop

USUAL, OURS, CACHED, MMSEG_1, MMSEG_0 = (
    "usual order",
    "pne_seg",
    "pne_seg, cache",
    "mmseg 1.x",
    "mmseg 0.x",
)
EPOCHS = 2  # draws from each image
SEED = 0
STAGES = {
    "RandomScaleCrop": "scale and crop",
    "WholeScaleCrop": "scale and crop",
    "HorizontalFlip": "flip",
    "PhotometricDistortion": "colors",
    "PadTo": "padding",
}
REST = "the rest"  # seeds, albumentations' own checks, (3, H, W) and the way to a tensor
Sampler = Callable[[SampleKey], Any]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=12, help="files of a split (default 12)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default 5)")
    parser.add_argument("--source", type=Path, help="folder of photographs")
    parser.add_argument("--only", choices=[case.name for case in CASES])
    arguments = parser.parse_args()
    if arguments.images < 1 or arguments.rounds < 1:
        parser.error("--images and --rounds must be 1 or more")
    photographs = find_photographs(arguments.source) if arguments.source else []
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    print(f"{machine('cpu')}, OpenCV {cv2.__version__}")
    for case in CASES:
        if arguments.only in (None, case.name):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "files"
                written = write_files(root, case, arguments.images, photographs)
                print(f"\n{case.name}: {written}", flush=True)
                _measure(case, root, Path(folder) / "cache", arguments.rounds)


def _measure(case: Case, root: Path, cache: Path, rounds: int) -> None:
    data, cached = case.module(root=root), case.module(root=root, cache=cache)
    assert data.resize_base is not None
    decoded = cached.split("train")
    assert isinstance(decoded, CachedDataset)
    decoded.fill()
    views = {
        USUAL: usual_view(data, SEED),
        OURS: _view(data, data.split("train")),
        CACHED: _view(cached, decoded),
    }
    training: dict[str, Sampler] = {name: view.__getitem__ for name, view in views.items()}
    source = UsualDataset(data.pairs("val"))
    evaluation: dict[str, Sampler] = {
        USUAL: SampleView(source, resize_base=data.resize_base).__getitem__,
        OURS: SampleView(data.split("val"), resize_base=data.resize_base).__getitem__,
    }
    for name, normalized in ((MMSEG_1, False), (MMSEG_0, True)):
        settings = MmsegSettings(
            data.crop_size, data.resize_base, case.name == "ADE20K", normalized
        )
        training[name] = MmsegTraining(
            UsualDataset(data.pairs("train")), settings, SEED
        ).__getitem__
        evaluation[name] = MmsegEvaluation(source, settings).__getitem__
    count = len(source)
    keys = [SampleKey(epoch, index) for epoch in range(EPOCHS) for index in range(count)]
    height, width = data.crop_size
    _print_rates(f"training, crops of {height}×{width}", training, keys, rounds)
    _print_stages(views, keys, rounds)
    box = "×".join(str(side) for side in data.resize_base)
    _print_rates(f"validation, fitted to {box}", evaluation, keys[:count], rounds)


def _view(data: FileDataModule, source: SegmentationDataset) -> SampleView:
    return SampleView(source, A.Compose(data.default_transforms()), SEED)


def usual_view(data: FileDataModule, seed: int) -> SampleView:
    """Apply the data set's transforms to its files, scaled and cropped in the usual order."""
    first, *others = data.default_transforms()
    assert isinstance(first, RandomScaleCrop)
    transforms = A.Compose([WholeScaleCrop.like(first), *others])
    return SampleView(UsualDataset(data.pairs("train")), transforms, seed)


def _print_rates(
    what: str, samplers: Mapping[str, Sampler], keys: Sequence[SampleKey], rounds: int
) -> None:
    for key in keys:  # warm up
        for sampler in samplers.values():
            sampler(key)
    rates: dict[str, list[float]] = {name: [] for name in samplers}
    for _ in range(rounds):
        seconds = dict.fromkeys(samplers, 0.0)
        for key in keys:
            for name, sampler in samplers.items():
                start = time.process_time()
                sampler(key)
                seconds[name] += time.process_time() - start
        for name, spent in seconds.items():
            rates[name].append(len(keys) / spent)
    print(f"  {what}: images/s")
    usual = statistics.median(rates[USUAL])
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"    {name:<16}{rate:7.1f}   ×{rate / usual:.2f}", flush=True)


def _print_stages(views: Mapping[str, SampleView], keys: Sequence[SampleKey], rounds: int) -> None:
    tables = {name: _stages(view, keys, rounds) for name, view in views.items()}
    print(f"  {'stages: ms an image':<22}" + "".join(f"{name:>16}" for name in tables))
    for stage in tables[OURS]:
        cells = [f"{table.get(stage, 0.0):16.2f}" for table in tables.values()]
        print(f"    {stage:<20}" + "".join(cells), flush=True)


def _stages(view: SampleView, keys: Sequence[SampleKey], rounds: int) -> dict[str, float]:
    """Milliseconds an image of each stage, median of the rounds; `REST` is what they leave."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        spent: dict[str, float] = {}
        whole = 0.0
        for key in keys:
            _add_stages(view, key, spent)
            start = time.process_time()
            view[key]
            whole += time.process_time() - start
        spent[REST] = whole - sum(spent.values())
        for stage, seconds in spent.items():
            found.setdefault(stage, []).append(seconds * 1e3 / len(keys))
    return {stage: statistics.median(values) for stage, values in found.items()}


def _add_stages(view: SampleView, key: SampleKey, spent: dict[str, float]) -> None:
    """Take a sample step by step and add the seconds of each."""

    def timed(stage: str, call: Callable[..., Any], *values: Any, **named: Any) -> Any:
        start = time.process_time()
        result = call(*values, **named)
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - start
        return result

    source = view.source
    if isinstance(source, UsualDataset):
        image = timed("image", source.decode_image, key.index)
        labels = timed("labels", source.decode_labels, key.index)
        labels = timed("table", source.map, labels)
    elif isinstance(source, PairedDataset):
        pair, label_format = source.pairs[key.index], source.label_format
        assert pair.labels is not None
        assert isinstance(label_format, IndexLabels)
        image = timed("image", images.read_image, pair.image)
        labels = timed("labels", images.read_labels, pair.labels)
        labels = timed("table", label_format.apply, labels, pair.labels)
    else:
        image, labels, _ = timed("image", source.read, key.index)
    assert view.transform is not None
    seed = sample_seed(view.seed, key.epoch, key.index)
    view.transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    data = {"image": image, "mask": labels}
    for transform in view.transform.transforms:
        data = timed(STAGES[type(transform).__name__], transform, **data)


if __name__ == "__main__":
    main()
