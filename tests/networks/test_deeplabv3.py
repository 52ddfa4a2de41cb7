"""DeepLabV3's pyramid of dilated convolutions, recomputed tap by tap."""

import numpy as np
import pytest
import torch

from pne_seg.networks import DeepLabV3
from pne_seg.networks.deeplabv3 import DeepLabV3Decoder
from tests.networks.reference import (
    array,
    assert_same,
    conv_bn_relu,
    convolve,
    randomize,
    resize,
)


@pytest.mark.parametrize("training", [False, True])
def test_decoder_equals_a_plain_recomputation(training: bool) -> None:
    decoder = DeepLabV3Decoder(in_channels=5, channels=4, atrous_rates=(2, 3, 6))
    randomize(decoder)
    decoder.double().train(training)
    last = torch.rand(2, 5, 9, 11, dtype=torch.float64)
    x = array(last)
    mean = x.mean((2, 3), keepdims=True)
    pooled = conv_bn_relu(mean, decoder.image_pooling[1], training)
    branches = [conv_bn_relu(x, branch, training) for branch in decoder.branches]
    joined = np.concatenate([resize(pooled, (9, 11)), *branches], axis=1)
    found = decoder([torch.zeros(1), last])  # all but the last feature are passed over
    assert_same(found, conv_bn_relu(joined, decoder.bottleneck, training))


def test_branches_are_a_1x1_and_the_given_rates() -> None:
    with torch.device("meta"):
        network = DeepLabV3("tu-resnet10t", None)
    convolutions = [branch[0] for branch in network.decoder.branches]
    assert [c.kernel_size[0] for c in convolutions] == [1, 3, 3, 3]
    assert [c.dilation[0] for c in convolutions] == [1, 12, 24, 36]


@pytest.mark.parametrize("stride", [8, 16])
def test_network_is_encoder_decoder_and_enlarged_scores(stride: int) -> None:
    network = DeepLabV3(
        "tu-resnet10t",
        None,
        encoder_output_stride=stride,
        decoder_channels=6,
        atrous_rates=(2, 3),
        classes=3,
    )
    network.double().eval()
    randomize(network)
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        feature = network.decoder(network.encoder(images))
        assert feature.shape == (1, 6, 64 // stride, 96 // stride)
        scores = convolve(array(feature), network.segmentation_head[0])
        assert_same(network(images), resize(scores, (64, 96)))


def test_no_dropout_inside() -> None:
    with torch.device("meta"):
        network = DeepLabV3("tu-resnet10t", None)
    heads = [*network.decoder.modules(), *network.segmentation_head.modules()]
    assert not [m for m in heads if isinstance(m, torch.nn.modules.dropout._DropoutNd)]


def test_an_output_stride_without_a_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 8 or 16, got 32"):
        DeepLabV3("tu-resnet10t", None, encoder_output_stride=32)
