"""A training sample is a function of (seed, epoch, index): whoever makes it, and from what copy."""

import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import pytest
import torch
from torch import multiprocessing

from pne_seg.data import ADE20K, Folder
from pne_seg.data.cache import CachedDataset
from pne_seg.data.file_datamodule import FileDataModule
from pne_seg.data.samples import EpochSampler, Sample, SampleKey, SampleView, SegmentationDataset
from pne_seg.data.transforms import train_transforms
from tests.data.miniature import write_ade20k, write_folder, zip_tree

# Of four workers on a small machine.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

EPOCHS = 3
CROP = (40, 56)


class Made(NamedTuple):
    """A sample as a loader gives it, its pixels as bytes."""

    name: str
    image: bytes
    mask: bytes


Build = Callable[..., FileDataModule]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    write_ade20k(root / "ade")
    zip_tree(root / "ade", root / "zipped.zip", "ADEChallengeData2016")
    write_folder(root / "folder", "split_first")
    return root


def ade20k(tree: Path, root: str = "ade", **settings: Any) -> ADE20K:
    """Six training images, many of them smaller than the crop."""
    defaults = {"crop_size": CROP, "resize_base": (160, 48), "batch_size": 2, "seed": 7}
    return ADE20K(tree / root, **{**defaults, "num_workers": 0, **settings})


def folder(tree: Path, **settings: Any) -> Folder:
    """Seven training images, of which one is left out in each epoch."""
    defaults = {"crop_size": CROP, "batch_size": 2, "seed": 7, "num_workers": 0}
    return Folder(tree / "folder", **{**defaults, **settings})


def epochs(data: FileDataModule, count: int = EPOCHS) -> list[list[Made]]:
    """The samples of some epochs from one loader, in order."""
    loader = data.train_dataloader()
    sampler = loader.sampler
    assert isinstance(sampler, EpochSampler)
    made = []
    for number in range(count):
        sampler.set_epoch(number)
        made.append([sample for batch in loader for sample in taken_apart(batch)])
    return made


def taken_apart(batch: dict[str, Any]) -> Iterator[Made]:
    for name, image, mask in zip(batch["name"], batch["image"], batch["mask"], strict=True):
        assert image.shape == (3, *CROP)
        assert mask.shape == CROP
        yield Made(name, image.numpy().tobytes(), mask.numpy().tobytes())


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("build", [ade20k, folder])
def test_the_number_of_workers_does_not_matter(build: Build, workers: int, tree: Path) -> None:
    # The workers live on from epoch to epoch.
    alone, helped = epochs(build(tree)), epochs(build(tree, num_workers=workers))
    assert [len(epoch) for epoch in alone] == [6, 6, 6]
    assert helped == alone


@pytest.mark.parametrize("build", [ade20k, folder])
@pytest.mark.parametrize("workers", [0, 1])
def test_two_processes_make_the_samples_of_one(build: Build, workers: int, tree: Path) -> None:
    whole = epochs(build(tree))
    parts = []
    for rank in range(2):
        data = build(tree, num_workers=workers, batch_size=1)
        data.trainer = Process(rank)  # type: ignore[assignment]
        parts.append(epochs(data))
    for number in range(EPOCHS):
        # Dealt out in turn: the order of the whole is the two parts', one after the other.
        dealt = [made for turn in zip(*(p[number] for p in parts), strict=True) for made in turn]
        assert dealt == whole[number]


class Process:
    """What a datamodule asks its trainer."""

    world_size = 2
    current_epoch = 0

    def __init__(self, rank: int) -> None:
        self.global_rank = rank


def test_each_epoch_and_each_seed_is_another(tree: Path) -> None:
    made = [epoch for seed in (7, 8) for epoch in epochs(ade20k(tree, seed=seed))]
    orders = {tuple(sample.name for sample in epoch) for epoch in made}
    assert len(orders) == len(made) == 6
    for name in {sample.name for sample in made[0]}:
        images = {s.image for epoch in made for s in epoch if s.name == name}
        assert len(images) == 6, name


def test_random_states_elsewhere_do_not_matter(tree: Path) -> None:
    expected = epochs(ade20k(tree), 1)
    for workers in (0, 1):
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            assert epochs(ade20k(tree, num_workers=workers), 1) == expected


def test_a_view_sent_to_another_process_makes_the_same(tree: Path) -> None:
    data = ade20k(tree)
    view = SampleView(data.split("train"), A.Compose(data.default_transforms()), seed=3)
    view[SampleKey(0, 0)]  # whose random state must not come along
    sent = pickle.loads(pickle.dumps(view))
    for index in range(len(view)):
        key = SampleKey(2, index)
        for part in ("image", "mask"):
            assert torch.equal(sent[key][part], view[key][part])


@pytest.mark.slow  # each worker imports everything anew
def test_workers_that_are_spawned_make_the_same(tree: Path) -> None:
    before = multiprocessing.get_start_method()
    expected = epochs(ade20k(tree))
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert epochs(ade20k(tree, num_workers=2)) == expected
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_decoded_cache_gives_the_same(workers: int, tree: Path, tmp_path: Path) -> None:
    for build in (ade20k, folder):
        cached = build(tree, num_workers=workers, cache=tmp_path / "cache")
        cached.train_dataloader()
        assert isinstance(cached.split("train"), CachedDataset)
        assert epochs(cached) == epochs(build(tree))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_archive_gives_the_same_as_its_folder(workers: int, tree: Path) -> None:
    zipped = ade20k(tree, "zipped.zip", num_workers=workers)
    assert epochs(zipped) == epochs(ade20k(tree))


def test_the_parts_of_the_augmentation_are_drawn_by_themselves() -> None:
    """Enlarged images are mirrored as often as others: transforms share no number."""

    class Half(SegmentationDataset):
        def __len__(self) -> int:
            return 1

        def name(self, index: int) -> str:
            return "half"

        def read(self, index: int) -> Sample:
            labels = np.zeros((40, 40), np.uint8)
            labels[:, :20] = 1
            return Sample(np.zeros((40, 40, 3), np.uint8), labels, (40, 40))

    recipe_of_whole = train_transforms((80, 80), cat_max_ratio=1.0, ignore_index=255)
    view = SampleView(Half(), A.Compose(recipe_of_whole))
    sizes, mirrored = [], []
    for epoch in range(400):
        mask = view[SampleKey(epoch, 0)]["mask"]
        sizes.append(int((mask[:, 0] != 255).sum()))
        mirrored.append(int(mask[0, 0] == 0))
    assert abs(np.corrcoef(sizes, mirrored)[0, 1]) < 0.15
