"""A data set of halves, a network that tells them by the column, and a quiet trainer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from pne_seg.data import SegmentationDataModule
from pne_seg.data.samples import Sample, SegmentationDataset
from pne_seg.module import SegmentationModule

NAMES = ("left", "right", "never")
IGNORE = 9
Split = Literal["train", "val", "test"]


class Halves(SegmentationDataset):
    """Left half class 0, right half class 1, one row ignored; red where the class is 1."""

    def __init__(self, length: int, size: tuple[int, int] = (8, 8)) -> None:
        self.length = length
        self.size = size

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"half_{index}"

    def read(self, index: int) -> Sample:
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, 4:, 0] = 255
        labels = np.zeros((8, 8), np.uint8)
        labels[:, 4:] = 1
        labels[0] = IGNORE
        return Sample(image, labels, self.size)


class HalvesData(SegmentationDataModule):
    class_names = NAMES
    palette = ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    ignore_index = IGNORE

    def __init__(self, source_size: tuple[int, int] = (8, 8)) -> None:
        super().__init__(batch_size=2, eval_batch_size=2, num_workers=0, seed=0)
        self.source_size = source_size

    def dataset(self, split: Split) -> Halves:
        return Halves({"train": 4, "val": 3, "test": 3}[split], self.source_size)

    def default_transforms(self) -> list[Any]:
        return []


class Threshold(nn.Module):
    """Logits of class 1 from column `edge` on and of 0 before, whatever the image holds."""

    def __init__(self, edge: int, num_classes: int = 3) -> None:
        super().__init__()
        self.edge = edge
        self.num_classes = num_classes
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        scores = images.new_zeros(len(images), self.num_classes, *images.shape[-2:])
        scores[:, 0, :, : self.edge] = 2
        scores[:, 1, :, self.edge :] = 2
        return scores + self.bias


def module(edge: int = 4, build: Callable[[Any], Any] | None = None) -> SegmentationModule:
    network = Threshold(edge)
    optimizer = build or (lambda parameters: torch.optim.SGD(parameters, lr=0.1))
    return SegmentationModule(network, 3, IGNORE, NAMES, optimizer=optimizer)


def trainer(folder: Path, *callbacks: Callback, **settings: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 1,
    }
    return Trainer(**{**defaults, **settings}, callbacks=list(callbacks))
