"""How fast Scenes are drawn, beside how fast the shipped configuration consumes them.

python -m benchmarks.scenes
"""

import statistics
import time

import cv2
import segmentation_models_pytorch as smp
import torch

from benchmarks.measure import machine
from pne_seg import PNE, Scenes, SegmentationModule

SIZES = ((96, 128), (128, 192), (256, 512))
BATCH = 8


def images_per_second(height: int, width: int, rounds: int = 5, images: int = 40) -> float:
    """Median rate of one core over several rounds."""
    split = Scenes(height=height, width=width).dataset("train")
    split.read(0)  # the textures are made once
    rates = []
    for number in range(rounds):
        start = time.perf_counter()
        for index in range(images):
            split.read(number * images + index)
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates)


def training_rate(rounds: int = 10) -> float:
    """Images a second that a training step of `configs/scenes_upernet_resnet18.yaml` takes."""
    data = Scenes(batch_size=BATCH, num_workers=0)
    network = smp.UPerNet(
        "resnet18", encoder_weights=None, decoder_channels=64, classes=data.num_classes
    )
    module = SegmentationModule(network, data.num_classes, contrast=PNE())
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    batch = next(iter(data.train_dataloader()))
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return BATCH / statistics.median(seconds)


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(machine("cpu"))
    consumed = training_rate()
    print(f"training step at 96 x 128, all threads: {consumed:.0f} images/s")
    for height, width in SIZES:
        drawn = images_per_second(height, width)
        ratio = f"{drawn / consumed:.1f}x the step" if (height, width) == SIZES[0] else ""
        print(f"drawing at {height} x {width}, one core: {drawn:.0f} images/s {ratio}")


if __name__ == "__main__":
    main()
