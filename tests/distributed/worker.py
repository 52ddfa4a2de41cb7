"""One of two processes that train each method for two steps; run by `test_two_processes.py`.

The second process sees nothing but ignored pixels in its second step: it has no pairs, and must
still take part in the exchange of gradients.
"""

import functools
import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from pne_seg.module import Batch, SegmentationModule
from tests.distributed.data_worker import train_on_noise
from tests.methods import NETWORKS, loader, training_module

CLASSES = 4
SIDE = 64


def batch(rank: int, step: int) -> Batch:
    """Two random images of a rank's step."""
    generator = torch.Generator().manual_seed(10 * rank + step)
    image = torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, CLASSES, (2, 8, 8), generator=generator, dtype=torch.uint8)
    mask = mask.repeat_interleave(SIDE // 8, 1).repeat_interleave(SIDE // 8, 2)
    if (rank, step) == (1, 1):
        mask[:] = 255
    return {"image": image, "mask": mask, "name": ["a", "b"]}


def build(method: str) -> SegmentationModule:
    """The same weights in every process; nothing is dropped, for the steps are recomputed."""
    optimizer = functools.partial(torch.optim.SGD, lr=0.01)
    module = training_module(method, CLASSES, optimizer=optimizer)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout2d):
            layer.p = 0.0
    return module


def main(folder: Path) -> None:
    """Train each method and save what the weights became; then do the same on a datamodule."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    for method in NETWORKS:
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
        trainer.fit(module, loader([batch(rank, step) for step in range(2)]))
        weights: dict[str, Tensor] = dict(module.named_parameters())
        torch.save(weights, folder / f"{method}-{rank}.pt")
    train_on_noise(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
