"""Losses that cannot be trained with are refused before the first step, in one line."""

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pne_seg.losses import CrossEntropy, OHEMCrossEntropy
from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from tests.training import CLASSES, tiny

LOSSES = smp.losses


class Own(nn.Module):
    """A loss of a user's, which does something with the cross-entropy."""

    def __init__(self, does: str) -> None:
        super().__init__()
        self.ignore_index = 255
        self.does = does
        self.calls = 0

    def forward(self, logits: Tensor, target: Tensor) -> Any:
        self.calls += 1
        value = nn.functional.cross_entropy(logits, target, ignore_index=self.ignore_index)
        if self.does == "BCE":
            return nn.functional.binary_cross_entropy_with_logits(logits, target)
        torch.rand(1)
        kinds = {"dictionary": {"loss": value}, "detached": value.detach(), "one": value[None]}
        return kinds.get(self.does, value)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (LOSSES.DiceLoss("binary"), "DiceLoss has mode 'binary', but each pixel has one of 3"),
        (LOSSES.JaccardLoss("multilabel"), "Set mode='multiclass'"),
        (LOSSES.FocalLoss("binary"), "FocalLoss has mode 'binary'"),
        (LOSSES.LovaszLoss("multilabel"), "LovaszLoss has mode 'multilabel'"),
        (LOSSES.TverskyLoss("binary"), "TverskyLoss has mode 'binary'"),
        (LOSSES.DiceLoss("multiclass", from_logits=False), "DiceLoss has from_logits=False"),
        (LOSSES.DiceLoss("multiclass", ignore_index=0), "was given ignore_index 0"),
        (LOSSES.JaccardLoss("multiclass", classes=[7]), "cannot be computed of .* index 7"),
        (LOSSES.SoftBCEWithLogitsLoss(), "SoftBCEWithLogitsLoss cannot be computed of"),
        (LOSSES.SoftCrossEntropyLoss(), "SoftCrossEntropyLoss cannot be computed of"),
        (nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss has no ignore_index"),
        (nn.CrossEntropyLoss(reduction="none"), r"gives \(2, 16, 16\) values.*reduction='mean'"),
        (nn.CrossEntropyLoss(torch.ones(5)), "CrossEntropyLoss cannot be computed of .*weight"),
        (Own("BCE"), "Own cannot be computed of"),
        (Own("dictionary"), "Own gives dict, expected a tensor of one number"),
        (Own("detached"), "Own gives a number without a gradient"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_loss_that_does_not_fit(loss: nn.Module, said: str) -> None:
    for where in ({"loss": loss}, {"extra_losses": {"further": loss}}):
        with pytest.raises(ValueError, match=said) as refused:
            SegmentationModule(tiny(), CLASSES, **where)
        assert "\n" not in str(refused.value)
    head = FCNHead(channels=4, feature_module="encoder", loss=loss)
    with pytest.raises(ValueError, match=said):
        SegmentationModule(tiny(), CLASSES, auxiliary=head)


@pytest.mark.parametrize(
    "loss",
    [
        *(kind("multiclass") for kind in (LOSSES.DiceLoss, LOSSES.JaccardLoss, LOSSES.FocalLoss)),
        *(kind("multiclass") for kind in (LOSSES.TverskyLoss, LOSSES.LovaszLoss)),
        LOSSES.DiceLoss("multiclass", classes=[0, 2]),
        LOSSES.SoftCrossEntropyLoss(smooth_factor=0.1),
        nn.CrossEntropyLoss(torch.ones(CLASSES), label_smoothing=0.1, reduction="sum"),
        CrossEntropy(class_weights=[1, 2, 3]),
        OHEMCrossEntropy(min_kept=10**6),
        Own("nothing"),
        Own("one"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_that_fits_stays_as_it_was(loss: nn.Module) -> None:
    state = torch.get_rng_state()
    SegmentationModule(tiny(), CLASSES, loss=loss)
    torch.set_rng_state(state)
    expected = SegmentationModule(tiny(), CLASSES).network.state_dict()
    torch.set_rng_state(state)
    found = SegmentationModule(tiny(), CLASSES, loss=loss).network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert getattr(loss, "calls", 0) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_classes_to_learn_anything(count: int) -> None:
    with pytest.raises(ValueError, match=f"2 or more, got {count}: .* Name the background"):
        SegmentationModule(tiny(), count)
