"""Networks, transforms and data that fail as a full machine makes them fail."""

import os
import signal
from typing import Any

import albumentations as A
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from tests.tiny_networks import TinyNet


class HungryNet(TinyNet):
    """Has memory for some pixels at a time, on a device or for the processor."""

    def __init__(self, num_classes: int = 3, pixels: int = 64 * 64, on_device: bool = True) -> None:
        super().__init__(num_classes)
        self.pixels = pixels
        self.on_device = on_device

    def forward(self, images: Tensor) -> Tensor:
        if images[:, 0].numel() > self.pixels:
            if self.on_device:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            torch.empty(10**15)
        return super().forward(images)


class HeavyNet(TinyNet):
    """Has a million more parameters, so that its checkpoints are 12 MB."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(num_classes)
        self.more = torch.nn.Parameter(torch.zeros(1_000_000))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.more.sum()


class BrokenNet(TinyNet):
    """Fails in its constructor, in training or not at all."""

    def __init__(self, num_classes: int = 3, where: str = "constructor") -> None:
        super().__init__(num_classes)
        self.where = where
        if where == "constructor":
            raise RuntimeError("a mistake in a user's code")

    def forward(self, images: Tensor) -> Tensor:
        if self.where == "training" and self.training:
            raise RuntimeError("a mistake in a user's code")
        return super().forward(images)


class KillsWorker(A.ImageOnlyTransform):  # type: ignore[misc]  # untyped
    """Kills the loader process that applies it."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def apply(self, img: Any, **params: Any) -> Any:
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return img
