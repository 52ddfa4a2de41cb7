"""Layers written anew give what the layers give that they stand for, at any size."""

import copy
from typing import Any

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.models import swin_transformer_v2
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import nn

from pne_seg.export.any_size import (
    AnySizeSwinBlock,
    EvenPatchMerging,
    MatrixPooling,
    SamePadded,
    for_any_size,
)
from pne_seg.networks.encoders import SwinBlock, SwinV2Block
from tests.methods import NETWORKS
from tests.tiny_networks import same_tensors


@pytest.mark.parametrize("bins", [(2, 2), (3, 3), (6, 6), (3, 5)])
def test_pooling_by_matrices(bins: tuple[int, int]) -> None:
    for height, width in [(1, 1), (2, 5), (6, 6), (7, 16), (13, 31)]:
        images = torch.randn(2, 3, height, width, dtype=torch.float64)
        expected = nn.functional.adaptive_avg_pool2d(images, bins)
        torch.testing.assert_close(MatrixPooling(*bins)(images), expected)


@pytest.mark.parametrize(
    "layer",
    [
        AvgPool2dSame(2, 1),
        AvgPool2dSame(3, 2),
        AvgPool2dSame(2, 5),
        MaxPool2dSame(3, 2),
        MaxPool2dSame((2, 3), (1, 2), dilation=2),
        Conv2dSame(2, 3, 3, stride=2),
        Conv2dSame(2, 4, 3, dilation=2, groups=2, bias=False),
    ],
    ids=lambda layer: str(layer),
)
def test_same_padding(layer: nn.Module) -> None:
    layer.double()
    rewritten = for_any_size(nn.Sequential(layer))
    assert type(rewritten[0]) is SamePadded  # type: ignore[index]
    for height, width in [(5, 5), (8, 11), (13, 6)]:
        images = torch.randn(2, 2, height, width, dtype=torch.float64) - 3
        with torch.no_grad():
            torch.testing.assert_close(rewritten(images), layer(images))


def _block(kind: Any, shift: Any, window: Any = 7) -> Any:
    block = kind(
        8, 16, 2, window_size=window, shift_size=shift, always_partition=True, dynamic_mask=True
    )
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.5)
    return block.double().eval()


@pytest.mark.parametrize(
    "kind",
    [SwinTransformerBlock, SwinBlock, swin_transformer_v2.SwinTransformerV2Block, SwinV2Block],
)
@pytest.mark.parametrize(
    ("window", "shift"), [(7, 0), (7, 3), (4, 2), ((5, 7), (2, 3)), ((5, 7), (0, 3))]
)
def test_swin_blocks_for_every_size(kind: Any, window: Any, shift: Any) -> None:
    """One window or several, sides that the window divides and that are shorter than the shift."""
    block = _block(kind, shift, window)
    rewritten = AnySizeSwinBlock(block)
    for height, width in [(2, 2), (3, 8), (7, 7), (14, 7), (9, 22), (16, 2)]:
        tokens = torch.randn(2, height, width, 8, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(rewritten(tokens), block(tokens))


@pytest.mark.parametrize("kind", [PatchMerging, swin_transformer_v2.PatchMerging])
def test_patch_merging(kind: Any) -> None:
    layer = kind(4).double()
    tokens = torch.randn(2, 6, 10, 4, dtype=torch.float64)
    torch.testing.assert_close(EvenPatchMerging(layer)(tokens), layer(tokens))


def test_the_network_itself_stays_as_it_is() -> None:
    network = NETWORKS["upernet_swin"](3).eval()
    types = [type(layer) for layer in network.modules()]
    before = copy.deepcopy(network.state_dict())
    rewritten = for_any_size(network)
    assert [type(layer) for layer in network.modules()] == types
    assert same_tensors(network.state_dict(), before)
    kinds = {type(layer) for layer in rewritten.modules()}
    assert {MatrixPooling, AnySizeSwinBlock, EvenPatchMerging} <= kinds
    assert not kinds & {SwinBlock, PatchMerging}
    own = {parameter.data_ptr() for parameter in network.parameters()}
    assert not own & {parameter.data_ptr() for parameter in rewritten.parameters()}
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(rewritten(images), network(images), rtol=1e-4, atol=1e-5)


def test_swin_of_one_size_is_left_to_that_size() -> None:
    """Its mask was made for the size that it was built for."""
    block = SwinTransformerBlock(8, (16, 16), 2, shift_size=3, always_partition=True)
    assert type(for_any_size(nn.Sequential(block))[0]) is SwinTransformerBlock  # type: ignore[index]
