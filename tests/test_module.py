"""`SegmentationModule`: the sum of its losses, bare networks outside training."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.data import DataLoader

from pne_seg.contrast import PNELoss
from pne_seg.data.samples import collate
from pne_seg.module import Batch, SegmentationModule
from pne_seg.optim import WarmupPoly
from tests.tiny_networks import TinyNet, hook_count, same_tensors
from tests.training import CLASSES, NAMES, Pictures, Rates, normalized, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec."),
]


def test_total_is_the_sum_of_its_parts(logged: dict[str, float]) -> None:
    data = Pictures()
    network = tiny()
    reference = copy.deepcopy(network)
    module = SegmentationModule(
        network, CLASSES, contrast=pne(weight=0.7, temperature=0.5, project="all")
    )
    assert module.contrast is not None
    projection = copy.deepcopy(module.contrast.projection)
    assert projection is not None
    total = module.training_step(data.batch(), 0)

    feature = reference.feature(normalized(data.images))
    logits = reference.segmentation_head(feature)
    enlarged = F.interpolate(logits, size=(16, 24), mode="bilinear")
    target = data.masks.long()
    ce = F.cross_entropy(enlarged, target, ignore_index=255)
    contrast = PNELoss(temperature=0.5).compute(
        projection(feature[..., ::2, ::2]), logits[..., ::2, ::2], target[:, ::4, ::4]
    )
    assert contrast.num_pairs > 0
    torch.testing.assert_close(total, ce + 0.7 * contrast.loss)
    assert logged == {
        "train/loss": pytest.approx(total.item()),
        "train/loss_ce": pytest.approx(ce.item()),
        "train/loss_contrast": pytest.approx(contrast.loss.item()),
        "train/contrast_pairs": contrast.num_pairs.item(),
        "train/contrast_anchors": contrast.num_anchors.item(),
    }


def test_without_contrast_the_total_is_cross_entropy(logged: dict[str, float]) -> None:
    module = SegmentationModule(tiny(), CLASSES)
    module.training_step(Pictures().batch(), 0)
    assert set(logged) == {"train/loss", "train/loss_ce"}
    assert logged["train/loss"] == logged["train/loss_ce"]


@pytest.mark.usefixtures("logged")
def test_all_ignored_batch_is_zero_and_reaches_every_parameter() -> None:
    module = SegmentationModule(tiny(), CLASSES, contrast=pne())
    batch = Pictures().batch()
    batch["mask"] = torch.full_like(batch["mask"], 255)
    loss = module.training_step(batch, 0)
    assert loss.item() == 0
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name  # distributed training needs it
        assert not parameter.grad.any(), name


def test_weight_zero_trains_the_network_as_without(logged: dict[str, float]) -> None:
    gradients = []
    for contrast in (None, pne(weight=0.0)):
        network = tiny(dropout=0.5)
        module = SegmentationModule(network, CLASSES, contrast=contrast)
        torch.manual_seed(11)
        module.training_step(Pictures().batch(), 0).backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    assert logged["train/contrast_pairs"] > 0
    assert logged["train/loss_contrast"] > 0
    for name, expected in gradients[0].items():
        actual = gradients[1][name]
        assert expected is not None
        assert actual is not None
        assert torch.equal(actual, expected), name


class Watch(Callback):
    """Counts the hooks during each stage, and the projection's passes."""

    def __init__(self) -> None:
        self.hooks: dict[str, set[int]] = {}
        self.projected = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._look("train", pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        self._look("val", pl_module)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._look("predict", pl_module)

    def _look(self, stage: str, module: Any) -> None:
        self.hooks.setdefault(stage, set()).add(hook_count(module.network))
        for term in module.terms:
            for hook in term.hooks:
                with pytest.raises(RuntimeError, match="No tensor"):
                    hook.take()


def watched_module(watch: Watch) -> SegmentationModule:
    module = SegmentationModule(tiny(), CLASSES, contrast=pne(project="all"))
    assert module.contrast is not None
    assert module.contrast.projection is not None

    def count(*_: Any) -> None:
        watch.projected += 1

    module.contrast.projection.register_forward_hook(count)
    return module


def test_contrast_runs_in_training_steps_alone() -> None:
    watch = Watch()
    module = watched_module(watch)
    loader = Pictures().loader()
    trainer(max_epochs=2, callbacks=[watch]).fit(module, loader, loader)
    assert watch.projected == 8  # once a training step; none in validation
    assert watch.hooks == {"train": {2}, "val": {2}}
    assert hook_count(module.network) == 0

    # Training goes on where it is asked for again.
    trainer(max_epochs=1, callbacks=[watch]).fit(module, loader)
    assert watch.projected == 12


class Enlarged(Pictures):
    """Pictures whose files are twice as large."""

    def __getitem__(self, index: int) -> Batch:
        return {**super().__getitem__(index), "source_size": (32, 48)}


def test_evaluation_and_prediction_run_the_bare_network() -> None:
    watch = Watch()
    module = watched_module(watch)
    loader = DataLoader(Enlarged(), 2, collate_fn=collate)
    once = trainer(callbacks=[watch])
    once.validate(module, loader, verbose=False)
    once.test(module, loader, verbose=False)
    predictions: Any = once.predict(module, loader)
    assert watch.projected == 0
    assert watch.hooks == {"val": {0}, "predict": {0}}
    with torch.no_grad():
        logits = module.eval()(Pictures().images)
    expected = F.interpolate(logits, size=(32, 48), mode="bilinear").argmax(1)
    assert torch.equal(torch.cat(predictions), expected)


def test_state_dict_loads_with_and_without_contrast() -> None:
    trained = SegmentationModule(tiny(), CLASSES, contrast=pne())
    state = copy.deepcopy(trained.state_dict())
    keys = list(state)
    assert any(key.startswith("contrast.projection.") for key in keys)

    torch.manual_seed(99)
    bare = SegmentationModule(TinyNet(CLASSES), CLASSES)
    bare.load_state_dict(state)
    assert same_tensors(bare.network.state_dict(), trained.network.state_dict())
    assert list(state) == keys

    other = SegmentationModule(TinyNet(CLASSES), CLASSES, contrast=pne())
    assert other.contrast is not None
    own = copy.deepcopy(other.contrast.state_dict())
    other.load_state_dict(bare.state_dict())
    assert same_tensors(other.network.state_dict(), trained.network.state_dict())
    assert same_tensors(other.contrast.state_dict(), own)

    other.load_state_dict(state)
    assert same_tensors(other.state_dict(), state)


@pytest.mark.parametrize("key", ["network.encoder.0.weight", "contrast.projection.0.weight"])
def test_a_state_dict_with_a_gap_is_refused(key: str) -> None:
    module = SegmentationModule(tiny(), CLASSES, contrast=pne())
    state = module.state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=key):
        module.load_state_dict(state)


