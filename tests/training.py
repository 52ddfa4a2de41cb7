"""A training small enough for a test: random pictures, a tiny network, a quiet trainer."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pne_seg.contrast.component import PNE
from pne_seg.module import Batch
from tests.tiny_networks import TinyNet, balance_classes

CLASSES = 3
NAMES = ["road", "sky", "car"]


class Pictures(Dataset[Batch]):
    """Random images with labels at random, some ignored."""

    def __init__(self, count: int = 4, size: tuple[int, int] = (16, 24)) -> None:
        generator = torch.Generator().manual_seed(3)
        shape = (count, *size)
        self.images = torch.randint(
            0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8
        )
        self.masks = torch.randint(0, CLASSES, shape, generator=generator, dtype=torch.uint8)
        self.masks[torch.rand(shape, generator=generator) < 0.2] = 255

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {"image": self.images[index], "mask": self.masks[index], "name": str(index)}

    def batch(self) -> Batch:
        return {"image": self.images, "mask": self.masks, "name": list(map(str, range(len(self))))}

    def loader(self, batch_size: int = 1) -> DataLoader[Batch]:
        return DataLoader(self, batch_size)


def tiny(dropout: float = 0.0) -> TinyNet:
    """The same weights each time; no class leads everywhere, so that pairs form."""
    torch.manual_seed(5)
    network = TinyNet(CLASSES, stride=2, dropout=dropout)
    with torch.no_grad():
        images = normalized(Pictures().images)
        balance_classes(network.segmentation_head[1], network(images))
    return network


def pne(**settings: Any) -> PNE:
    return PNE(embedding_dim=6, **settings)


def normalized(images: Tensor) -> Tensor:
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    std = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    return (images.float() - mean) / std


def trainer(**settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


class Rates(Callback):
    """The settings that each training step is taken with."""

    def __init__(self) -> None:
        self.groups: list[dict[str, Any]] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        group = trainer.optimizers[0].param_groups[0]
        self.groups.append({key: value for key, value in group.items() if key != "params"})

    def __getitem__(self, key: str) -> list[Any]:
        return [group[key] for group in self.groups]
