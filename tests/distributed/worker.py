"""One of two processes that train each method for two steps; run by `test_two_processes.py`.

With the paper's methods the second process sees nothing but ignored pixels in its second step: it
has no pairs, and must still take part in the exchange of gradients. `HARD` has further such cases
on a network small enough for many of them.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pne_seg.contrast.component import PNE
from pne_seg.losses import OHEMCrossEntropy
from pne_seg.module import Batch, SegmentationModule
from pne_seg.networks import FCNHead
from tests.distributed.data_worker import train_by_rare_classes, train_on_noise
from tests.methods import NETWORKS, loader, training_module
from tests.tiny_networks import TinyNet

CLASSES = 4
SIDE = 64
STEPS = 2

HARD: dict[str, tuple[dict[str, Any], Callable[[int, int], str]]] = {
    "warmup": ({"warmup_steps": 2}, lambda rank, step: "all"),  # its first weight is 0
    "one_without_labels": ({}, lambda rank, step: "none" if rank == 1 else "all"),
    "one_without_pairs": ({}, lambda rank, step: "pixel" if rank == 1 else "all"),
    "in_turn": ({"warmup_steps": 1}, lambda rank, step: "none" if rank == step else "all"),
    "none_with_pairs": ({}, lambda rank, step: "pixel"),
    "none_with_labels": ({}, lambda rank, step: "none"),
    "used_in_turn": ({"project": "used"}, lambda rank, step: "none" if rank == step else "all"),
    "used_without_pairs": ({"project": "used"}, lambda rank, step: "pixel"),
}
"""Settings of the contrast, and which pixels of a rank's step have labels: a single pixel has a
cross-entropy and makes no pair."""


def batch(rank: int, step: int, method: str = "") -> Batch:
    """Two random images of a rank's step."""
    generator = torch.Generator().manual_seed(10 * rank + step)
    image = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, CLASSES, (2, 8, 8), generator=generator, dtype=torch.uint8)
    mask = mask.repeat_interleave(SIDE // 8, 1).repeat_interleave(SIDE // 8, 2)
    labeled = "none" if (rank, step) == (1, 1) else "all"
    if method in HARD:
        labeled = HARD[method][1](rank, step)
    if labeled != "all":
        first = mask[0, 0, 0].clone()
        mask[:] = 255
        if labeled == "pixel":
            mask[0, 0, 0] = first
    return {"image": image, "mask": mask, "name": ["a", "b"]}


def build(method: str) -> SegmentationModule:
    """The same weights in every process; nothing is dropped, for the steps are recomputed."""
    optimizer = functools.partial(torch.optim.SGD, lr=0.01)
    if method in HARD:
        torch.manual_seed(0)
        contrast = PNE(embedding_dim=16, max_anchors=10_000, **HARD[method][0])
        return SegmentationModule(
            TinyNet(CLASSES),
            CLASSES,
            loss=OHEMCrossEntropy(),
            extra_losses={"dice": smp.losses.DiceLoss("multiclass")},
            contrast=contrast,
            auxiliary=FCNHead(channels=8, dropout=0.0),
            optimizer=optimizer,
        )
    module = training_module(method, CLASSES, optimizer=optimizer)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout2d):
            layer.p = 0.0
    return module


def main(folder: Path) -> None:
    """Train each method and save what the weights became; then do the same on a datamodule."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for method in (*NETWORKS, *HARD):
        module = build(method)
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            use_distributed_sampler=False,  # each rank has its own batches
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader([batch(rank, step, method) for step in range(STEPS)]))
        weights: dict[str, Tensor] = dict(module.named_parameters())
        torch.save(weights, folder / f"{method}-{rank}.pt")
    train_on_noise(folder)
    train_by_rare_classes(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
