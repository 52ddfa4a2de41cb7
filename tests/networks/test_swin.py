"""Swin's windows are the published network's at every size: padded first, then shifted."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.models import swin_transformer, swin_transformer_v2
from torch import Tensor, nn

from pne_seg.networks import HRNetV2, OCRNet, UPerNet
from pne_seg.networks.encoders import SwinBlock, SwinV2Block, build_encoder, pad_before_shift
from tests.networks import plain_swin

SMALL: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 2, 4]}
STOCK = {swin_transformer.SwinTransformerBlock, swin_transformer_v2.SwinTransformerV2Block}
NAMES = ["tu-swin_tiny_patch4_window7_224", "tu-swinv2_tiny_window8_256"]


def encoder_of(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(name, None, **SMALL, **settings).model.double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 1 or parameter.shape[-1] < 8:  # biases, norms, position biases
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return encoder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "size",
    [(96, 224), (160, 224), (256, 256), (512, 512), (32, 352), (416, 64)],
)
def test_an_encoder_equals_a_plain_recomputation(name: str, size: tuple[int, int]) -> None:
    encoder = encoder_of(name)
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        # timm's feature network keeps channels last.
        found = [feature.permute(0, 3, 1, 2) for feature in encoder(images)]
        expected = plain_swin.run_encoder(encoder, images)
    for feature, plain in zip(found, expected, strict=True):
        assert plain.abs().max() > 0.1
        torch.testing.assert_close(feature, plain)


@pytest.mark.parametrize("kind", [SwinBlock, SwinV2Block])
@pytest.mark.parametrize("shift", [0, 3])
def test_a_block_at_odd_sizes(kind: Any, shift: int) -> None:
    torch.manual_seed(0)
    settings = {"shift_size": shift, "always_partition": True, "dynamic_mask": True}
    block = kind(8, 16, 2, window_size=7, **settings).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0, 0.5)
    for height, width in [(1, 1), (2, 9), (7, 7), (8, 15), (13, 6), (23, 20)]:
        tokens = torch.randn(2, height, width, 8, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(block(tokens), plain_swin.run_block(block, tokens))


@pytest.mark.parametrize("name", NAMES)
def test_training_with_drop_path(name: str) -> None:
    encoder = encoder_of(name, drop_path_rate=0.5).train()
    images = torch.randn(3, 3, 96, 160, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(5)
    found = encoder(images)[-1].permute(0, 3, 1, 2)
    gradient = torch.autograd.grad(found.square().sum(), images)[0]
    torch.manual_seed(5)
    expected = plain_swin.run_encoder(encoder, images)[-1]
    torch.testing.assert_close(found, expected)
    plain = torch.autograd.grad(expected.square().sum(), images)[0]
    torch.testing.assert_close(gradient, plain)
    with torch.no_grad():
        assert not torch.allclose(encoder(images)[-1], found.permute(0, 2, 3, 1))  # it does drop


@pytest.mark.slow
def test_a_compiled_stage() -> None:
    stage = encoder_of(NAMES[0]).layers_0  # a block without and one with a shift
    compiled: Any = torch.compile(stage, backend="aot_eager")
    for size in [(24, 40), (16, 56)]:
        tokens = torch.randn(1, *size, 16, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(compiled(tokens), stage(tokens))


def reached(block: Any, size: int, change: tuple[int | slice, int | slice]) -> set[tuple[int, int]]:
    """The tokens of a square map that a change of some of them reaches."""
    tokens = torch.randn(1, size, size, 16, dtype=torch.float64)
    changed = tokens.clone()
    changed[0][change] += torch.randn(16, dtype=torch.float64)
    with torch.no_grad():
        moved: Tensor = (block(changed) - block(tokens)).abs().amax(-1)[0] > 0
    return {(int(row), int(column)) for row, column in moved.nonzero()}


@pytest.mark.parametrize(("name", "window"), [(NAMES[0], 7), (NAMES[1], 8)])
def test_a_change_at_a_border_reaches_no_other(name: str, window: int) -> None:
    """At 512×512 stage 1 has 128 rows, no multiple of 7."""
    block = encoder_of(name).layers_0.blocks[1]
    shift = window // 2
    assert block.shift_size == (shift, shift)
    size = {7: 128, 8: 98}[window]
    whole = slice(None)
    first_rows = {row for row, _ in reached(block, size, (0, whole))}
    first_columns = {column for _, column in reached(block, size, (whole, 0))}
    assert first_rows == first_columns == set(range(shift))
    last_rows = {row for row, _ in reached(block, size, (size - 1, whole))}
    assert last_rows == set(range((size - 1 - shift) // window * window + shift, size))
    timms = copy.copy(block)  # the fault that this is about
    timms.__class__ = next(kind for kind in STOCK if isinstance(block, kind))
    assert size - 1 in {row for row, _ in reached(timms, size, (0, whole))}


@pytest.mark.parametrize("name", NAMES)
def test_timm_stays_as_it_is(name: str) -> None:
    ours = encoder_of(name)
    kinds = {type(module) for module in ours.modules()}
    assert kinds & {SwinBlock, SwinV2Block}
    assert not kinds & STOCK
    flexible: dict[str, Any] = {"strict_img_size": False, "always_partition": True}
    theirs = timm.create_model(name.removeprefix("tu-"), features_only=True, **SMALL, **flexible)
    assert {type(module) for module in theirs.modules()} & STOCK
    assert list(theirs.state_dict()) == list(ours.state_dict())
    # Where every map is whole windows, the two are the same network.
    theirs.double().eval().load_state_dict(ours.state_dict())
    side = 32 * 7 if "window7" in name else 32 * 8
    images = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        for feature, expected in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(feature, expected)


@pytest.mark.parametrize("network", [HRNetV2, OCRNet, UPerNet])
def test_every_network_takes_the_published_blocks(network: Any) -> None:
    built = network(NAMES[0], None, classes=3, **SMALL)
    assert sum(isinstance(module, SwinBlock) for module in built.modules()) == 8


def test_other_encoders_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm(3))
    before = [type(module) for module in network.modules()]
    pad_before_shift(network)
    assert [type(module) for module in network.modules()] == before
