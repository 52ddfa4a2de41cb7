"""Whole images, windows, scales and mirror images against loops that hold everything in memory."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import peak_tensors
from pne_seg.inference import ImageScorer, Inference, Preprocessing, network_stride
from pne_seg.inference.windows import window_weight
from pne_seg.networks import DeepLabV3, HRNetV2, UPerNet
from tests.inference.plain import plain_bilinear, plain_scores, plain_views
from tests.tiny_networks import Subsample, TinyNet

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "smp UPerNet": partial(smp.UPerNet, "resnet18", decoder_channels=16),
    "smp FPN": partial(smp.FPN, "resnet18"),
    "smp Unet": partial(smp.Unet, "resnet18"),
    "UPerNet": partial(UPerNet, "resnet18", decoder_channels=16),
    "DeepLabV3": partial(DeepLabV3, "tu-resnet18", decoder_channels=16),
    "HRNetV2": partial(HRNetV2, "tu-hrnet_w18_small"),
}


def images(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def scorer(network: nn.Module, **settings: Any) -> ImageScorer:
    preprocessing = Preprocessing(stride=network_stride(network))
    return ImageScorer(network.eval(), preprocessing, Inference(**settings))


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
    actual = ImageScorer(network, preprocessing).scores(batch)

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
    found, batch = scorer(network), images(1, 45, 70)
    expected = plain_scores(
        network, found.preprocessing.normalise(batch), stride=network_stride(network)
    )
    torch.testing.assert_close(found.scores(batch), expected, rtol=1e-4, atol=1e-4)
    # At another size, as labels may be.
    other = F.interpolate(expected, size=(31, 97), mode="bilinear").argmax(1)
    assert (found.classes(batch, (31, 97)) == other).float().mean() > 0.999
    # The network is as it was.
    assert dict(network.named_modules()) == layers
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_the_network_is_whole_again_after_a_failure() -> None:
    network = smp.UPerNet("resnet18", encoder_weights=None, decoder_channels=16, classes=4).eval()
    step = network.segmentation_head[1]
    with pytest.raises(RuntimeError):
        ImageScorer(network, Preprocessing(stride=1)).scores(images(1, 45, 70))
    assert network.segmentation_head[1] is step


# ---- windows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(24, 40), (24, 64), (100, 40), (512, 512)])
@pytest.mark.parametrize("blend", ["even", "gaussian"])
def test_one_window_as_large_as_the_image_is_the_whole_image(
    window: tuple[int, int], blend: str
) -> None:
    network, batch = TinyNet(), images(2, 24, 40)
    actual = scorer(network, window=window, blend=blend).scores(batch)
    assert torch.equal(actual, scorer(network).scores(batch))


@pytest.mark.parametrize("blend", ["even", "gaussian"])
@pytest.mark.parametrize("size", [(7, 8), (8, 8), (9, 9), (8, 31), (17, 33), (1, 20)])
@pytest.mark.parametrize(
    "window", [((8, 8), (8, 8)), ((8, 8), (5, 3)), ((5, 16), (1, 7)), ((1, 1), (1, 1))]
)
def test_any_window_gives_a_position_independent_network_s_result(
    size: tuple[int, int], window: tuple[tuple[int, int], tuple[int, int]], blend: str
) -> None:
    network, batch = Subsample(num_classes=5), images(1, *size)
    sliding = scorer(network, window=window[0], stride=window[1], blend=blend)
    expected = scorer(network).scores(batch)
    torch.testing.assert_close(sliding.scores(batch), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(sliding.classes(batch), expected.argmax(1))


@pytest.mark.parametrize("blend", ["even", "gaussian"])
@pytest.mark.parametrize("size", [(15, 40), (16, 24), (17, 25), (33, 50)])
def test_windows_equal_a_loop_over_them(size: tuple[int, int], blend: Any) -> None:
    network, batch = TinyNet(num_classes=4, stride=4), images(2, *size)
    found = ImageScorer(
        network.eval(),
        Preprocessing(stride=4),
        Inference(window=(16, 24), stride=(11, 9), blend=blend, windows_per_pass=3),
    )
    height, width = min(16, size[0]), min(24, size[1])
    expected = plain_scores(
        network,
        found.preprocessing.normalise(batch),
        stride=4,
        window=(16, 24),
        steps=(11, 9),
        weight=window_weight((height, width), blend),
    )
    torch.testing.assert_close(found.scores(batch), expected, rtol=1e-4, atol=1e-5)


def test_windows_go_through_the_network_together() -> None:
    network = TinyNet()
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    scorer(network, window=(8, 8), stride=(8, 8), windows_per_pass=4).classes(images(1, 24, 16))
    assert seen == [(4, 3, 8, 8), (2, 3, 8, 8)]
    seen.clear()
    scorer(network, window=(8, 8), stride=(8, 8), windows_per_pass=4).classes(images(3, 16, 16))
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
    found = ImageScorer(network.eval(), preprocessing, Inference(**views))
    expected = plain_views(network, batch, size, preprocessing.normalise, stride=8, **views)
    target = torch.randint(0, 4, (2, *size))
    target[torch.rand(target.shape) < 0.3] = 255
    scored = found.score(batch, target, 255)
    assert (scored.classes == expected.argmax(1)).float().mean() > 0.999
    assert torch.equal(found.classes(batch, size), scored.classes)
    labelled = target != 255
    picked = expected.gather(1, target.clamp_max(3)[:, None])[:, 0][labelled]
    assert scored.loss.item() == pytest.approx(-picked.double().log().sum().item(), rel=1e-4)
    if size == (30, 41):
        torch.testing.assert_close(found.scores(batch), expected, rtol=0, atol=1e-5)


def test_windows_of_several_scales_equal_loops_over_both() -> None:
    network, batch = TinyNet(num_classes=4, stride=2), images(1, 30, 41)
    preprocessing = Preprocessing(stride=2)
    found = ImageScorer(
        network.eval(),
        preprocessing,
        Inference(window=(16, 16), stride=(10, 10), scales=(0.5, 1.5), flip=True),
    )
    expected = plain_views(
        network,
        batch,
        (30, 41),
        preprocessing.normalise,
        (0.5, 1.5),
        True,
        stride=2,
        window=(16, 16),
        steps=(10, 10),
    )
    torch.testing.assert_close(found.scores(batch), expected, rtol=0, atol=1e-5)


def test_one_scale_that_is_not_1() -> None:
    network, batch = TinyNet(), images(1, 20, 30)
    found = scorer(network, scales=(2.0,))
    large = F.interpolate(batch.float(), size=(40, 60), mode="bilinear")
    scores = plain_scores(network, found.preprocessing.normalise(large))
    expected = F.interpolate(scores, size=(20, 30), mode="bilinear")
    torch.testing.assert_close(found.scores(batch), expected, rtol=1e-4, atol=1e-5)


# ---- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 30), (33, 47)])
def test_the_loss_is_cross_entropy_summed_over_labelled_pixels(size: tuple[int, int]) -> None:
    network, batch = TinyNet(num_classes=4), images(3, 20, 30)
    target = torch.randint(0, 4, (3, *size), dtype=torch.uint8)
    target[torch.rand(target.shape) < 0.3] = 255
    found = scorer(network)
    logits = F.interpolate(found.scores(batch), size=size, mode="bilinear")
    scored = found.score(batch, target, 255)
    expected = F.cross_entropy(logits, target.long(), ignore_index=255, reduction="sum")
    assert scored.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert scored.pixels == (target != 255).sum()
    assert torch.equal(scored.classes, logits.argmax(1))


def test_nothing_labelled_is_no_loss() -> None:
    target = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    for settings in ({}, {"flip": True}):
        scored = scorer(TinyNet(), **settings).score(images(1, 8, 8), target, 255)
        assert scored.loss == scored.pixels == 0


def test_a_probability_of_zero_leaves_the_loss_finite() -> None:
    network = Subsample(num_classes=3)
    network.segmentation_head.bias.data.copy_(torch.tensor([0.0, 500.0, 0.0]))  # type: ignore[union-attr]
    target = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert scorer(network, flip=True).score(images(1, 8, 8), target, 255).loss.isfinite()


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
    # As smp's networks: the scores are computed at a quarter of the size and enlarged at the end.
    network = Subsample(classes, stride=4)
    network.segmentation_head = nn.Sequential(  # type: ignore[assignment]
        network.segmentation_head, nn.UpsamplingBilinear2d(scale_factor=4)
    )
    found, batch = scorer(network, **settings), images(1, *size)
    target = torch.zeros(1, *size, dtype=torch.uint8)
    full = classes * size[0] * size[1] * 4
    assert peak_tensors(lambda: found.score(batch, target, 255)) < most * full
    assert peak_tensors(lambda: found.classes(batch)) < most * full


def test_the_peak_is_that_of_the_tensors_held() -> None:
    def hold() -> None:
        first = torch.zeros(1000, dtype=torch.float64)
        second = first + 1
        del first
        second += torch.zeros(500, dtype=torch.float64).repeat(2)

    # `second`, the short one and its copy.
    assert 20_000 <= peak_tensors(hold) < 20_500
