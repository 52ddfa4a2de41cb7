"""A run whose network says many classes, and what it says of an image, computed by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from pne_seg.data.scenes.stage import SCENE_PALETTE
from pne_seg.module import SegmentationModule
from tests.cli.commands import contents
from tests.tiny_networks import TinyNet

Pixels = npt.NDArray[np.uint8]

BOX = (48, 32)
"""Width and height of the tiny run's scenes, to which images are fitted."""


def make_decided(
    checkpoint: Path, num_classes: int, images: Sequence[Path] = (), width: int = 6
) -> TinyNet:
    """Give a checkpoint of `TinyNet` random weights by which every class leads somewhere.

    Args:
        checkpoint: the file, which is rewritten.
        num_classes: the classes it was trained on.
        images: files of one size on which they lead; noise where not given.
        width: the network's.

    Returns:
        The network.
    """
    torch.manual_seed(5)
    network = TinyNet(num_classes, width).eval()
    seen = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    pixels = torch.from_numpy(np.stack(seen or [noise(number) for number in range(4)]))
    head = network.segmentation_head[1]
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    with torch.no_grad():
        scores = SegmentationModule(network, num_classes).eval()(pixels.permute(0, 3, 1, 2))
        deviation = scores.std((0, 2, 3))
        head.bias.copy_((head.bias - scores.mean((0, 2, 3))) / deviation)
        head.weight /= deviation[:, None, None, None]
    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    for name, tensor in network.state_dict().items():
        content["state_dict"][f"network.{name}"] = tensor
    torch.save(content, checkpoint)
    return network


def by_hand(network: TinyNet, image: Pixels, box: tuple[int, int] | None = BOX) -> Pixels:
    """Class indices of an RGB image at its own size; its ratio is the box's where there is one."""
    height, width = image.shape[:2]
    small = image if box is None else cv2.resize(image, box, interpolation=cv2.INTER_LINEAR)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels = (torch.tensor(small).float() - mean) / std
    with torch.no_grad():
        scores = network(pixels.permute(2, 0, 1)[None])
    for size in (small.shape[:2], (height, width)):
        scores = F.interpolate(scores, size=size, mode="bilinear")
    return np.asarray(scores.argmax(1)[0], np.uint8)


def noise(number: int, size: tuple[int, int] = (64, 96)) -> Pixels:
    """A random image of patches."""
    generator = np.random.default_rng(number)
    patches = generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(patches, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def read(path: Path) -> Pixels:
    """A PNG of one channel, as it is."""
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert found.ndim == 2
    assert found.dtype == np.uint8
    return np.asarray(found, np.uint8)


LEGENDS = ("classes.csv", "legend.png")
"""Beside the predictions."""


def predicted(folder: Path) -> dict[str, bytes]:
    """Every predicted file of a folder: all but the manifest and its lock."""
    others = ("predictions.json", ".predictions.json.lock", *LEGENDS)
    return {name: data for name, data in contents(folder).items() if name not in others}


PALETTE = np.asarray(SCENE_PALETTE, np.uint8)
