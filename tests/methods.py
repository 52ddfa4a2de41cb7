"""The paper's methods on narrow encoders, small enough to train in a test."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from pne_seg import networks
from pne_seg.contrast.component import PNE
from pne_seg.module import Batch, SegmentationModule
from pne_seg.networks.auxiliary import Auxiliary

SWIN = {
    **{"embed_dim": 24, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]},
    "drop_path_rate": 0.0,
}


def _upernet(encoder: str, classes: int, **settings: Any) -> Any:
    return networks.UPerNet(encoder, None, decoder_channels=24, classes=classes, **settings)


NETWORKS: dict[str, Callable[[int], Any]] = {
    "deeplabv3": lambda classes: networks.DeepLabV3(
        "tu-resnet10t", None, decoder_channels=24, classes=classes
    ),
    "hrnetv2": lambda classes: networks.HRNetV2("tu-hrnet_w18_small", None, classes=classes),
    "ocrnet": lambda classes: networks.OCRNet(
        "tu-hrnet_w18_small", None, decoder_channels=32, key_channels=16, classes=classes
    ),
    "upernet_resnet": lambda classes: _upernet("tu-resnet10t", classes),
    "upernet_swin": lambda classes: _upernet("tu-swin_tiny_patch4_window7_224", classes, **SWIN),
}


def auxiliary(method: str) -> Auxiliary | None:
    """The method's auxiliary head, as its recipe has it."""
    if method == "hrnetv2":
        return None
    if method == "ocrnet":
        return networks.AuxiliaryLogits()
    if method == "upernet_swin":
        return networks.FCNHead(feature_module="decoder.feature_norms.2", channels=16)
    return networks.FCNHead(channels=16)


def loader(batches: list[Batch]) -> DataLoader[Batch]:
    """Ready-made batches as a loader."""
    return DataLoader(cast("Dataset[Batch]", batches), batch_size=None)


def training_module(method: str, classes: int, **settings: Any) -> SegmentationModule:
    """A method as it is trained: with contrast and its auxiliary head; the same weights each time.

    Pairs are not limited in their wrong pixels, of which an untrained network has many.
    """
    torch.manual_seed(0)
    contrast = PNE(embedding_dim=16, max_anchors=10_000)
    return SegmentationModule(
        NETWORKS[method](classes),
        classes,
        contrast=contrast,
        auxiliary=auxiliary(method),
        **settings,
    )
