"""Auxiliary heads against plain NumPy and published counts; the network stays what it is."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pne_seg.contrast.component import PNE
from pne_seg.feature_hooks import FeatureHook, capture
from pne_seg.losses import CrossEntropy
from pne_seg.networks import (
    AuxiliaryLogits,
    DeepLabV3,
    FCNHead,
    OCRNet,
    TorchvisionNetwork,
    UPerNet,
)
from pne_seg.networks.auxiliary import Auxiliary
from tests.networks import published
from tests.networks.reference import Array, array, conv_bn_relu, convolve, randomize, resize
from tests.tiny_networks import TinyNet, hook_count, same_tensors

CLASSES = 3
IGNORED = 255


def upernet() -> nn.Module:
    torch.manual_seed(2)
    network: nn.Module = smp.UPerNet(
        "resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16
    )
    return network


def ocrnet() -> nn.Module:
    network: nn.Module = OCRNet(
        "tu-hrnet_w18_small", None, classes=CLASSES, decoder_channels=16, key_channels=8
    )
    return network


def attached(term: Auxiliary, network: nn.Module) -> Auxiliary:
    term.loss = CrossEntropy()
    term.attach(network, CLASSES, IGNORED)
    return term


def pictures(size: tuple[int, int] = (64, 96)) -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 3, *size)
    labels = torch.randint(0, CLASSES, (2, *size))
    labels[torch.rand(labels.shape) < 0.3] = IGNORED
    return images, labels


def plain_cross_entropy(scores: Array, labels: Tensor) -> float:
    """Mean of −log softmax over the labeled pixels, at the labels' size."""
    scores = resize(scores, (labels.shape[1], labels.shape[2]))
    log_sum = np.log(np.exp(scores).sum(1))
    target = labels.numpy()
    own = np.take_along_axis(scores, np.where(target == IGNORED, 0, target)[:, None], 1)[:, 0]
    return float((log_sum - own)[target != IGNORED].mean())


@pytest.mark.parametrize("training", [False, True])
def test_loss_is_that_of_the_plain_head_on_stage_3(training: bool) -> None:
    network = upernet()
    term = attached(FCNHead(channels=6, dropout=0.0, weight=0.3), network)
    for module in (network, term):
        module.double().train(training)
    randomize(term)
    reference, head = copy.deepcopy((network, term.head))  # ahead of the pass's batch statistics
    images, labels = pictures()
    with capture(term.hooks):
        network(images.double())
    found = term(labels, 0)

    encoder: Any = reference.get_submodule("encoder")
    feature = encoder(images.double())[4]  # the image, the stem, then stages 1 to 4
    assert feature.shape == (2, 256, 4, 6)
    assert isinstance(head, nn.Sequential)
    scores = convolve(conv_bn_relu(array(feature), head, training), head[4])
    expected = plain_cross_entropy(scores, labels)
    assert found.value.item() == pytest.approx(expected, rel=1e-6)  # the loss is in float32
    assert found.weighted.item() == pytest.approx(0.3 * expected, rel=1e-6)
    assert found.name == "auxiliary"


def test_dropout_takes_whole_channels() -> None:
    term = attached(FCNHead(channels=16, dropout=0.5), upernet())
    assert term.get_submodule("head.3").extra_repr() == "p=0.5, inplace=False"
    assert isinstance(term.get_submodule("head.3"), nn.Dropout2d)


def swin(size: str) -> Callable[[int], nn.Module]:
    return lambda classes: UPerNet(published.SWIN.format(size), None, classes=classes)


