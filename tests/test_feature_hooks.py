"""Feature hooks capture the right tensor, let go of it, and leave the network as it was."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any, Literal

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

from pne_seg.contrast.component import PNE
from pne_seg.feature_hooks import (
    Classifier,
    FeatureHook,
    capture,
    dummy_forward,
    find_classifier,
    find_module,
)
from tests.tiny_networks import TinyNet, hook_count, same_tensors

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("side", ["input", "output"])
def test_hook_keeps_what_enters_or_leaves(side: Literal["input", "output"]) -> None:
    network = TinyNet().eval()
    hook = FeatureHook("segmentation_head.1", side)
    hook.attach(network)
    with capture([hook]):
        network(IMAGES)
    feature = network.feature(IMAGES)
    expected = feature if side == "input" else network.segmentation_head[1](feature)
    assert torch.equal(hook.take(), expected)


def test_take_forgets_and_releases_the_tensor() -> None:
    network = TinyNet()
    hook = FeatureHook("decoder", "output")
    hook.attach(network)
    with capture([hook]):
        network(IMAGES)
    tensor = hook.take()
    alive = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert alive() is None
    with pytest.raises(RuntimeError, match=r"output of 'decoder'.*once in every training step"):
        hook.take()


def test_detach_releases_the_tensor_and_every_hook() -> None:
    network = TinyNet()
    hooks = [FeatureHook("segmentation_head", "input"), FeatureHook("decoder", "output")]
    for hook in hooks:
        hook.attach(network)
        hook.attach(network)  # twice is once
    assert hook_count(network) == 2
    with capture(hooks):
        network(IMAGES)
    for hook in hooks:
        hook.detach()
        hook.detach()
        with pytest.raises(RuntimeError):
            hook.take()
    assert hook_count(network) == 0
    with capture(hooks):
        network(IMAGES)
    with pytest.raises(RuntimeError):
        hooks[0].take()


def test_nothing_is_kept_without_listening() -> None:
    network = TinyNet()
    hook = FeatureHook("decoder", "output")
    hook.attach(network)
    seen: list[weakref.ref[Tensor]] = []
    network.decoder.register_forward_hook(lambda _m, _a, out: seen.append(weakref.ref(out)))
    network(IMAGES)
    gc.collect()
    assert [alive() for alive in seen] == [None]
    with pytest.raises(RuntimeError):
        hook.take()


def test_listening_ends_with_the_block_also_on_an_error() -> None:
    network = TinyNet()
    hook = FeatureHook("decoder", "output")
    hook.attach(network)
    with pytest.raises(ZeroDivisionError), capture([hook]):
        raise ZeroDivisionError
    network(IMAGES)
    with pytest.raises(RuntimeError):
        hook.take()


def test_unknown_module_names_the_near_ones() -> None:
    network = TinyNet()
    with pytest.raises(ValueError, match=r"TinyNet has no module 'segmentation_heads'.*'segmenta"):
        FeatureHook("segmentation_heads", "input").attach(network)
    assert hook_count(network) == 0
    with pytest.raises(ValueError, match=r"ReLU has no module 'x'. It has no submodules"):
        find_module(nn.ReLU(), "x")
    assert find_module(network, "decoder.1") is network.decoder[1]


@pytest.mark.parametrize("tap_first", [True, False])
def test_hook_sees_the_feature_before_a_dropout_hook(tap_first: bool) -> None:
    network = TinyNet()
    head = network.segmentation_head
    hook = FeatureHook("segmentation_head", "input")

    def drop_all(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.zeros_like(args[0]),)

    if tap_first:
        hook.attach(network)
    head.register_forward_pre_hook(drop_all)
    if not tap_first:
        hook.attach(network)
    with capture([hook]):
        output = network(IMAGES)
    expected = network.feature(IMAGES)
    assert torch.equal(hook.take(), expected)
    assert torch.equal(output, head[1](torch.zeros_like(expected)))


def test_deepcopy_writes_into_the_copy() -> None:
    network = TinyNet()
    term = PNE(embedding_dim=4)
    term.attach(network, num_classes=3, ignore_index=255)
    network_copy, term_copy = copy.deepcopy((network, term))
    network_copy.eval()
    with capture(term_copy.hooks):
        network_copy(IMAGES)
    assert torch.equal(term_copy.hooks[0].take(), network_copy.feature(IMAGES))
    with pytest.raises(RuntimeError):
        term.hooks[0].take()
    term_copy.detach()
    assert hook_count(network_copy) == 0
    assert hook_count(network) == 2
    term.detach()
    assert hook_count(network) == 0


def smp_network(name: str, **kwargs: Any) -> nn.Module:
    network: nn.Module = getattr(smp, name)("resnet18", encoder_weights=None, classes=4, **kwargs)
    return network


def torchvision_network(name: str) -> nn.Module:
    build = getattr(torchvision.models.segmentation, name)
    network: nn.Module = build(weights=None, weights_backbone=None, num_classes=4)
    return network


class Wrapper(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


@pytest.mark.parametrize(
    ("build", "feature", "logits"),
    [
        (lambda: smp_network("UPerNet"), "segmentation_head.0", "segmentation_head.0"),
        (lambda: smp_network("Unet"), "segmentation_head.0", "segmentation_head.0"),
        (lambda: torchvision_network("deeplabv3_resnet50"), "classifier.4", "classifier.4"),
        (lambda: torchvision_network("fcn_resnet50"), "classifier.3", "classifier.4"),
        (
            lambda: Wrapper(torchvision_network("fcn_resnet50")),
            "network.classifier.3",
            "network.classifier.4",
        ),
        (TinyNet, "segmentation_head.0", "segmentation_head.1"),
    ],
    ids=["UPerNet", "Unet", "deeplabv3", "fcn", "wrapped fcn", "dropout in the head"],
)
def test_find_classifier(build: Callable[[], nn.Module], feature: str, logits: str) -> None:
    assert find_classifier(build()) == Classifier(feature, logits)


def test_torchvision_fcn_feature_is_taken_before_its_dropout() -> None:
    network = torchvision_network("fcn_resnet50").eval()
    head: Any = network.get_submodule("classifier")
    head[3].train()  # dropout alone is at work
    place = find_classifier(network)
    hook = FeatureHook(place.feature, "input")
    hook.attach(network)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), capture([hook]):
        output = network(images)["out"]
    feature = hook.take()
    with torch.no_grad():
        backbone: Any = network.get_submodule("backbone")
        clean = head[2](head[1](head[0](backbone(images)["out"])))
        undropped = nn.functional.interpolate(head[4](clean), size=(32, 32), mode="bilinear")
    assert torch.equal(feature, clean)
    assert not torch.allclose(output, undropped)


def test_find_classifier_refuses_a_network_without_one() -> None:
    with pytest.raises(ValueError, match=r"feature_module.*logits_module"):
        find_classifier(nn.Sequential(nn.Conv2d(3, 3, 1)))
    without_convolution = nn.Module()
    without_convolution.segmentation_head = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="Module has neither"):
        find_classifier(without_convolution)


class Noisy(TinyNet):
    """Draws random numbers in eval mode too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + torch.rand_like(images))


def test_dummy_forward_leaves_no_trace() -> None:
    network = Noisy(dropout=0.5).train()
    network.decoder[1].eval()  # a frozen batch norm in a training network
    modes = {name: module.training for name, module in network.named_modules()}
    state = copy.deepcopy(network.state_dict())
    random_state = torch.get_rng_state()
    output = dummy_forward(network)
    assert output.shape == (1, 3, 32, 32)
    assert not output.requires_grad
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert same_tensors(network.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.is_grad_enabled()


class Picky(TinyNet):
    """Takes one image size alone."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.side:
            raise KeyError(f"I dislike {images.shape[-1]}")
        return super().forward(images)


def test_dummy_forward_finds_a_size_that_fits() -> None:
    assert dummy_forward(Picky(224)).shape == (1, 3, 112, 112)


def test_dummy_forward_reports_the_first_failure() -> None:
    network = Picky(1000).train()
    hook = FeatureHook("encoder", "input")
    hook.attach(network)
    with pytest.raises(
        ValueError, match=r"Picky accepts no image of 64×64, 224.*I dislike 64"
    ) as caught:
        dummy_forward(network, [hook])
    assert isinstance(caught.value.__cause__, KeyError)
    assert all(module.training for module in network.modules())
    assert not hook.capturing
