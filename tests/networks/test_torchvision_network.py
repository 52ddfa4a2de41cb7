"""torchvision's networks behind a tensor."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models import WeightsEnum

from pne_seg.feature_hooks import FeatureHook, dummy_forward, find_classifier
from pne_seg.networks import TorchvisionNetwork


@pytest.mark.parametrize(
    ("name", "width"),
    [("deeplabv3_mobilenet_v3_large", 256), ("fcn_resnet50", 512)],
)
def test_output_is_the_named_networks(name: str, width: int) -> None:
    network = TorchvisionNetwork(name, None, classes=5).eval()
    original = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=5
    )
    original.load_state_dict(network.network.state_dict())
    images = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        scores = network(images)
        assert torch.equal(scores, original.eval()(images)["out"])
    assert scores.shape == (1, 5, 40, 56)

    classifier = find_classifier(network)
    hooks = [FeatureHook(classifier.feature, "input"), FeatureHook(classifier.logits, "output")]
    for hook in hooks:
        hook.attach(network)
    dummy_forward(network, hooks)
    assert hooks[0].take().shape[1] == width
    assert hooks[1].take().shape[1] == 5


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no network 'deeplab'.*deeplabv3_resnet50.*fcn_res"):
        TorchvisionNetwork("deeplab", None)


def test_lraspp_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="adds the logits of two classifiers"):
        TorchvisionNetwork("lraspp_mobilenet_v3_large", None)


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="'imagenet' or null, got 'coco'"):
        TorchvisionNetwork("fcn_resnet50", "coco")  # type: ignore[arg-type]


def test_imagenet_stands_for_torchvisions_backbone_weights(monkeypatch: Any) -> None:
    asked: list[str] = []

    def weights(self: WeightsEnum, *args: Any, **kwargs: Any) -> Mapping[str, Tensor]:
        asked.append(str(self))
        state: dict[str, Tensor] = torchvision.models.mobilenet_v3_large(weights=None).state_dict()
        return state

    monkeypatch.setattr(WeightsEnum, "get_state_dict", weights)
    TorchvisionNetwork("deeplabv3_mobilenet_v3_large", None)
    assert not asked
    TorchvisionNetwork("deeplabv3_mobilenet_v3_large")
    assert asked == ["MobileNet_V3_Large_Weights.IMAGENET1K_V1"]
