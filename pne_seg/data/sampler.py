"""The order of samples: a function of seed and epoch, the same for any number of workers."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from pne_seg.data.samples import SampleKey


class EpochSampler(DistributedSampler[SampleKey]):
    """Shuffled (epoch, index) keys, so that a worker knows the epoch of the sample it makes.

    It is a `DistributedSampler` so that Lightning leaves it in place and tells it the epoch. Each
    process gets every `num_replicas`-th key of the common order; the few keys that do not fill
    every process are left out, so that no image counts twice.

    Args:
        dataset: anything with a length.
        seed: of the order.
        num_replicas: number of processes.
        rank: of this process.
        epoch: the first one. A loader with workers asks for samples before Lightning sets it.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        epoch: int = 0,
    ) -> None:
        super().__init__(
            dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True
        )
        self.epoch = epoch
        self._skipped = (epoch, 0)

    def skip(self, samples: int) -> None:
        """Leave this process's first samples out of the present epoch; its length stays."""
        self._skipped = (self.epoch, samples)

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()  # type: ignore[arg-type]
        own = order[self.rank : self.num_samples * self.num_replicas : self.num_replicas]
        epoch, samples = self._skipped
        for index in own[samples if self.epoch == epoch else 0 :]:
            yield SampleKey(self.epoch, index)


class SameSizeBatches(DistributedSampler[list[int]]):
    """Every image of a split once, in batches of equal size, dealt out over the processes.

    Nothing is padded: padding an image would change what the network says of its border, and
    torch's own `DistributedSampler` counts images twice to even the processes out. A batch comes as
    soon as it is full, so that a split of one size keeps its order.

    Args:
        dataset: anything with a length.
        batch_size: images a batch at most.
        size: height and width of an image, by its index.
        num_replicas: number of processes.
        rank: of this process.
        most_pixels: of a batch's images together, however few these then are; a larger image makes
            a batch by itself. No limit where not given.
    """

    def __init__(
        self,
        dataset: Dataset[object],
        batch_size: int,
        size: Callable[[int], tuple[int, int]],
        num_replicas: int = 1,
        rank: int = 0,
        most_pixels: int | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.indices = range(rank, len(dataset), num_replicas)  # type: ignore[arg-type]
        self.most_pixels = most_pixels
        self.batches = list(self._batches(batch_size, size))

    def _batches(
        self, batch_size: int, size: Callable[[int], tuple[int, int]]
    ) -> Iterator[list[int]]:
        waiting: dict[tuple[int, int], list[int]] = {}
        for index in self.indices:
            # A batch of one needs no size, which may take a look into the file.
            height, width = size(index) if batch_size > 1 else (0, 0)
            batch = waiting.setdefault((height, width), [])
            batch.append(index)
            pixels = (len(batch) + 1) * height * width  # with another one
            too_large = self.most_pixels is not None and pixels > self.most_pixels
            if len(batch) == batch_size or too_large:
                yield list(batch)
                batch.clear()
        yield from (batch for batch in waiting.values() if batch)

    def __len__(self) -> int:
        """Number of this process's batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
