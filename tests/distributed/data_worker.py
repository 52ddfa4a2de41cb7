"""What one of two processes does with data: train and validate on noise; called by `worker.py`.

In validation the first process gets images of one size in two batches, the second images of three
sizes in three.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pne_seg.losses import CrossEntropy
from pne_seg.module import SegmentationModule
from tests.data.noise import Fitted
from tests.tiny_networks import TinyNet

EPOCHS = 2
SETTINGS: dict[str, Any] = {"eval_batch_size": 2, "num_workers": 1}


def digests(batch: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and content of each sample."""
    return [
        (name, hashlib.blake2b(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest())
        for name, image, mask in zip(batch["name"], batch["image"], batch["mask"], strict=True)
    ]


class Record(Callback):
    """The training samples of each epoch, and the sizes of the validation batches."""

    def __init__(self) -> None:
        self.samples: list[list[tuple[str, str]]] = []
        self.batches: list[list[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.samples.append([])
        self.batches.clear()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.samples[-1] += digests(batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.batches.append([*batch["image"].shape])


def build(class_weights: Literal["auto"] | None = None) -> SegmentationModule:
    """Statistics of the batches make the processes differ, were they not brought together."""
    torch.manual_seed(0)
    return SegmentationModule(TinyNet(3), 3, loss=CrossEntropy(class_weights=class_weights))


def trainer(record: Record) -> Trainer:
    """Two processes for two epochs."""
    return Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=EPOCHS,
        callbacks=[record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def train_by_rare_classes(folder: Path) -> None:
    """Train with draws and weights by the counts of the first process; save both."""
    record, module = Record(), build("auto")
    rank = os.environ["RANK"]
    data = Fitted(batch_size=1, rare_class_sampling=0.01, **SETTINGS)
    read: list[int] = []
    split = data.split("train")
    split.read_labels = lambda index: read.append(index) or split.read(index).labels  # type: ignore
    trainer(record).fit(module, datamodule=data)
    loss = module.losses.main
    assert isinstance(loss, CrossEntropy)
    assert loss.class_weights is not None
    seen = {"read": sorted(read), "samples": record.samples, "weights": loss.class_weights.tolist()}
    (folder / f"rare-{rank}.json").write_text(json.dumps(seen))


def train_on_noise(folder: Path) -> None:
    """Train, validating in between and at the end; save what was seen and scored."""
    record, module = Record(), build()
    fitting = trainer(record)
    # The processes' samples together make the batch of one process.
    fitting.fit(module, datamodule=Fitted(batch_size=1, **SETTINGS))
    assert module.metrics is not None
    rank = os.environ["RANK"]
    torch.save(
        {
            "weights": module.state_dict(),
            "matrix": module.metrics.matrix,
            "loss": fitting.callback_metrics["val/loss"],
        },
        folder / f"data-{rank}.pt",
    )
    seen = {"samples": record.samples, "batches": record.batches}
    (folder / f"data-{rank}.json").write_text(json.dumps(seen))
