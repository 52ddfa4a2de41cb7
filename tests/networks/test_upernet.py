"""UPerNet is smp's network with the encoder set up, and without the norms that it adds to CNNs."""

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg import networks
from pne_seg.errors import UserError
from pne_seg.networks import UPerNet
from tests.networks import published
from tests.networks.reference import randomize
from tests.tiny_networks import same_tensors

SWIN = {"embed_dim": 24, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # the encoder, what is given here, and what smp's own class has to be told besides
    "tu-hrnet_w18_small": ({}, {"feature_location": ""}),
    "tu-swin_tiny_patch4_window7_224": (SWIN, {"strict_img_size": False, "always_partition": True}),
    "tu-convnext_tiny": (CONVNEXT, {}),
    "tu-resnet10t": ({}, {}),
    "resnet18": ({}, {}),
}


def ours(encoder: str, **settings: Any) -> Any:
    return UPerNet(encoder, None, decoder_channels=8, classes=3, **settings)


def smps(encoder: str) -> Any:
    given, told = SMALL[encoder]
    return smp.UPerNet(
        encoder, 5, None, decoder_channels=8, classes=3, upsampling=1, **given, **told
    ).eval()


@pytest.mark.parametrize("encoder", SMALL)
def test_with_its_norms_it_is_smps_network(encoder: str) -> None:
    """On Swin at a size where all maps are whole windows: else smp's are not the published ones."""
    network = ours(encoder, feature_norms=True, **SMALL[encoder][0]).eval()
    plain = smps(encoder)
    randomize(network)
    plain.load_state_dict(network.state_dict())
    assert list(plain.state_dict()) == list(network.state_dict())
    image = torch.rand(1, 3, 224, 448)
    with torch.no_grad():
        scores = network(image)
        torch.testing.assert_close(scores, plain(image))
    assert scores.shape == (1, 3, 56, 112)


@pytest.mark.parametrize("encoder", SMALL)
def test_norms_are_on_encoders_without_batch_norm_only(encoder: str) -> None:
    network = ours(encoder, **SMALL[encoder][0]).eval()
    plain = smps(encoder)
    norms = {key for key in plain.state_dict() if ".feature_norms." in key}
    assert len(norms) == 8
    transformer = encoder.startswith(("tu-swin", "tu-convnext"))
    lacking = set(plain.state_dict()) - set(network.state_dict())
    assert lacking == (set() if transformer else norms)
    randomize(network)
    plain.load_state_dict(network.state_dict(), strict=False)
    if not transformer:
        plain.decoder.feature_norms = torch.nn.ModuleList()
    image = torch.rand(1, 3, 224, 448)
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain(image))


def test_weights_with_norms_are_told_what_to_set() -> None:
    """The form of earlier versions, and of smp."""
    state = ours("resnet18", feature_norms=True).state_dict()
    with pytest.raises(UserError, match="set feature_norms to true"):
        ours("resnet18").load_state_dict(state)
    ours("resnet18", feature_norms=True).load_state_dict(state)
    without = ours("resnet18").state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*feature_norms"):
        ours("resnet18", feature_norms=True).load_state_dict(without)


@pytest.mark.parametrize("encoder", SMALL)
def test_a_saved_network_comes_back(encoder: str, tmp_path: Path) -> None:
    drop_path = {"drop_path_rate": 0.2} if encoder.startswith("tu-swin") else {}
    network = ours(encoder, **SMALL[encoder][0], **drop_path).eval()
    randomize(network)
    network.save_pretrained(tmp_path / "saved")
    image = torch.rand(1, 3, 64, 96)
    for load in (networks.from_pretrained, UPerNet.from_pretrained):
        again = load(str(tmp_path / "saved")).eval()
        assert same_tensors(again.state_dict(), network.state_dict())
        with torch.no_grad():
            assert torch.equal(again(image), network(image))


@pytest.mark.parametrize(
    ("encoder", "counts"),
    [
        (published.SWIN.format("tiny"), published.UPERNET_SWIN_T),
        ("tu-resnet101c", published.UPERNET_R101),
    ],
)
def test_published_counts_without_further_settings(encoder: str, counts: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = UPerNet(encoder, None, classes=19)
    assert sum(parameter.numel() for parameter in network.parameters()) == counts[0]


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
