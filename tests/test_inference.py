"""Normalising, padding and resizing against numbers computed by hand."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pne_seg.inference import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    network_stride,
    resize_logits,
    whole_image_logits,
)
from tests.tiny_networks import Subsample, TinyNet


def plain_bilinear(maps: Tensor, height: int, width: int) -> Tensor:
    """Corners not aligned: pixel i samples (i + 0.5) · h / H − 0.5, held inside the map."""
    old_height, old_width = maps.shape[-2:]
    result = torch.empty(*maps.shape[:-2], height, width, dtype=torch.float64)
    maps = maps.double()
    for i in range(height):
        y = max(0.0, (i + 0.5) * old_height / height - 0.5)
        top = min(math.floor(y), old_height - 1)
        bottom = min(top + 1, old_height - 1)
        for j in range(width):
            x = max(0.0, (j + 0.5) * old_width / width - 0.5)
            left = min(math.floor(x), old_width - 1)
            right = min(left + 1, old_width - 1)
            above = maps[..., top, left] * (1 - x + left) + maps[..., top, right] * (x - left)
            below = maps[..., bottom, left] * (1 - x + left) + maps[..., bottom, right] * (x - left)
            result[..., i, j] = above * (1 - y + top) + below * (y - top)
    return result


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalised_and_padded_by_hand(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (2, 3, 5, 6)).to(dtype)
    actual = Preprocessing(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), stride=4)(images)
    assert actual.dtype == torch.float32
    assert actual.shape == (2, 3, 8, 8)
    expected = torch.zeros(2, 3, 8, 8)  # the border is the mean colour: 0 after normalising
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


@pytest.mark.parametrize("size", [(6, 10), (9, 4), (2, 3), (3, 5)])
def test_resize_equals_plain_bilinear(size: tuple[int, int]) -> None:
    logits = torch.randn(2, 4, 3, 5)
    actual = resize_logits(logits, size)
    torch.testing.assert_close(actual.double(), plain_bilinear(logits, *size), rtol=0, atol=1e-5)


def test_resize_by_hand_and_none_where_it_fits() -> None:
    doubled = resize_logits(torch.tensor([[[[0.0, 1.0]]]]), (1, 4))
    assert doubled.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
    logits = torch.randn(1, 2, 3, 4)
    assert resize_logits(logits, [3, 4]) is logits


def test_whole_image_logits_resize_the_padded_image_then_cut() -> None:
    network = Subsample(num_classes=2, stride=2)
    nn.init.eye_(network.segmentation_head.weight.data.view(2, 3))
    nn.init.zeros_(network.segmentation_head.bias.data)  # type: ignore[union-attr]
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    preprocessing = Preprocessing(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0), stride=4)
    with torch.no_grad():
        actual = whole_image_logits(network, preprocessing, images)

    padded = torch.zeros(2, 2, 8, 8)
    padded[:, 0, :5, :7] = (images[:, 0].float() - 10) / 2
    padded[:, 1, :5, :7] = (images[:, 1].float() - 20) / 4
    expected = plain_bilinear(padded[:, :, ::2, ::2], 8, 8)[:, :, :5, :7]
    assert actual.shape == (2, 2, 5, 7)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-4)
