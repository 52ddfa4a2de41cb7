"""What a training adds up and steps by: several losses, further terms, groups of parameters."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from pne_seg.contrast import PNELoss
from pne_seg.errors import UserError
from pne_seg.losses import CrossEntropy, OHEMCrossEntropy
from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from pne_seg.optim import ParameterGroups, WarmupPoly
from tests.training import CLASSES, Pictures, normalized, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

WEIGHTS = {"dice": 0.5, "lovasz": 2.0}


def extra_losses() -> dict[str, nn.Module]:
    """smp's own, as a YAML would build them: none is told the ignore value."""
    return {
        "dice": smp.losses.DiceLoss(mode="multiclass"),
        "lovasz": smp.losses.LovaszLoss(mode="multiclass"),
        "focal": smp.losses.FocalLoss(mode="multiclass"),
    }


def ohem() -> OHEMCrossEntropy:
    return OHEMCrossEntropy(threshold=0.3, min_kept=50)


def everything() -> SegmentationModule:
    return SegmentationModule(
        tiny(),
        CLASSES,
        loss=ohem(),
        extra_losses=extra_losses(),
        extra_loss_weights=WEIGHTS,
        contrast=pne(weight=0.7, project="all"),
        auxiliary=FCNHead(channels=4, dropout=0.0, feature_module="encoder", weight=0.3),
    )


def enlarge(logits: Tensor) -> Tensor:
    return F.interpolate(logits.float(), size=(16, 24), mode="bilinear")


def hard_cross_entropy(logits: Tensor, target: Tensor) -> float:
    """Pixels below a probability of 0.3, or else the 50 lowest, in plain NumPy."""
    pixels = logits.detach().double().permute(0, 2, 3, 1).reshape(-1, CLASSES).numpy()
    labels = target.flatten().numpy()
    pixels, labels = pixels[labels != 255], labels[labels != 255]
    powers = np.exp(pixels)
    own = np.sort((powers / powers.sum(1, keepdims=True))[np.arange(len(labels)), labels])
    count = max(50, int((own < 0.3).sum()))
    assert 50 < count < len(own)
    return float(-np.log(own[:count]).mean())


def test_total_is_the_weighted_sum_of_all(logged: dict[str, float]) -> None:
    data = Pictures()
    module = everything()
    network, auxiliary, contrast = copy.deepcopy(
        (module.network, module.auxiliary, module.contrast)
    )
    assert isinstance(auxiliary, FCNHead)
    assert auxiliary.head is not None
    assert contrast is not None
    assert contrast.projection is not None
    total = module.training_step(data.batch(), 0)

    low: Any = network
    first = low.encoder(normalized(data.images))
    feature = low.decoder(first)
    logits = low.segmentation_head(feature)
    target = data.masks.long()
    shown = enlarge(logits)
    extra = {
        "dice": smp.losses.DiceLoss("multiclass", ignore_index=255),
        "lovasz": smp.losses.LovaszLoss("multiclass", ignore_index=255),
        "focal": smp.losses.FocalLoss("multiclass", ignore_index=255),
    }
    values = {name: loss(shown, target).item() for name, loss in extra.items()}
    values["ohem"] = hard_cross_entropy(shown, target)
    values["auxiliary"] = hard_cross_entropy(enlarge(auxiliary.head(first)), target)
    pairs = PNELoss().compute(
        contrast.projection(feature[..., ::2, ::2]), logits[..., ::2, ::2], target[:, ::4, ::4]
    )
    values["contrast"] = pairs.loss.item()
    assert min(values.values()) > 0
    weights = {"dice": 0.5, "lovasz": 2.0, "focal": 1, "ohem": 1, "auxiliary": 0.3, "contrast": 0.7}
    expected = sum(weights[name] * value for name, value in values.items())
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert logged == {
        "train/loss": pytest.approx(expected, rel=1e-5),
        **{f"train/loss_{name}": pytest.approx(v, rel=1e-5) for name, v in values.items()},
        "train/contrast_pairs": pairs.num_pairs.item(),
        "train/contrast_anchors": pairs.num_anchors.item(),
    }