class Ragged(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def torchvision_fcn() -> nn.Module:
    network: nn.Module = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    return network


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TinyNet(4), "TinyNet gives 4 classes, the data has 3"),
        (torchvision_fcn, "FCN returns OrderedDict, expected .* Wrap it in a module"),
        (Ragged, r"Ragged returns .* expected a \(B, C, H, W\) tensor"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(
    build: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationModule(build(), CLASSES)


def test_class_names_must_be_as_many_as_classes() -> None:
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        SegmentationModule(tiny(), CLASSES, class_names=NAMES[:2])
    assert SegmentationModule(tiny(), CLASSES).class_names == ["0", "1", "2"]


def test_mean_and_std_reach_the_network() -> None:
    images = Pictures().images
    module = SegmentationModule(
        tiny(), CLASSES, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0)
    ).eval()
    given = (images.float() - torch.tensor([10.0, 20, 30])[:, None, None]) / torch.tensor(
        [2.0, 4, 8]
    )[:, None, None]
    with torch.no_grad():
        expected = F.interpolate(module.network(given), size=(16, 24), mode="bilinear")
        torch.testing.assert_close(module(images), expected)


def test_optimizer_and_warmup_poly_as_callables() -> None:
    def optimizer(parameters: Any) -> Optimizer:
        return SGD(parameters, lr=0.1, momentum=0.8)

    def schedule(optimizer: Optimizer) -> WarmupPoly:
        return WarmupPoly(optimizer, power=1.0, warmup_steps=2, warmup_start=0.5)

    module = SegmentationModule(
        tiny(), CLASSES, contrast=pne(), optimizer=optimizer, schedule=schedule
    )
    rates = Rates()
    loader = Pictures().loader()
    once = trainer(max_steps=5, callbacks=[rates])
    once.fit(module, loader)
    # The trainer's five steps: (1 − t/5), times 1/2 and 3/4 while it warms up.
    assert rates["lr"] == pytest.approx([0.1 * f for f in (0.5, 0.8 * 0.75, 0.6, 0.4, 0.2)])
    assert set(rates["momentum"]) == {0.8}
    assert isinstance(once.optimizers[0], SGD)
    trained = {id(p) for group in once.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in module.parameters()}


def test_adamw_as_pytorch_has_it_by_default() -> None:
    module = SegmentationModule(tiny(), CLASSES)
    optimizer = module.configure_optimizers()
    assert type(optimizer) is AdamW
    assert optimizer.defaults == AdamW(module.parameters()).defaults


def test_plateau_schedule_watches_its_monitor() -> None:
    def optimizer(parameters: Any) -> Optimizer:
        return SGD(parameters, lr=0.1)

    def schedule(optimizer: Optimizer) -> ReduceLROnPlateau:
        # No loss is better than the first by 100, so that each epoch halves the rate.
        return ReduceLROnPlateau(
            optimizer,
            monitor="val/loss",
            factor=0.5,
            patience=0,
            threshold=100,
            threshold_mode="abs",
        )

    module = SegmentationModule(tiny(), CLASSES, optimizer=optimizer, schedule=schedule)
    rates = Rates()
    loader = Pictures(2).loader(2)
    trainer(max_epochs=4, callbacks=[rates], num_sanity_val_steps=0).fit(module, loader, loader)
    assert rates["lr"] == pytest.approx([0.1, 0.1, 0.05, 0.025])


def test_contrast_warms_up_by_optimizer_steps() -> None:
    weights = []

    class Weights(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any
        ) -> None:
            metrics = trainer.callback_metrics
            rest = metrics["train/loss"] - metrics["train/loss_ce"]
            weights.append((rest / metrics["train/loss_contrast"]).item())

    module = SegmentationModule(tiny(), CLASSES, contrast=pne(weight=2.0, warmup_steps=4))
    loader = Pictures(8).loader(2)
    # Two batches make a step.
    trainer(max_epochs=1, accumulate_grad_batches=2, callbacks=[Weights()]).fit(module, loader)
    assert weights == pytest.approx([0.0, 0.0, 0.5, 0.5], abs=1e-4)
