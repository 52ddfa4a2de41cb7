"""OCRNet's two stages, recomputed with loops over pixels and regions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pne_seg.feature_hooks import FeatureHook, capture
from pne_seg.networks import OCRNet
from pne_seg.networks.hrnet import ObjectContextDecoder, gather_regions
from tests.networks.reference import (
    Array,
    array,
    assert_same,
    conv_bn_relu,
    convolve,
    randomize,
    resize,
    softmax,
)

CLASSES, CHANNELS, KEYS = 3, 6, 4
TINY = {"decoder_channels": CHANNELS, "key_channels": KEYS, "classes": CLASSES}


def _features(stride: int) -> list[Tensor]:
    """An encoder's features for images of 64×96 pixels, the last at the given stride."""
    widths = (3, 2, 2, 3, 4, 5)
    return [
        torch.randn(2, width, 64 // s, 96 // s, dtype=torch.float64)
        for width, s in zip(widths, [min(2**i, stride) for i in range(6)], strict=True)
    ]


def _decoder(features: list[Tensor], stride: int) -> ObjectContextDecoder:
    decoder = ObjectContextDecoder([f.shape[1] for f in features], stride, CLASSES, CHANNELS, KEYS)
    randomize(decoder)
    with torch.no_grad():
        # Far from uniform, so that it matters which region a pixel looks at.
        for layer in decoder.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 3
    return decoder.double()


def _recompute(
    decoder: ObjectContextDecoder, tensors: list[Tensor], stride: int, training: bool
) -> list[Array]:
    """Stage 1's scores and stage 2's feature."""
    features = [array(tensor) for tensor in tensors]
    if stride < 32:
        coarse, fine = features[-2:]
    else:
        size = features[2].shape[2], features[2].shape[3]
        coarse = fine = np.concatenate([resize(f, size) for f in features[2:]], axis=1)
    logits = convolve(
        conv_bn_relu(coarse, decoder.region_feature, training), decoder.region_classifier
    )
    pixels = conv_bn_relu(fine, decoder.pixel_feature, training)
    batch, _, height, width = pixels.shape

    regions = np.zeros((batch, CHANNELS, CLASSES, 1))
    for b in range(batch):
        for k in range(CLASSES):
            weights = softmax(logits[b, k].ravel()).reshape(height, width)
            for y in range(height):
                for x in range(width):
                    regions[b, :, k, 0] += weights[y, x] * pixels[b, :, y, x]

    attention = decoder.attention
    query, key = pixels, regions
    for i in range(2):
        query = conv_bn_relu(query, attention.query[i], training)
        key = conv_bn_relu(key, attention.key[i], training)
    value = conv_bn_relu(regions, attention.value, training)
    mixed = np.zeros((batch, KEYS, height, width))
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                likeness = [
                    float(query[b, :, y, x] @ key[b, :, k, 0]) / math.sqrt(KEYS)
                    for k in range(CLASSES)
                ]
                for k, weight in enumerate(softmax(np.array(likeness))):
                    mixed[b, :, y, x] += weight * value[b, :, k, 0]
    context = conv_bn_relu(mixed, attention.out, training)
    joined = np.concatenate([context, pixels], axis=1)
    return [logits, conv_bn_relu(joined, decoder.fuse, training)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_decoder_equals_loops_over_pixels_and_regions(stride: int, training: bool) -> None:
    features = _features(stride)
    decoder = _decoder(features, stride).train(training)
    logits, fused = _recompute(decoder, features, stride, training)
    hook = FeatureHook("region_classifier", "output")
    hook.attach(decoder)
    with capture([hook]):
        found = decoder(features)
    assert_same(found, fused)
    assert_same(hook.take(), logits)

    # They would agree on anything if queries and keys had no effect on so small a decoder.
    decoder.attention.scale *= 2
    assert (decoder(features) - found).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("encoder", "stride", "expected"), [("tu-hrnet_w18_small", 32, 4), ("tu-resnet10t", 8, 8)]
)
def test_network_is_encoder_decoder_and_enlarged_scores(
    encoder: str, stride: int, expected: int
) -> None:
    network = OCRNet(encoder, None, encoder_output_stride=stride, **TINY).double().eval()
    randomize(network)
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        feature = network.decoder(network.encoder(images))
        assert feature.shape == (1, CHANNELS, 64 // expected, 96 // expected)
        scores = convolve(array(feature), network.segmentation_head[0])
        assert_same(network(images), resize(scores, (64, 96)))


def test_a_dilated_resnet_has_an_fcn_head_of_its_own_on_stage_3() -> None:
    with torch.device("meta"):
        network = OCRNet("tu-resnet101c", None, encoder_output_stride=8, classes=19)
    first = network.decoder.region_feature[0]
    assert first.weight.shape == (256, 1024, 3, 3)
    assert network.decoder.region_classifier.weight.shape == (19, 256, 1, 1)
    assert network.decoder.pixel_feature[0].weight.shape == (512, 2048, 3, 3)
    hooks = [
        FeatureHook("decoder.region_feature", "input"),
        FeatureHook("decoder.region_classifier", "output"),
    ]
    small = OCRNet("tu-resnet10t", None, encoder_output_stride=8, **TINY).eval()
    images = torch.rand(1, 3, 64, 64)
    for hook in hooks:
        hook.attach(small)
    with torch.no_grad(), capture(hooks):
        small(images)
    with torch.no_grad():
        stage_3 = small.encoder(images)[4]
    assert stage_3.shape == (1, 256, 8, 8)
    assert torch.equal(hooks[0].take(), stage_3)
    assert hooks[1].take().shape == (1, CLASSES, 8, 8)


def test_regions_keep_their_digits_in_half_precision() -> None:
    """Over 10⁶ pixels a uniform weight is 17 of half precision's smallest steps: 1 % off."""
    features = torch.ones(1, 2, 1000, 1000, dtype=torch.float16)
    logits = torch.zeros(1, 3, 1000, 1000, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.float16):
        regions = gather_regions(logits, features)
    assert regions.dtype == torch.float16
    torch.testing.assert_close(regions, torch.ones(1, 3, 2, dtype=torch.float16))


def test_gradients_reach_every_parameter_under_autocast() -> None:
    network = OCRNet("tu-resnet10t", None, encoder_output_stride=16, **TINY)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = network(torch.rand(2, 3, 64, 64))
    scores.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_an_output_stride_without_a_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 8, 16 or 32, got 4"):
        OCRNet("tu-resnet10t", None, encoder_output_stride=4)
