"""Saved networks come back as they were, whichever library their class is of."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg import networks
from pne_seg.networks import DeepLabV3, HRNetV2, OCRNet, TorchvisionNetwork, from_pretrained
from tests.networks.reference import randomize
from tests.tiny_networks import same_tensors

NETWORKS: dict[str, Any] = {
    "HRNetV2": lambda: HRNetV2(
        "tu-hrnet_w18_small", None, encoder_fusion="nearest", decoder_channels=8, classes=3
    ),
    "OCRNet": lambda: OCRNet(
        "tu-resnet10t", None, 16, decoder_channels=8, key_channels=4, classes=3, upsampling=1
    ),
    "DeepLabV3": lambda: DeepLabV3(
        "tu-resnet10t",
        None,
        decoder_channels=8,
        atrous_rates=(2, 3),
        channels=(8, 16, 24, 32),  # handed to timm
    ),
    "TorchvisionNetwork": lambda: TorchvisionNetwork(
        "deeplabv3_mobilenet_v3_large", None, classes=3
    ),
    "smp.UPerNet": lambda: smp.UPerNet("tu-resnet10t", encoder_weights=None, decoder_channels=8),
    "smp.DeepLabV3": lambda: smp.DeepLabV3(
        "tu-resnet10t", encoder_weights=None, decoder_channels=8
    ),
}


def _forbid_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS[name]().eval()
    randomize(network)
    network.save_pretrained(tmp_path)
    # As after a training from pretrained weights, which must not be fetched again.
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    assert {"encoder_weights", "weights_backbone"} & set(saved)
    for key in {"encoder_weights", "weights_backbone"} & set(saved):
        saved[key] = "imagenet"
    file.write_text(json.dumps(saved))
    _forbid_the_network(monkeypatch)

    images = torch.rand(1, 3, 64, 64)
    loaders = [from_pretrained]
    if not name.startswith("smp."):
        loaders.append(type(network).from_pretrained)
    for load in loaders:
        again = load(tmp_path)
        assert type(again) is type(network)
        assert not again.training
        assert same_tensors(again.state_dict(), network.state_dict())
        with torch.no_grad():
            assert torch.equal(again(images), network(images))


def test_smp_does_not_take_the_networks_for_its_own(tmp_path: Path) -> None:
    """smp has a DeepLabV3 too; it would build another network."""
    NETWORKS["DeepLabV3"]().save_pretrained(tmp_path)
    with pytest.raises(AttributeError, match=r"pne_seg\.networks\.DeepLabV3"):
        smp.from_pretrained(tmp_path)
    assert "from pne_seg.networks import from_pretrained" in (tmp_path / "README.md").read_text()


def test_saving_leaves_the_configuration_as_it_was(tmp_path: Path) -> None:
    network = NETWORKS["OCRNet"]()
    before = dict(network.config)
    network.save_pretrained(tmp_path)
    assert network.config == before


def test_settings_replace_the_saved_ones(tmp_path: Path) -> None:
    NETWORKS["OCRNet"]().save_pretrained(tmp_path)
    network = from_pretrained(tmp_path, upsampling=4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    NETWORKS["OCRNet"]().save_pretrained(tmp_path)
    for load in (from_pretrained, OCRNet.from_pretrained):
        with (
            pytest.warns(UserWarning, match=r"decoder.region_classifier.bias.*\[3\].*\[4\]"),
            pytest.raises(RuntimeError, match=r"Missing.*region_classifier\.bias"),
        ):
            load(tmp_path, classes=4)


def test_a_network_of_an_unknown_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        from_pretrained(tmp_path)
    for saved in ("Nowhere", "pne_seg.networks.Nowhere", "other.package.OCRNet"):
        (tmp_path / "config.json").write_text(json.dumps({"_model_class": saved}))
        with pytest.raises(ValueError, match=saved):
            from_pretrained(tmp_path)


def test_all_public_networks_are_tried_here() -> None:
    public = {name: getattr(networks, name) for name in networks.__all__}
    tried_elsewhere = {"UPerNet", "DPT"}  # test_upernet.py, test_dpt.py
    assert {name for name, value in public.items() if hasattr(value, "save_pretrained")} == {
        name for name in NETWORKS if not name.startswith("smp.")
    } | tried_elsewhere
