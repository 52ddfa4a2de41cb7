"""Networks as if trained, for exports: random weights whose scores are of a few units."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pne_seg.description import DataDescription
from pne_seg.inference import Preprocessing, network_stride
from pne_seg.trained import Trained

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 55.0)


def description(classes: int, base: tuple[int, int] | None = None) -> DataDescription:
    return DataDescription(
        data="CamVid",
        class_names=tuple(f"class {i}" for i in range(classes)),
        palette=tuple((i, 2 * i, 255 - i) for i in range(classes)),
        ignore_index=255,
        resize_base=base,
    )


def trained(network: nn.Module, classes: int, folder: Path, **more: Any) -> Trained:
    """A network in eval mode, its batch norms with statistics of their own."""
    settle(network)
    settings = {
        "preprocessing": Preprocessing(MEAN, STD, network_stride(network)),
        "data": description(classes),
        "path": folder / "best.ckpt",
    }
    return Trained(network=network.eval(), **{**settings, **more})


def settle(network: nn.Module) -> None:
    """Let each batch norm see random images, so that the scores do not grow from layer to layer."""
    generator = torch.Generator().manual_seed(1)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(2, 3, 64, 64, generator=generator))
    network.eval()


def plain_scores(network: nn.Module, images: Tensor) -> Tensor:
    """From pixels to scores at the images' size, step by step."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        scores: Tensor = network((images - mean) / std)
        if scores.shape[-2:] != images.shape[-2:]:
            scores = F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)
    return scores


def pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, shape, generator=generator).float()


def run_onnx(path: Path, images: Tensor) -> npt.NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"images": images.numpy()})
    found: npt.NDArray[np.float32] = scores
    return found
