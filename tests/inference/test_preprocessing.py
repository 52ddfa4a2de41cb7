"""Normalizing and padding against numbers computed by hand."""

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg.inference import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    network_stride,
)
from tests.tiny_networks import TinyNet


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalized_and_padded_by_hand(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, 5, 6)).to(dtype)
    actual = Preprocessing(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), stride=4)(images)
    assert actual.dtype == torch.float32
    assert actual.shape == (2, 3, 8, 8)
    expected = torch.zeros(2, 3, 8, 8)  # the border is the mean color: 0 after normalizing
    for channel in range(3):
        expected[:, channel, :5, :6] = (images[:, channel].float() - (channel + 1)) / (channel + 4)
    torch.testing.assert_close(actual, expected)


def test_defaults_are_imagenets() -> None:
    # torchvision gives them in 0–1.
    assert pytest.approx([255 * m for m in (0.485, 0.456, 0.406)]) == IMAGENET_MEAN
    assert pytest.approx([255 * s for s in (0.229, 0.224, 0.225)]) == IMAGENET_STD
    black = Preprocessing()(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    assert black.flatten().tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "stride", "padded"),
    [
        ((45, 70), 32, (64, 96)),
        ((64, 96), 32, (64, 96)),
        ((1, 33), 16, (16, 48)),
        ((7, 9), 1, (7, 9)),
    ],
)
def test_labels_are_padded_below_and_right(
    size: tuple[int, int], stride: int, padded: tuple[int, int]
) -> None:
    labels = torch.randint(0, 19, (2, *size), dtype=torch.uint8)
    actual = Preprocessing(stride=stride).pad(labels, 255)
    assert actual.dtype == torch.uint8
    assert actual.shape == (2, *padded)
    assert torch.equal(actual[:, : size[0], : size[1]], labels)
    assert (actual[:, size[0] :] == 255).all()
    assert (actual[:, :, size[1] :] == 255).all()


def test_preprocessing_is_configuration_not_state() -> None:
    assert not Preprocessing().state_dict()
    assert Preprocessing().to(torch.float64)(torch.zeros(1, 3, 2, 2)).dtype == torch.float64


@pytest.mark.parametrize(
    ("mean", "std"),
    [((1.0, 2.0), (1.0, 1.0, 1.0)), ((1.0, 2.0, 3.0), (1.0,)), ((0.0, 0.0, 0.0), (1.0, 0.0, 1.0))],
)
def test_bad_statistics_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three values"):
        Preprocessing(mean, std)


@pytest.mark.parametrize(
    ("name", "stride"), [("UPerNet", 32), ("DeepLabV3Plus", 16), ("PSPNet", 8)]
)
def test_stride_is_what_the_network_refuses_to_go_without(name: str, stride: int) -> None:
    network = getattr(smp, name)("resnet18", encoder_weights=None, classes=2).eval()
    assert network_stride(network) == stride
    network(torch.zeros(1, 3, 3 * stride, 2 * stride))
    with pytest.raises(RuntimeError, match="divisible"):
        network(torch.zeros(1, 3, 3 * stride, 2 * stride + 1))


def test_any_size_does_for_other_networks() -> None:
    unet = smp.Unet("resnet18", encoder_weights=None, classes=2).eval()
    assert network_stride(unet) == 1
    assert unet(torch.zeros(1, 3, 45, 70)).shape == (1, 2, 45, 70)
    assert network_stride(TinyNet()) == 1
