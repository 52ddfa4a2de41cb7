"""UPerNet is smp's network with the encoder set up; it is saved as smp's and loads without us."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg import networks
from pne_seg.networks import UPerNet
from tests.networks import published
from tests.networks.reference import randomise
from tests.tiny_networks import same_tensors

SWIN = {"embed_dim": 24, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # the encoder, what is given here, and what smp's own class has to be told besides
    "tu-hrnet_w18_small": ({}, {"feature_location": ""}),
    "tu-swin_tiny_patch4_window7_224": (SWIN, {"strict_img_size": False, "always_partition": True}),
    "tu-resnet10t": ({}, {}),
    "resnet18": ({}, {}),
}


def ours(encoder: str, **settings: Any) -> Any:
    return UPerNet(encoder, None, decoder_channels=8, classes=3, **settings)


@pytest.mark.parametrize("encoder", SMALL)
def test_it_is_smp_s_network(encoder: str) -> None:
    given, told = SMALL[encoder]
    network = ours(encoder, **given).eval()
    plain = smp.UPerNet(
        encoder, 5, None, decoder_channels=8, classes=3, upsampling=1, **given, **told
    ).eval()
    assert isinstance(network, smp.UPerNet)
    randomise(network)
    plain.load_state_dict(network.state_dict())
    assert list(plain.state_dict()) == list(network.state_dict())
    image = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        scores = network(image)
        assert torch.equal(scores, plain(image))
    assert scores.shape == (1, 3, 24, 40)


@pytest.mark.parametrize("encoder", SMALL)
def test_a_saved_network_loads_with_smp_alone(encoder: str, tmp_path: Path) -> None:
    drop_path = {"drop_path_rate": 0.2} if encoder.startswith("tu-swin") else {}
    network = ours(encoder, **SMALL[encoder][0], **drop_path).eval()
    randomise(network)
    network.save_pretrained(tmp_path / "saved")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.save((image, network(image)), tmp_path / "expected.pt")
    for load in (networks.from_pretrained, UPerNet.from_pretrained, smp.from_pretrained):
        again = load(str(tmp_path / "saved")).eval()
        assert same_tensors(again.state_dict(), network.state_dict())
        with torch.no_grad():
            assert torch.equal(again(image), network(image))
    program = (
        "import sys, torch, segmentation_models_pytorch as smp\n"
        "image, expected = torch.load('expected.pt')\n"
        "with torch.no_grad(): scores = smp.from_pretrained('saved').eval()(image)\n"
        "assert 'pne_seg' not in sys.modules\n"
        "torch.testing.assert_close(scores, expected)\n"
    )
    if encoder == "tu-hrnet_w18_small":  # one is enough: a process takes seconds to start
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def test_published_counts_without_further_settings() -> None:
    with torch.device("meta"):
        network = UPerNet(published.SWIN.format("tiny"), None, classes=19)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == published.UPERNET_SWIN_T[published.CLASSES.index(19)]


def test_drop_path_reaches_the_encoder() -> None:
    network = ours("tu-swin_tiny_patch4_window7_224", drop_path_rate=0.4, **SWIN)
    rates = [
        float(module.drop_prob)
        for module in network.modules()
        if type(module).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("encoder", "settings", "message"),
    [
        ("resnet18", {"drop_path_rate": 0.1}, "takes no further settings, got 'drop_path_rate'"),
        ("tu-resnet10t", {"drop_path": 0.1}, "'tu-resnet10t' has no setting 'drop_path'"),
        ("tu-hrnet_w18_small", {"drop_path_rate": 0.1}, "has no setting 'drop_path_rate'"),
        ("tu-resnet10t", {"encoder_weights": "imagnet"}, "must be 'imagenet' or null"),
    ],
)
def test_what_an_encoder_does_not_know(
    encoder: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        UPerNet(encoder, **({"encoder_weights": None} | settings))
