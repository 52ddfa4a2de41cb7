"""Built networks have the published number of parameters, to the digit."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pne_seg.networks import DeepLabV3, HRNetV2, OCRNet, UPerNet
from tests.networks import published


def _upernet(size: str) -> Callable[[int], nn.Module]:
    return lambda classes: UPerNet(published.SWIN.format(size), None, classes=classes)


# Settings that are not given are the published ones by default.
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...]]] = {
    "HRNetV2-W48": (
        lambda classes: HRNetV2(encoder_weights=None, classes=classes),
        published.HRNETV2_W48,
    ),
    "HRNetV2-W18": (
        lambda classes: HRNetV2("tu-hrnet_w18", None, classes=classes),
        published.HRNETV2_W18,
    ),
    "OCRNet-W48": (
        lambda classes: OCRNet(encoder_weights=None, classes=classes),
        published.OCRNET_W48,
    ),
    "OCRNet-W18": (
        lambda classes: OCRNet("tu-hrnet_w18", None, classes=classes),
        published.OCRNET_W18,
    ),
    "UPerNet-Swin-T": (_upernet("tiny"), published.UPERNET_SWIN_T),
    "UPerNet-Swin-S": (_upernet("small"), published.UPERNET_SWIN_S),
    "UPerNet-Swin-B": (_upernet("base"), published.UPERNET_SWIN_B),
    "UPerNet-R101": (
        lambda classes: UPerNet("tu-resnet101c", None, classes=classes),
        published.UPERNET_R101,
    ),
    "DeepLabV3-R101": (
        lambda classes: DeepLabV3(encoder_weights=None, classes=classes),
        published.DEEPLABV3_R101,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_counts(name: str) -> None:
    build, counts = NETWORKS[name]
    for classes, count in zip(published.CLASSES, counts, strict=False):  # not all are published
        with torch.device("meta"):
            network = build(classes)
        assert sum(parameter.numel() for parameter in network.parameters()) == count
