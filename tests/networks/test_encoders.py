"""Encoders: what is set for them, and what is said when they cannot be built."""

import warnings
from typing import Any

import pytest
import timm
import torch

from pne_seg.networks import DeepLabV3, OCRNet
from pne_seg.networks.encoders import build_encoder


def test_hrnet_gives_its_branches_unless_told_otherwise() -> None:
    with torch.device("meta"):
        branches = build_encoder("tu-hrnet_w18_small", None)
        wider = build_encoder("tu-hrnet_w18_small", None, feature_location="incre")
    assert branches.out_channels == [3, 64, 16, 32, 64, 128]
    assert wider.out_channels == [3, 64, 128, 256, 512, 1024]


def test_swin_takes_any_size_and_shifts_its_windows_in_every_stage() -> None:
    """At 256 pixels the last stage is 8×8, more than one window of 7×7: it must be shifted."""
    name = "tu-swin_tiny_patch4_window7_224"
    torch.manual_seed(0)
    faithful = build_encoder(name, None, depths=(2, 2, 2, 2)).eval()
    torch.manual_seed(0)
    unshifted = build_encoder(name, None, depths=(2, 2, 2, 2), always_partition=False).eval()
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        features, others = faithful(images), unshifted(images)
    assert [feature.shape[-1] for feature in features[2:]] == [64, 32, 16, 8]
    for stage in (2, 3, 4):
        assert torch.equal(features[stage], others[stage])
    assert not torch.allclose(features[5], others[5], atol=1e-3)
    stages = [module for key, module in faithful.model.items() if key.startswith("layers_")]
    assert len(stages) == 4
    for layer in stages:
        assert [tuple(block.shift_size) for block in layer.blocks] == [(0, 0), (3, 3)]
        assert {tuple(block.window_size) for block in layer.blocks} == {(7, 7)}


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["tu-resnet10t", "resnet18"])
def test_resnets_dilate(name: str, stride: int) -> None:
    encoder = build_encoder(name, None, output_stride=stride).eval()
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 64, 64))
    assert [64 // f.shape[-1] for f in features] == [min(2**i, stride) for i in range(6)]
    assert encoder.output_stride == stride


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("tu-hrnet_w18_small", OCRNet),
        ("tu-hrnet_w18_small", DeepLabV3),
        ("tu-swin_tiny_patch4_window7_224", OCRNet),
        ("tu-pvt_v2_b0", DeepLabV3),
        ("densenet121", OCRNet),
    ],
)
def test_encoders_that_cannot_be_dilated_are_refused_with_the_fix(name: str, build: Any) -> None:
    message = f"{name}' cannot be built at output stride 8.*tu-resnet101c"
    with pytest.raises(ValueError, match=message):
        build(name, None, encoder_output_stride=8)


@pytest.mark.parametrize("stride", [8, 32])
@pytest.mark.parametrize("name", ["tu-resnet10t", "resnet18"])
def test_an_unknown_setting_is_named(name: str, stride: int) -> None:
    with pytest.raises(ValueError, match=f"'{name}' .*'drop_pth_rate'"):
        build_encoder(name, None, output_stride=stride, drop_pth_rate=0.3)


@pytest.mark.parametrize("name", ["tu-hrnet_w18_small", "tu-swin_tiny_patch4_window7_224"])
def test_an_unknown_setting_is_named_beside_the_own_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has no setting 'drop_pth_rate'"):
        build_encoder(name, None, drop_pth_rate=0.3)


def test_settings_reach_timm() -> None:
    with torch.device("meta"):
        encoder = build_encoder("tu-resnet10t", None, channels=(8, 16, 24, 32))
    assert encoder.out_channels == [3, 64, 8, 16, 24, 32]


def test_in_channels() -> None:
    encoder = build_encoder("tu-resnet10t", None, in_channels=4).eval()
    with torch.no_grad():
        assert encoder(torch.rand(1, 4, 32, 32))[-1].shape == (1, 512, 1, 1)


def test_imagenet_serves_timm_without_a_warning(monkeypatch: Any) -> None:
    asked: list[bool] = []
    create = timm.create_model

    def offline(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs.get("pretrained", False))
        return create(*args, **(kwargs | {"pretrained": False}))

    monkeypatch.setattr(timm, "create_model", offline)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_encoder("tu-resnet10t", "imagenet")
        assert any(asked)
        asked.clear()
        build_encoder("tu-resnet10t", None)
        assert not any(asked)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tu-resnet10t", "'imagenet' or null, got 'ssl'.*tag in the name"),
        ("resnet34", "no weights 'ssl'; it has 'imagenet'"),
    ],
)
def test_unknown_weights_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(name, "ssl")


@pytest.mark.parametrize(("name", "error"), [("tu-nosuch", RuntimeError), ("nosuch", KeyError)])
@pytest.mark.parametrize("weights", [None, "imagenet"])
def test_an_unknown_encoder_is_left_to_smp_and_timm(
    name: str, weights: str | None, error: type[Exception]
) -> None:
    with pytest.raises(error, match="nosuch"):
        build_encoder(name, weights)
