"""Weights load by smp, by this package, or by the class that they are of."""

import json
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors import safe_open
from torch import nn

from pne_seg import networks
from pne_seg.export.writer import export
from tests.allowed import load_trained
from tests.export.trained import trained
from tests.methods import SWIN
from tests.tiny_networks import TinyNet, same_tensors

CLASSES = 4
OWN = {
    "HRNetV2": lambda: networks.HRNetV2(
        "tu-hrnet_w18_small", None, decoder_channels=8, classes=CLASSES
    ),
    "UPerNet": lambda: networks.UPerNet(
        "tu-swin_tiny_patch4_window7_224", None, decoder_channels=8, classes=CLASSES, **SWIN
    ),
}


def test_smp_loads_its_own(tmp_path: Path) -> None:
    network = smp.UPerNet("tu-resnet10t", encoder_weights=None, decoder_channels=8, classes=CLASSES)
    export(trained(network, CLASSES, tmp_path), tmp_path / "out", ["safetensors"])
    again = smp.from_pretrained(tmp_path / "out").eval()
    assert type(again) is smp.UPerNet
    assert same_tensors(again.state_dict(), network.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("name", OWN)
def test_this_packages_networks(name: str, tmp_path: Path) -> None:
    network = OWN[name]().eval()
    export(trained(network, CLASSES, tmp_path), tmp_path / "out", ["safetensors"])
    again = networks.from_pretrained(tmp_path / "out")
    assert type(again) is type(network)
    assert same_tensors(again.state_dict(), network.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from pne_seg.networks import from_pretrained" in card


class Tied(nn.Module):
    """Two names for one tensor, which safetensors keeps once; settings without defaults."""

    def __init__(self, width: int, scales: tuple[float, float]) -> None:
        super().__init__()
        self.scales = scales
        self.first = nn.Conv2d(3, width, 1)
        self.second = nn.Conv2d(width, width, 1)
        self.second.bias = self.first.bias
        self.classifier = nn.Conv2d(width, CLASSES, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        feature = self.second(self.first(images * self.scales[0])) * self.scales[1]
        scores: torch.Tensor = self.classifier(feature)
        return scores


def test_any_other_class(tmp_path: Path) -> None:
    network = Tied(5, (0.5, 2.0))
    slot: dict[str, Any] = {
        "class_path": "tests.export.test_weights_file.Tied",
        "init_args": {"width": 5, "scales": [0.5, 2.0]},
    }
    given = trained(network, CLASSES, tmp_path, slot=slot)
    export(given, tmp_path / "out", ["safetensors"])
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == slot
    again = load_trained(tmp_path / "out").network
    assert isinstance(again, Tied)
    assert again.scales == (0.5, 2.0)
    assert same_tensors(again.state_dict(), network.state_dict())


def test_a_users_subclass_of_smps_is_no_class_of_smps(tmp_path: Path) -> None:
    network = UPerNet()
    slot = {"class_path": "tests.export.test_weights_file.UPerNet", "init_args": {"width": 8}}
    given = trained(network, CLASSES, tmp_path, slot=slot)
    export(given, tmp_path / "out", ["safetensors"])
    assert type(load_trained(tmp_path / "out").network) is UPerNet


class UPerNet(smp.UPerNet):  # type: ignore[misc]  # smp is untyped
    """Of smp's name, with a setting of its own."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(
            "tu-resnet10t", encoder_weights=None, decoder_channels=width, classes=CLASSES
        )


def test_the_header_says_what_the_weights_are(tmp_path: Path) -> None:
    network = TinyNet(CLASSES)
    slot = {"class_path": "tests.tiny_networks.TinyNet", "init_args": {"num_classes": CLASSES}}
    given = trained(network, CLASSES, tmp_path, slot=slot)
    export(given, tmp_path / "out", ["safetensors"])
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as opened:
        header = opened.metadata()
    assert header["format"] == "pt"
    assert json.loads(header["class_names"]) == [f"class {i}" for i in range(CLASSES)]
    assert "normalized: (pixels in 0-255 - mean) / std" in header["input"]
