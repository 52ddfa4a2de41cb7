"""Networks small enough to train in a test, and what the tests ask of any network."""

import os
import time

import torch
from torch import Tensor, nn


class TinyNet(nn.Module):
    """Three convolutions; the feature and the scores come at `stride`, under smp's names."""

    def __init__(
        self, num_classes: int = 3, width: int = 8, stride: int = 2, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.segmentation_head = nn.Sequential(
            nn.Dropout(dropout), nn.Conv2d(width, num_classes, 1)
        )

    def feature(self, images: Tensor) -> Tensor:
        feature: Tensor = self.decoder(self.encoder(images))
        return feature

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.segmentation_head(self.feature(images))
        return scores


class Subsample(nn.Module):
    """The feature is every `stride`-th pixel of the image itself; the scores are linear in it."""

    def __init__(self, num_classes: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.segmentation_head = nn.Conv2d(3, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.segmentation_head(images[..., :: self.stride, :: self.stride])
        return scores


class Red(nn.Module):
    """Sure of class 1 where the image is red, and of class 0 elsewhere."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, images: Tensor) -> Tensor:
        red = self.scale * images[:, :1].sign()
        scores = images.new_full((len(images), self.num_classes, *images.shape[-2:]), -20.0)
        return torch.cat([-red, red, scores[:, 2:] - 0 * red], dim=1)


def hook_count(network: nn.Module) -> int:
    """Forward hooks and pre-hooks on all submodules."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def balance_classes(classifier: nn.Module, logits: Tensor) -> None:
    """Shift the bias so that no class leads everywhere, as one does with random weights."""
    assert isinstance(classifier, nn.Conv2d)
    assert classifier.bias is not None
    with torch.no_grad():
        classifier.bias -= logits.mean((0, 2, 3))


def same_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two state dicts hold the same keys, in order, and the same values, bit for bit."""
    return list(left) == list(right) and all(torch.equal(left[key], right[key]) for key in left)


class SlowNet(TinyNet):
    """`TinyNet` that waits before each batch, for the seconds in the environment's `SLOW`."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(float(os.environ.get("SLOW", "0")))
        return super().forward(images)