def test_all_ignored_batches_are_finite_and_reach_every_parameter(
    logged: dict[str, float],
) -> None:
    module = everything()
    batch = Pictures().batch()
    batch["mask"] = torch.full_like(batch["mask"], 255)
    module.training_step(batch, 0).backward()
    losses = {name: value for name, value in logged.items() if "/loss" in name}
    assert len(losses) == 7
    assert set(losses.values()) == {0.0}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name  # distributed training needs it
        assert not parameter.grad.any(), name


def test_one_ignored_image_of_two_is_finite(logged: dict[str, float]) -> None:
    module = everything()
    batch = Pictures(2).batch()
    batch["mask"][0] = 255
    module.training_step(batch, 0).backward()
    assert np.isfinite(list(logged.values())).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_half_precision_scores_are_scored_in_full(logged: dict[str, float]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen: list[Tensor] = []
        module = everything()
        module.network.register_forward_hook(lambda _m, _a, output: seen.append(output))
        total = module.training_step(Pictures().batch(), 0)
    total.backward()
    assert seen[0].dtype == torch.bfloat16
    assert total.dtype == torch.float32
    assert np.isfinite(list(logged.values())).all()
    target = Pictures().masks.long()
    # The module resizes in half precision: two decimal places.
    assert logged["train/loss_ohem"] == pytest.approx(
        hard_cross_entropy(enlarge(seen[0]), target), rel=2e-2
    )
    dice = smp.losses.DiceLoss("multiclass", ignore_index=255)(enlarge(seen[0]), target)
    assert logged["train/loss_dice"] == pytest.approx(dice.item(), rel=2e-2)


def test_a_loss_given_to_the_auxiliary_head_stays(logged: dict[str, float]) -> None:
    own = smp.losses.DiceLoss("multiclass", ignore_index=255)
    head = FCNHead(channels=4, feature_module="encoder", loss=own)
    module = SegmentationModule(tiny(), CLASSES, auxiliary=head)
    module.training_step(Pictures().batch(), 0)
    assert head.loss is own
    assert set(logged) == {"train/loss", "train/loss_ce", "train/loss_auxiliary"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extra_loss_weights": {"dise": 1.0}}, r"names dise, which extra_losses has not \(.*dice"),
        ({"extra_losses": None, "extra_loss_weights": {"dice": 1.0}}, "dice, which .* has not"),
        ({"extra_losses": {"ce": nn.CrossEntropyLoss()}}, "names ce, which is logged already"),
        ({"extra_losses": {"contrast": nn.CrossEntropyLoss()}}, "train/loss_contrast would hold"),
        ({"extra_losses": {"auxiliary": nn.CrossEntropyLoss()}}, "Give it another name"),
        ({"extra_losses": {"l1": nn.L1Loss()}}, "L1Loss has no ignore_index"),
    ],
)
def test_extra_losses_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationModule(tiny(), CLASSES, **({"extra_losses": extra_losses()} | settings))


def test_cross_entropy_beside_another_main_loss_is_welcome(logged: dict[str, float]) -> None:
    module = SegmentationModule(
        tiny(), CLASSES, loss=ohem(), extra_losses={"ce": nn.CrossEntropyLoss()}
    )
    module.training_step(Pictures().batch(), 0)
    assert set(logged) == {"train/loss", "train/loss_ohem", "train/loss_ce"}


def grouped(groups: ParameterGroups | None, total_steps: int = 0) -> SegmentationModule:
    def optimizer(parameters: Any) -> Optimizer:
        return SGD(parameters, lr=0.1, weight_decay=0.01)

    def schedule(optimizer: Optimizer) -> WarmupPoly:
        return WarmupPoly(optimizer, total_steps, power=1.0, warmup_steps=2, warmup_start=0.5)

    return SegmentationModule(
        tiny(),
        CLASSES,
        contrast=pne(),
        auxiliary=FCNHead(channels=4, feature_module="encoder"),
        optimizer=optimizer,
        schedule=schedule,
        parameter_groups=groups,
    )


class GroupRates(Callback):
    """The rate of every group at each step, and what the groups hold."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.decays: list[float] = []
        self.sizes: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        groups = trainer.optimizers[0].param_groups
        self.rates.append([group["lr"] for group in groups])
        self.decays = [group["weight_decay"] for group in groups]
        self.sizes = [sum(p.numel() for p in group["params"]) for group in groups]


def test_groups_and_head_lr_under_the_schedule() -> None:
    module = grouped(ParameterGroups(decay_norms=False, head_lr=10))
    seen = GroupRates()
    trainer(max_steps=5, callbacks=[seen]).fit(module, Pictures(10).loader(2))
    # (1 − t/5), times 1/2 and 3/4 while it warms up: the head's at ten times the encoder's.
    factors = np.array([0.5, 0.8 * 0.75, 0.6, 0.4, 0.2])[:, None]
    np.testing.assert_allclose(seen.rates, factors * [0.1, 0.1, 1.0, 1.0])
    assert seen.decays == [0.01, 0, 0.01, 0]
    # Encoder: convolution, norm. Heads: decoder, classifier, auxiliary head, projection; norms.
    decoder, classifier = 8 * 8 * 9 + 8, 8 * 3 + 3
    auxiliary, projection = 8 * 4 * 9 + 4 * 3 + 3, 8 * 8 + 8 * 6 + 6
    convolutions = decoder + classifier + auxiliary + projection
    assert seen.sizes == [3 * 8 * 9 + 8, 16, convolutions, 2 * (8 + 4 + 8)]


def test_a_resume_with_other_groups_is_refused(tmp_path: Path) -> None:
    loader = Pictures().loader(2)
    once = trainer(max_epochs=1)
    once.fit(grouped(None, total_steps=8), loader)
    once.save_checkpoint(tmp_path / "last.ckpt")

    def resume(groups: ParameterGroups | None) -> GroupRates:
        seen = GroupRates()
        again = trainer(max_epochs=2, callbacks=[seen])
        again.fit(grouped(groups, 8), loader, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
        return seen

    message = r"has 1 parameter groups, this run's has 4.*the parameter_groups of the run"
    with pytest.raises(UserError, match=message):
        resume(ParameterGroups(decay_norms=False, head_lr=10))
    assert resume(None).rates == [pytest.approx([0.1 * (1 - t / 8)]) for t in (2, 3)]


def test_a_training_may_follow_an_evaluation() -> None:
    """Evaluations count under inference mode, trainings do not."""
    module, loader = SegmentationModule(tiny(), CLASSES), Pictures().loader(2)
    before = trainer().validate(module, loader, verbose=False)[0]
    trainer().test(module, loader, verbose=False)
    once = trainer(max_epochs=1)
    once.fit(module, loader, loader)
    assert 0 < once.callback_metrics["val/loss"].item() != before["val/loss"]
    assert module.metrics is not None
    assert module.metrics.matrix.sum() == (Pictures().masks != 255).sum()


def test_a_mean_over_all_pixels_does_not_count_the_padding_to_the_stride(
    logged: dict[str, float],
) -> None:
    """The same pixels of the same scores, whether or not the network needs a larger image."""
    torch.manual_seed(0)
    network = smp.UPerNet("resnet18", 5, None, decoder_channels=8, classes=3, upsampling=1)
    head = FCNHead(channels=4, dropout=0.0, weight=1.0)
    module = SegmentationModule(
        network, 3, loss=CrossEntropy(average="all"), contrast=pne(), auxiliary=head
    )
    images = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    mask = torch.randint(0, 3, (2, 40, 50))
    mask[:, :5] = 255
    module.training_step({"image": images, "mask": mask, "name": ["a", "b"]}, 0)

    module.teardown("fit")  # the taps go, and the plain network gives the same scores
    padded = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).repeat(2, 1, 64, 64)
    padded[..., :40, :50] = images
    with torch.no_grad():
        inputs = normalized(padded)
        features = network.encoder(inputs)
        low = {"ce": network(inputs)}
        assert head.head is not None
        low["auxiliary"] = head.head(features[-2])
    for name, scores in low.items():
        full = F.interpolate(scores, size=(64, 64), mode="bilinear", align_corners=False)
        each = F.cross_entropy(full[..., :40, :50], mask, ignore_index=255, reduction="none")
        expected = float(each.sum() / mask.numel())
        assert logged[f"train/loss_{name}"] == pytest.approx(expected, rel=1e-5)
