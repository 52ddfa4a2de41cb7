"""Whole images, windows, scales and mirror images against loops that hold everything in memory."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead, SegmentationModel
from torch import Tensor, nn

from benchmarks.measure import peak_tensors
from pne_seg.inference import Inference, Predictor, Preprocessing, network_stride
from pne_seg.inference.protocol import window_weight
from pne_seg.networks import DPT, DeepLabV3, HRNetV2, UPerNet
from tests.inference.plain import plain_bilinear, plain_scores, plain_views
from tests.tiny_networks import Subsample, TinyNet

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "smp UPerNet": partial(smp.UPerNet, "resnet18", decoder_channels=16),
    "smp FPN": partial(smp.FPN, "resnet18"),
    "smp Unet": partial(smp.Unet, "resnet18"),
    "UPerNet": partial(UPerNet, "resnet18", decoder_channels=16),
    "DeepLabV3": partial(DeepLabV3, "tu-resnet18", decoder_channels=16),
    "HRNetV2": partial(HRNetV2, "tu-hrnet_w18_small"),
    "DPT": partial(DPT, "tu-vit_tiny_patch16_224", decoder_fusion_channels=16),
}


def images(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def predictor(network: nn.Module, **settings: Any) -> Predictor:
    preprocessing = Preprocessing(stride=network_stride(network))
    return Predictor(network.eval(), preprocessing, Inference(**settings))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_by_hand_the_padded_image_is_resized_then_cut() -> None:
    network = Subsample(num_classes=2, stride=2)
    head = network.segmentation_head
    head.weight.data.copy_(torch.eye(2, 3)[..., None, None])
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    batch = images(2, 5, 7)
    preprocessing = Preprocessing(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0), stride=4)
    actual = Predictor(network, preprocessing).logits(batch)

    padded = torch.zeros(2, 2, 8, 8)
    padded[:, 0, :5, :7] = (batch[:, 0].float() - 10) / 2
    padded[:, 1, :5, :7] = (batch[:, 1].float() - 20) / 4
    expected = plain_bilinear(padded[:, :, ::2, ::2], 8, 8)[:, :, :5, :7]
    assert actual.shape == (2, 2, 5, 7)
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", BUILDERS)
def test_each_network_s_own_upsampling_is_what_is_done_by_bands(name: str) -> None:
    network = BUILDERS[name](encoder_weights=None, classes=4).eval()
    state = copy.deepcopy(network.state_dict())
    layers = dict(network.named_modules())
    found, batch = predictor(network), images(1, 45, 70)
    expected = plain_scores(
        network, found.preprocessing.normalize(batch), stride=network_stride(network)
    )
    torch.testing.assert_close(found.logits(batch), expected, rtol=1e-4, atol=1e-4)
    # At another size, as labels may be.
    other = F.interpolate(expected, size=(31, 97), mode="bilinear").argmax(1)
    assert (found.classes(batch, (31, 97)) == other).float().mean() > 0.999
    # The network is as it was.
    assert dict(network.named_modules()) == layers
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_forward_of_its_own_is_called_as_it_is() -> None:
    class Cooled(smp.FPN):  # type: ignore[misc]  # smp is untyped
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = super().forward(x) / 3
            return logits

    network = Cooled("resnet18", encoder_weights=None, classes=4).eval()
    batch = images(1, 64, 96)
    inputs = Preprocessing().normalize(batch)
    assert torch.equal(predictor(network).logits(batch), network(inputs))


def test_sides_that_the_network_does_not_divide_are_refused_by_smps_message() -> None:
    network = smp.UPerNet("resnet18", encoder_weights=None, decoder_channels=16, classes=4).eval()
    with pytest.raises(RuntimeError, match="divisible by 32"):
        Predictor(network, Preprocessing(stride=1)).logits(images(1, 45, 70))


def test_compiled_predictions_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` traces, but needs no C++ compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    network = smp.FPN("resnet18", encoder_weights=None, classes=4)
    found, batch = predictor(network, flip=True), images(1, 45, 70)
    expected = found.logits(batch)
    found.compile()
    assert torch.equal(found.logits(batch), expected)
    torch._dynamo.reset()


# ---- windows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(24, 40), (24, 64), (100, 40), (512, 512)])
@pytest.mark.parametrize("blend", ["even", "gaussian"])
def test_one_window_as_large_as_the_image_is_the_whole_image(
    window: tuple[int, int], blend: str
) -> None:
    network, batch = TinyNet(), images(2, 24, 40)
    actual = predictor(network, window=window, blend=blend).logits(batch)
    assert torch.equal(actual, predictor(network).logits(batch))


@pytest.mark.parametrize("blend", ["even", "gaussian"])
@pytest.mark.parametrize("size", [(7, 8), (8, 8), (9, 9), (8, 31), (17, 33), (1, 20)])
@pytest.mark.parametrize(
    "window", [((8, 8), (8, 8)), ((8, 8), (5, 3)), ((5, 16), (1, 7)), ((1, 1), (1, 1))]
)
def test_any_window_gives_a_position_independent_network_s_result(
    size: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]], blend: str
) -> None:
    network, batch = Subsample(num_classes=5), images(1, *size)
    sliding = predictor(network, window=window[0], stride=window[1], blend=blend)
    expected = predictor(network).logits(batch)
    torch.testing.assert_close(sliding.logits(batch), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(sliding.classes(batch), expected.argmax(1))


@pytest.mark.parametrize("blend", ["even", "gaussian"])
@pytest.mark.parametrize("size", [(15, 40), (16, 24), (17, 25), (33, 50)])
def test_windows_equal_a_loop_over_them(size: tuple[int, int], blend: Any) -> None:
    network, batch = TinyNet(num_classes=4, stride=4), images(2, *size)
    found = Predictor(
        network.eval(),
        Preprocessing(stride=4),
        Inference(window=(16, 24), stride=(11, 9), blend=blend, windows_per_pass=3),
    )
    height, width = min(16, size[0]), min(24, size[1])
    expected = plain_scores(
        network,
        found.preprocessing.normalize(batch),
        stride=4,
        window=(16, 24),
        steps=(11, 9),
        weight=window_weight((height, width), blend),
    )
    torch.testing.assert_close(found.logits(batch), expected, rtol=1e-4, atol=1e-5)


def test_windows_go_through_the_network_together() -> None:
    network = TinyNet()
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    predictor(network, window=(8, 8), stride=(8, 8), windows_per_pass=4).classes(images(1, 24, 16))
    assert seen == [(4, 3, 8, 8), (2, 3, 8, 8)]
    seen.clear()
    predictor(network, window=(8, 8), stride=(8, 8), windows_per_pass=4).classes(images(3, 16, 16))
    assert seen == [(3, 3, 8, 8)] * 4


# ---- scales and mirror images ----------------------------------------------------------------


@pytest.mark.parametrize("size", [(30, 41), (60, 90), (17, 20)])
@pytest.mark.parametrize(
    "views",
    [
        {"scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True},
        {"scales": (1.0,), "flip": True},
        {"scales": (0.5, 2.0), "flip": False},
    ],
)
def test_views_equal_a_loop_over_them(size: tuple[int, int], views: dict[str, Any]) -> None:
    network, batch = TinyNet(num_classes=4, stride=2), images(2, 30, 41)
    preprocessing = Preprocessing(stride=8)
    found = Predictor(network.eval(), preprocessing, Inference(**views))
    expected = plain_views(network, batch, size, preprocessing.normalize, stride=8, **views)
    target = torch.randint(0, 4, (2, *size))
    target[torch.rand(target.shape) < 0.3] = 255
    scored = found.evaluate(batch, target, 255)
    assert (scored.classes == expected.argmax(1)).float().mean() > 0.999
    assert torch.equal(found.classes(batch, size), scored.classes)
    labeled = target != 255
    picked = expected.gather(1, target.clamp_max(3)[:, None])[:, 0][labeled]
    assert scored.loss.item() == pytest.approx(-picked.double().log().sum().item(), rel=1e-4)
    if size == (30, 41):
        torch.testing.assert_close(found.logits(batch), expected, rtol=0, atol=1e-5)


def test_windows_of_several_scales_equal_loops_over_both() -> None:
    network, batch = TinyNet(num_classes=4, stride=2), images(1, 30, 41)
    preprocessing = Preprocessing(stride=2)
    found = Predictor(
        network.eval(),
        preprocessing,
        Inference(window=(16, 16), stride=(10, 10), scales=(0.5, 1.5), flip=True),
    )
    expected = plain_views(
        network,
        batch,
        (30, 41),
        preprocessing.normalize,
        (0.5, 1.5),
        True,
        stride=2,
        window=(16, 16),
        steps=(10, 10),
    )
    torch.testing.assert_close(found.logits(batch), expected, rtol=0, atol=1e-5)


def test_one_scale_that_is_not_1() -> None:
    network, batch = TinyNet(), images(1, 20, 30)
    found = predictor(network, scales=(2.0,))
    large = F.interpolate(batch.float(), size=(40, 60), mode="bilinear")
    scores = plain_scores(network, found.preprocessing.normalize(large))
    expected = F.interpolate(scores, size=(20, 30), mode="bilinear")
    torch.testing.assert_close(found.logits(batch), expected, rtol=1e-4, atol=1e-5)


# ---- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 30), (33, 47)])
def test_the_loss_is_cross_entropy_summed_over_labeled_pixels(size: tuple[int, int]) -> None:
    network, batch = TinyNet(num_classes=4), images(3, 20, 30)
    target = torch.randint(0, 4, (3, *size), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.3] = 255
    found = predictor(network)
    logits = F.interpolate(found.logits(batch), size=size, mode="bilinear")
    scored = found.evaluate(batch, target, 255)
    expected = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="sum")
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert scored.pixels == (target != 255).sum()
    assert torch.equal(scored.classes, logits.argmax(1))


def test_nothing_labeled_is_no_loss() -> None:
    target = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    for settings in ({}, {"flip": True}):
        scored = predictor(TinyNet(), **settings).evaluate(images(1, 8, 8), target, 255)
        assert scored.loss == scored.pixels == 0


def test_a_probability_of_zero_leaves_the_loss_finite() -> None:
    network = Subsample(num_classes=3)
    network.segmentation_head.bias.data.copy_(torch.tensor([0.0, 500.0, 0.0]))  # type: ignore[union-attr]
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert predictor(network, flip=True).evaluate(images(1, 8, 8), target, 255).loss.isfinite()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": (16, 16)},
        {"flip": True},
        {"window": (16, 24), "scales": (0.5, 1.5), "flip": True},
    ],
)
@pytest.mark.parametrize("autocast", [False, True])
def test_log_probabilities_of_predictions_and_labels(
    settings: dict[str, Any], autocast: bool
) -> None:
    network, batch = TinyNet(num_classes=4), images(3, 20, 30)
    found = predictor(network, **settings)
    target = torch.randint(0, 4, (3, 20, 30), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.3] = 255
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        chances = found.logits(batch)
        scored = found.evaluate(batch, target, 255, log_probabilities=True)
        without = found.evaluate(batch, target, 255)
    chances = chances if "flip" in settings else chances.softmax(1)
    kept = scored.log_probabilities
    assert kept is not None
    assert (kept.shape, kept.dtype) == ((2, 3, 20, 30), torch.float32)
    torch.testing.assert_close(kept[0].exp(), chances.amax(1), rtol=1e-5, atol=1e-5)
    own = chances.gather(1, target.long().clamp_max(3)[:, None])[:, 0]
    labeled = target != 255
    torch.testing.assert_close(kept[1].exp()[labeled], own[labeled], rtol=1e-5, atol=1e-5)
    assert not kept[1][~labeled].any()
    assert torch.equal(scored.loss, without.loss)
    assert without.log_probabilities is None


# ---- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({}, 0.25),
        ({"window": (128, 128)}, 0.4),
        ({"scales": (0.5, 1.25), "flip": True}, 1.7),
        ({"window": (128, 128), "scales": (1.25,), "flip": True}, 1.9),
    ],
)
def test_class_scores_are_held_at_most_twice_at_full_size(
    settings: dict[str, Any], most: float
) -> None:
    classes, size = 171, (320, 256)
    # The logits are computed at a quarter of the size and enlarged at the end.
    network = SegmentationModel()
    network.requires_divisible_input_shape = False
    network.encoder, network.decoder = nn.AvgPool2d(4), nn.Identity()
    network.segmentation_head = SegmentationHead(3, classes, upsampling=4)
    found, batch = predictor(network, **settings), images(1, *size)
    target = torch.zeros(1, *size, dtype=torch.uint8)
    full = classes * size[0] * size[1] * 4
    assert peak_tensors(lambda: found.evaluate(batch, target, 255)) < most * full
    assert peak_tensors(lambda: found.classes(batch)) < most * full


def test_the_peak_is_that_of_the_tensors_held() -> None:
    def hold() -> None:
        first = torch.zeros(1000, dtype=torch.float64)
        second = first + 1
        del first
        second += torch.zeros(500, dtype=torch.float64).repeat(2)

    # `second`, the short one and its copy.
    assert 20_000 <= peak_tensors(hold) < 20_500
