"""`ClassifierDropout`: whole channels in training, nothing elsewhere, the network's class kept."""

import copy
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pne_seg.feature_hooks import ClassifierDropout, FeatureHook, capture, find_classifier
from pne_seg.module import SegmentationModule
from tests.tiny_networks import TinyNet, hook_count, same_tensors
from tests.training import CLASSES, Pictures, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

IMAGES = torch.randn(4, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def upernet() -> Any:
    return smp.UPerNet("resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16)


def with_dropout(network: nn.Module, probability: float) -> ClassifierDropout:
    dropout = ClassifierDropout(probability)
    dropout.attach(network)
    return dropout


def dropped(feature: Tensor, probability: float, seed: int) -> Tensor:
    """Each channel of each image is 0 or is scaled by 1/(1 − p), drawn in that order."""
    torch.manual_seed(seed)
    kept = torch.empty(*feature.shape[:2], 1, 1).bernoulli_(1 - probability)
    return feature * kept / (1 - probability)


def test_training_drops_whole_channels() -> None:
    network = tiny().train()
    with_dropout(network, 0.4)
    entered: list[Tensor] = []
    network.segmentation_head[1].register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
    torch.manual_seed(7)
    scores = network(IMAGES)
    expected = dropped(network.feature(IMAGES), 0.4, seed=7)
    torch.testing.assert_close(entered[0], expected)
    torch.testing.assert_close(scores, network.segmentation_head[1](expected))
    empty = (entered[0] == 0).all((2, 3))
    assert 0 < empty.sum() < empty.numel()


def test_share_of_the_dropped_channels() -> None:
    network = TinyNet(CLASSES, width=400)
    with_dropout(network, 0.25)
    entered: list[Tensor] = []
    classifier = network.segmentation_head[1]
    classifier.register_forward_pre_hook(lambda _m, args: entered.append(args[0]))
    network(IMAGES)
    # 1600 draws: four standard deviations are 0.043.
    assert (entered[0] == 0).all((2, 3)).float().mean().item() == pytest.approx(0.25, abs=0.043)


def test_evaluation_is_bit_identical() -> None:
    network = tiny().eval()
    with torch.no_grad():
        expected = network(IMAGES)
        with_dropout(network, 0.9)
        state = torch.get_rng_state()
        assert torch.equal(network(IMAGES), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tap_first", [True, False])
def test_the_contrast_sees_the_clean_feature(tap_first: bool) -> None:
    network = tiny().train()
    term, dropout = pne(), ClassifierDropout(0.5)
    if tap_first:
        term.attach(network, CLASSES, 255)
        dropout.attach(network)
    else:
        dropout.attach(network)
        term.attach(network, CLASSES, 255)
    torch.manual_seed(7)
    with capture(term.hooks):
        scores = network(IMAGES)
    feature, logits = (hook.take() for hook in term.hooks)
    clean = network.feature(IMAGES)
    assert torch.equal(feature, clean)
    assert torch.equal(logits, scores)
    torch.testing.assert_close(logits, network.segmentation_head[1](dropped(clean, 0.5, seed=7)))


def test_a_module_in_evaluation_mode_alone_decides() -> None:
    """Frozen classifiers in a training network drop nothing, as `nn.Dropout2d` would not."""
    network = tiny().train()
    with_dropout(network, 0.5)
    network.segmentation_head.eval()
    assert torch.equal(network(IMAGES), network.segmentation_head[1](network.feature(IMAGES)))


def test_class_keys_and_hub_format_stay(tmp_path: Path) -> None:
    network = upernet()
    keys = list(network.state_dict())
    with_dropout(network, 0.5)
    assert type(network) is smp.UPerNet
    assert list(network.state_dict()) == keys
    network.save_pretrained(tmp_path / "hooked")
    loaded = smp.from_pretrained(tmp_path / "hooked")
    assert type(loaded) is smp.UPerNet
    assert hook_count(loaded) == 0
    assert same_tensors(loaded.state_dict(), network.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), network.eval()(images))


def test_after_a_training_the_network_is_bare(tmp_path: Path) -> None:
    network = upernet()
    module = SegmentationModule(network, CLASSES, contrast=pne(), dropout=0.5)
    assert hook_count(network) == 3
    trainer(max_steps=1).fit(module, Pictures(2, (32, 64)).loader(2))
    assert hook_count(network) == 0
    network.save_pretrained(tmp_path / "trained")
    loaded = smp.from_pretrained(tmp_path / "trained")
    assert same_tensors(loaded.state_dict(), network.state_dict())
    # A second training drops again.
    module.setup("fit")
    assert hook_count(network) == 3
    module.setup("validate")
    assert hook_count(network) == 0


def test_training_goes_through_the_dropout() -> None:
    """The module's loss is that of the dropped feature."""
    data = Pictures()
    losses = []
    for probability in (0.0, 0.5, 0.5):
        module = SegmentationModule(tiny(), CLASSES, dropout=probability)
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        torch.manual_seed(3)
        losses.append(module.training_step(data.batch(), 0).item())
    assert losses[1] == losses[2] != losses[0]


def test_a_deepcopys_hook_acts_on_the_copy_alone() -> None:
    network = tiny().train()
    dropout = with_dropout(network, 0.5)
    other, other_dropout = copy.deepcopy((network, dropout))
    other_dropout.probability = 0.0
    other_dropout.detach()
    assert (hook_count(network), hook_count(other)) == (1, 0)
    torch.manual_seed(7)
    scores = network(IMAGES)
    expected = network.segmentation_head[1](dropped(network.feature(IMAGES), 0.5, seed=7))
    torch.testing.assert_close(scores, expected)
    assert torch.equal(other(IMAGES), other.segmentation_head[1](other.feature(IMAGES)))

    alone = copy.deepcopy(network)
    dropout.detach()
    assert (hook_count(network), hook_count(alone)) == (0, 1)
    alone.eval()
    assert torch.equal(alone(IMAGES), alone.segmentation_head[1](alone.feature(IMAGES)))


@pytest.mark.parametrize("probability", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        ClassifierDropout(probability)
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        SegmentationModule(tiny(), CLASSES, dropout=probability)


def test_none_registers_nothing() -> None:
    network = nn.Conv2d(3, CLASSES, 1)  # no classifier would be found
    dropout = with_dropout(network, 0.0)
    assert hook_count(network) == 0
    dropout.detach()
    with pytest.raises(ValueError, match="neither a 'segmentation_head' nor a 'classifier'"):
        with_dropout(network, 0.1)


def test_attached_twice_is_once() -> None:
    network = tiny()
    dropout = with_dropout(network, 0.5)
    dropout.attach(network)
    assert hook_count(network) == 1
    hook = FeatureHook(find_classifier(network).feature, "input")
    hook.attach(network)
    dropout.detach()
    assert hook_count(network) == 1  # the hook's