BUILDS: dict[str, tuple[Callable[[int], nn.Module], str, tuple[int, ...]]] = {
    "Swin-T": (swin("tiny"), "decoder.feature_norms.2", published.UPERNET_SWIN_T_AUXILIARY),
    "Swin-S": (swin("small"), "decoder.feature_norms.2", published.UPERNET_SWIN_S_AUXILIARY),
    "Swin-B": (swin("base"), "decoder.feature_norms.2", published.UPERNET_SWIN_B_AUXILIARY),
    "UPerNet on ResNet": (
        lambda classes: UPerNet("tu-resnet101c", None, classes=classes),
        "encoder",
        published.UPERNET_R101_AUXILIARY,
    ),
    "DeepLabV3": (
        lambda classes: DeepLabV3("tu-resnet101c", None, classes=classes),
        "encoder",
        published.DEEPLABV3_R101_AUXILIARY,
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_published_counts_with_the_auxiliary_head(name: str) -> None:
    build, feature_module, counts = BUILDS[name]
    for classes, count in zip(published.CLASSES, counts, strict=False):
        with torch.device("meta"):
            network = build(classes)
        term = FCNHead(feature_module=feature_module)
        term.attach(network, classes, IGNORED)
        parameters = [*network.parameters(), *term.parameters()]
        assert sum(parameter.numel() for parameter in parameters) == count


def test_projection_at_512_channels_has_the_published_count() -> None:
    with torch.device("meta"):
        network = smp.UPerNet("resnet18", encoder_weights=None, classes=19, decoder_channels=512)
    term = PNE()
    term.attach(network, 19, IGNORED)
    assert sum(parameter.numel() for parameter in term.parameters()) == 394_496


def test_hook_on_a_norm_sees_the_normed_feature() -> None:
    network = smp.UPerNet(
        "tu-convnext_atto", encoder_weights=None, classes=CLASSES, decoder_channels=16
    ).eval()
    hook = FeatureHook("decoder.feature_norms.2", "output")
    hook.attach(network)
    images, _ = pictures()
    with torch.no_grad(), capture([hook]):
        network(images)
        feature = array(network.encoder(images)[-2])
    centered = feature - feature.mean(1, keepdims=True)
    normed = centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(array(hook.take()), normed, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "term"),
    [
        (upernet, FCNHead(channels=8)),
        (upernet, FCNHead(channels=8, feature_module="decoder.feature_norms.2")),
        (ocrnet, AuxiliaryLogits()),
    ],
    ids=["stage", "norm", "scores"],
)
def test_the_network_stays_what_it_is(build: Callable[[], nn.Module], term: Auxiliary) -> None:
    bare = build()
    network = copy.deepcopy(bare)
    state = torch.get_rng_state()
    attached(term, network)
    assert torch.equal(torch.get_rng_state(), state)  # the head is drawn aside
    assert type(network) is type(bare)
    assert hook_count(network) == 1
    images, _ = pictures()
    for training in (False, True):
        bare.train(training)
        network.train(training)
        with torch.no_grad(), capture(term.hooks):
            assert torch.equal(network(images), bare(images))
        assert same_tensors(network.state_dict(), bare.state_dict())
    term.detach()
    assert hook_count(network) == 0


def test_detach_attach_again_and_deepcopy() -> None:
    network = upernet().eval()
    term = attached(FCNHead(channels=8), network).eval()
    images, labels = pictures()
    with torch.no_grad(), capture(term.hooks):
        network(images)
        expected = term(labels, 0).value
        term.detach()
        network(images)
        with pytest.raises(RuntimeError, match="No tensor has passed"):
            term(labels, 0)
        weights = copy.deepcopy(term.state_dict())
        for hook in term.hooks:
            hook.attach(network)
        assert same_tensors(term.state_dict(), weights)
        network(images)
        assert torch.equal(term(labels, 0).value, expected)

    other_network, other = copy.deepcopy((network, term))
    with torch.no_grad(), capture(other.hooks):
        other_network(images)
        assert torch.equal(other(labels, 0).value, expected)
    with pytest.raises(RuntimeError, match="No tensor has passed"):
        term(labels, 0)


def test_scores_of_ocrnets_first_stage() -> None:
    network = ocrnet().eval()
    term = attached(AuxiliaryLogits(), network)
    assert not list(term.parameters())
    images, labels = pictures()
    seen: list[Tensor] = []
    classifier = network.get_submodule("decoder.region_classifier")
    classifier.register_forward_hook(lambda _m, _a, output: seen.append(output))
    with torch.no_grad(), capture(term.hooks):
        network(images)
        found = term(labels, 0)
    assert seen[0].shape == (2, CLASSES, 16, 24)
    assert found.value.item() == pytest.approx(plain_cross_entropy(array(seen[0]), labels))
    assert found.weight == 0.4


def test_a_layer_of_torchvisions_backbone() -> None:
    network = TorchvisionNetwork("fcn_resnet50", None, classes=CLASSES).eval()
    term = attached(FCNHead(channels=4, feature_module="network.backbone.layer3"), network)
    assert term.get_parameter("head.0.weight").shape == (4, 1024, 3, 3)
    images, labels = pictures((48, 40))
    with torch.no_grad(), capture(term.hooks):
        network(images)
        assert term.logits().shape == (2, CLASSES, 6, 5)
        network(images)
        assert term(labels, 0).value.isfinite()


def test_a_decoder_may_use_up_the_encoders_list() -> None:
    network = upernet().eval()
    encoder = network.get_submodule("encoder")
    term = attached(FCNHead(channels=4), network)
    encoder.register_forward_hook(lambda _m, _a, output: [output.pop() for _ in range(6)][::-1])
    images, labels = pictures()
    with torch.no_grad(), capture(term.hooks):
        network(images)
    assert term(labels, 0).value.isfinite()


class Pooled(TinyNet):
    """Its decoder yields vectors alongside the scores."""

    def __init__(self) -> None:
        super().__init__(CLASSES)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        self.pool(images)
        return super().forward(images)


class Spare(TinyNet):
    """With a module that no image reaches."""

    def __init__(self) -> None:
        super().__init__(CLASSES)
        self.spare = nn.Sequential(nn.ReLU(), nn.ReLU())


class Activated(TinyNet):
    """With probabilities on the way, which are not returned."""

    def __init__(self) -> None:
        super().__init__(CLASSES)
        self.soft = nn.Softmax(1)

    def forward(self, images: Tensor) -> Tensor:
        scores = super().forward(images)
        self.soft(scores)
        return scores


@pytest.mark.parametrize(
    ("build", "term", "message"),
    [
        (upernet, FCNHead(stage=6), r"'encoder' gives 6 features; there is no stage 6"),
        (upernet, FCNHead(stage=-7), r"there is no stage -7"),
        (upernet, FCNHead(feature_module="encodr"), r"no module 'encodr'.*'encoder'"),
        (Pooled, FCNHead(feature_module="pool"), r"'pool' gives \(1, 3\), expected \(B, channels"),
        (lambda: TinyNet(4), AuxiliaryLogits("segmentation_head"), r"\(1, 4, .*of 3 classes"),
        (upernet, FCNHead(stage=0), r"'encoder' gives at stage 0 the image itself"),
        (Spare, FCNHead(feature_module="spare"), r"'spare' is not run in a forward pass of Spare"),
        (Spare, AuxiliaryLogits("spare.1"), r"'spare.1' is not run"),
        (Activated, AuxiliaryLogits("soft"), r"'soft' ends in softmax; the loss expects logits"),
        (TinyNet, AuxiliaryLogits(), r"no module 'decoder.region_classifier'"),
    ],
)
def test_a_place_that_does_not_fit_is_refused(
    build: Callable[[], nn.Module], term: Auxiliary, message: str
) -> None:
    network = build()
    with pytest.raises(ValueError, match=message):
        term.attach(network, CLASSES, IGNORED)
    assert hook_count(network) == 0


@pytest.mark.parametrize("kind", [FCNHead, AuxiliaryLogits])
def test_a_negative_weight_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"weight must be 0 or more, got -0\.1"):
        kind(weight=-0.1)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_head_out_of_range_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1"):
        FCNHead(dropout=dropout)
    with pytest.raises(ValueError, match="channels must be 1 or more, got 0"):
        FCNHead(channels=0)


def test_use_out_of_turn_is_refused() -> None:
    _, labels = pictures()
    with pytest.raises(RuntimeError, match="loss first"):
        FCNHead()(labels, 0)
    with pytest.raises(RuntimeError, match=r"Call attach\(network"):
        FCNHead(loss=CrossEntropy())(labels, 0)
