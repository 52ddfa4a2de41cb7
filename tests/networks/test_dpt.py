"""DPT is smp's network, for any size that it can compute and without parameters out of use."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg.inference import network_stride
from pne_seg.networks import DPT, from_pretrained
from tests.networks.reference import randomize
from tests.tiny_networks import same_tensors

VIT = "tu-vit_tiny_patch16_224"
NARROW: dict[str, Any] = {
    "decoder_intermediate_channels": (8, 12, 16, 24),
    "decoder_fusion_channels": 16,
    "classes": 3,
}


def ours(**settings: Any) -> Any:
    return DPT(VIT, None, **NARROW, **settings)


def test_at_the_pretraining_size_it_is_smps_network() -> None:
    network, plain = ours().eval(), smp.DPT(VIT, encoder_weights=None, **NARROW).eval()
    randomize(network)
    missing, unexpected = plain.load_state_dict(network.state_dict(), strict=False)
    # What smp's holds besides is of no effect.
    assert {key.rpartition(".")[0] for key in missing} == {
        "encoder.model.norm",
        "encoder.model.head",
    }
    assert unexpected == []
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(images), plain(images))


def test_sizes() -> None:
    network = ours().eval()
    assert network_stride(network) == 32
    for height, width in [(32, 32), (64, 96), (160, 32)]:
        with torch.no_grad():
            assert network(torch.randn(1, 3, height, width)).shape == (1, 3, height, width)
    with pytest.raises(RuntimeError, match="divisible by 32"):
        network(torch.randn(1, 3, 48, 64))  # smp's states 16, and fails inside


def test_every_parameter_gets_a_gradient() -> None:
    """Distributed training waits for each."""
    network = ours(drop_path_rate=0.1).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    rates = [float(m.drop_prob) for m in network.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.1)


def test_a_saved_network_comes_back(tmp_path: Path) -> None:
    network = ours(decoder_readout="add", encoder_output_indices=[1, 3, 5, 7]).eval()
    randomize(network)
    network.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert type(again) is DPT
    assert same_tensors(again.state_dict(), network.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(
    ("encoder", "settings", "message"),
    [
        ("resnet18", {}, "Only Timm encoders are supported"),
        (VIT, {"drop_paths": 0.1}, "has no setting 'drop_paths'"),
        (VIT, {"encoder_weights": "imagnet"}, "must be 'imagenet' or null"),
    ],
)
def test_what_is_refused(encoder: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPT(encoder, **({"encoder_weights": None} | settings))
