"""The order of samples: a function of seed and epoch, the same for any number of workers."""

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from pne_seg.data.dataset import SampleKey


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
    """

    def __init__(
        self, dataset: Dataset[object], seed: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(
            dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed, drop_last=True
        )

    def __iter__(self) -> Iterator[SampleKey]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator).tolist()  # type: ignore[arg-type]
        for index in order[self.rank : self.num_samples * self.num_replicas : self.num_replicas]:
            yield SampleKey(self.epoch, index)


class ShardSampler(DistributedSampler[int]):
    """Every image of a split once, in order, dealt out over the processes without padding.

    torch's own `DistributedSampler` repeats images to even the processes out, which counts them
    twice in the scores.

    Args:
        dataset: anything with a length.
        num_replicas: number of processes.
        rank: of this process.
    """

    def __init__(self, dataset: Dataset[object], num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=False)
        self.num_samples = len(range(rank, len(dataset), num_replicas))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]
