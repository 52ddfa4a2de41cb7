"""What the own networks share: the classifier, the upsampling, what hooks find."""

from typing import Any

import pytest
import torch
from torch import nn

from pne_seg.feature_hooks import Classifier, FeatureHook, dummy_forward, find_classifier
from pne_seg.networks import DeepLabV3, HRNetV2, OCRNet
from pne_seg.networks.layers import SegmentationHead
from tests.networks.reference import array, assert_same, convolve, resize

NETWORKS: list[tuple[Any, dict[str, Any], int]] = [
    (HRNetV2, {"encoder_name": "tu-hrnet_w18_small", "decoder_channels": 8}, 4),
    (OCRNet, {"encoder_name": "tu-hrnet_w18_small", "decoder_channels": 8}, 4),
    (OCRNet, {"encoder_name": "tu-resnet10t", "encoder_output_stride": 16}, 16),
    (OCRNet, {"encoder_name": "tu-resnet10t", "encoder_output_stride": 8}, 8),
    (DeepLabV3, {"encoder_name": "tu-resnet10t", "decoder_channels": 8}, 8),
    (DeepLabV3, {"encoder_name": "tu-resnet10t", "encoder_output_stride": 16}, 16),
]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_upsampling_is_bilinear_between_pixel_centers(factor: int) -> None:
    head = SegmentationHead(3, classes=2, upsampling=factor).double()
    feature = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    scores = convolve(array(feature), head[0])
    assert_same(head(feature), resize(scores, (4 * factor, 5 * factor)))


@pytest.mark.parametrize(("network_class", "settings", "stride"), NETWORKS)
def test_scores_come_at_the_images_size_or_the_features(
    network_class: Any, settings: dict[str, Any], stride: int
) -> None:
    network = network_class(encoder_weights=None, classes=3, **settings).eval()
    low = network_class(encoder_weights=None, classes=3, upsampling=1, **settings).eval()
    low.load_state_dict(network.state_dict())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        scores, low_scores = network(images), low(images)
    assert scores.shape == (1, 3, 64, 96)
    assert low_scores.shape == (1, 3, 64 // stride, 96 // stride)
    enlarged = nn.functional.interpolate(
        low_scores, size=(64, 96), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(scores, enlarged)


@pytest.mark.parametrize(("network_class", "settings", "stride"), NETWORKS[1:5:2])
def test_activation_comes_last(network_class: Any, settings: dict[str, Any], stride: int) -> None:
    plain = network_class(encoder_weights=None, **settings).eval()
    squashed = network_class(encoder_weights=None, activation="sigmoid", **settings).eval()
    squashed.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(squashed(images), plain(images).sigmoid())


@pytest.mark.parametrize(
    ("build", "width"),
    [
        (lambda: HRNetV2("tu-hrnet_w18", None, classes=4), 270),
        (lambda: HRNetV2("tu-hrnet_w48", None, classes=4), 720),
        (lambda: OCRNet("tu-resnet10t", None, classes=4), 512),
        (lambda: DeepLabV3("tu-resnet10t", None, classes=4), 512),
    ],
    ids=["HRNetV2-W18", "HRNetV2-W48", "OCRNet", "DeepLabV3"],
)
def test_hooks_find_the_feature_and_the_logits(build: Any, width: int) -> None:
    with torch.device("meta"):
        network = build()
    classifier = find_classifier(network)
    assert classifier == Classifier("segmentation_head.0", "segmentation_head.0")
    hooks = [FeatureHook(classifier.feature, "input"), FeatureHook(classifier.logits, "output")]
    for hook in hooks:
        hook.attach(network)
    # On "meta" only shapes are computed; `dummy_forward` puts its image where the weights are.
    with torch.device("meta"):
        output = dummy_forward(network, hooks)
    feature, logits = (hook.take() for hook in hooks)
    assert feature.shape[1] == width
    assert logits.shape == (1, 4, *feature.shape[2:])
    assert output.shape == (1, 4, 64, 64)


@pytest.mark.parametrize(("network_class", "settings", "stride"), NETWORKS[3:5])
def test_networks_export_as_one_graph(
    network_class: Any, settings: dict[str, Any], stride: int
) -> None:
    network = network_class(encoder_weights=None, classes=3, **settings).eval()
    images = torch.rand(1, 3, 64, 64)
    exported = torch.export.export(network, (images,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(images), network(images))
