"""HRNetV2's head, recomputed; and how HRNet's branches are fused."""

import numpy as np
import pytest
import torch

from pne_seg.networks import HRNetV2
from tests.networks.reference import (
    array,
    assert_same,
    conv_bn_relu,
    convolve,
    randomize,
    resize,
)
from tests.tiny_networks import same_tensors


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("decoder_channels", [None, 5])
def test_head_equals_a_plain_recomputation(training: bool, decoder_channels: int | None) -> None:
    network = HRNetV2("tu-hrnet_w18_small", None, decoder_channels=decoder_channels, classes=3)
    randomize(network)
    network.double().train(training)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    features = [array(feature) for feature in network.encoder(images)[2:]]
    assert [feature.shape[1:] for feature in features] == [
        (16, 16, 24),
        (32, 8, 12),
        (64, 4, 6),
        (128, 2, 3),
    ]
    joined = np.concatenate([resize(feature, (16, 24)) for feature in features], axis=1)
    mixed = conv_bn_relu(joined, network.decoder.mix, training)
    scores = resize(convolve(mixed, network.segmentation_head[0]), (64, 96))

    feature = network.decoder([torch.from_numpy(feature) for feature in features])
    assert feature.shape[1] == (decoder_channels or 240)
    assert_same(feature, mixed)
    assert_same(network(images), scores)


def test_fusion_is_bilinear_or_timms_and_keeps_the_state_dict() -> None:
    torch.manual_seed(1)
    bilinear = HRNetV2("tu-hrnet_w18_small", None, decoder_channels=8).eval()
    torch.manual_seed(1)
    nearest = HRNetV2(
        "tu-hrnet_w18_small", None, encoder_fusion="nearest", decoder_channels=8
    ).eval()
    assert same_tensors(bilinear.state_dict(), nearest.state_dict())
    modes = [
        {
            (module.mode, module.align_corners)
            for module in network.encoder.modules()
            if isinstance(module, torch.nn.Upsample)
        }
        for network in (bilinear, nearest)
    ]
    assert modes == [{("bilinear", False)}, {("nearest", None)}]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(bilinear.encoder(images)[2], nearest.encoder(images)[2])


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder_fusion must be 'bilinear' or 'nearest'"):
        HRNetV2("tu-hrnet_w18_small", None, encoder_fusion="bicubic")


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "mit_b0"])
def test_other_encoders_serve(encoder: str) -> None:
    network = HRNetV2(encoder, None, decoder_channels=8, classes=3).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_sizes_that_do_not_divide_are_refused_by_name() -> None:
    network = HRNetV2("tu-resnet10t", None, decoder_channels=8)
    with pytest.raises(RuntimeError, match=r"divisible by 32.*\(64, 64\)"):
        network(torch.rand(1, 3, 60, 64))
