"""`SegmentationModule` in evaluation: padded images, labels of another size, the split's scores."""

import copy
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from pne_seg.module import SegmentationModule
from tests.tiny_networks import TinyNet
from tests.training import CLASSES, NAMES, Pictures, normalized, pne, tiny, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
]


def test_odd_sizes_are_padded(logged: dict[str, float]) -> None:
    data = Pictures(2, (45, 70))
    network = smp.UPerNet("resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16)
    reference = copy.deepcopy(network)
    module = SegmentationModule(network, CLASSES, contrast=pne())
    images = torch.zeros(2, 3, 64, 96)  # in the mean color
    images[..., :45, :70] = normalized(data.images)
    target = torch.full((2, 64, 96), 255)
    target[:, :45, :70] = data.masks

    state = torch.get_rng_state()
    module.training_step(data.batch(), 0).backward()
    torch.set_rng_state(state)
    expected = F.cross_entropy(reference(images), target, ignore_index=255)
    assert logged["train/loss_ce"] == pytest.approx(expected.item(), rel=1e-5)

    network.eval()
    reference.eval()
    reference.load_state_dict(network.state_dict())
    with torch.no_grad():
        prediction = module.validation_step(data.batch(), 0)
        logits = reference(images)[..., :45, :70]
    assert prediction.shape == (2, 45, 70)
    assert torch.equal(prediction, logits.argmax(1))
    expected = F.cross_entropy(logits, data.masks.long(), ignore_index=255)
    assert logged["val/loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert module.confusion.compute().sum() == (data.masks != 255).sum()


@pytest.mark.parametrize("size", [(90, 140), (30, 41)])
def test_scores_are_at_the_labels_own_size(size: tuple[int, int], logged: dict[str, float]) -> None:
    images = Pictures(2, (45, 70)).images
    masks = Pictures(2, size).masks
    module = SegmentationModule(tiny(), CLASSES).eval()
    with torch.no_grad():
        prediction = module.validation_step({"image": images, "mask": masks, "name": ["a", "b"]}, 0)
        logits = F.interpolate(module(images), size=size, mode="bilinear")
    assert torch.equal(prediction, logits.argmax(1))
    expected = F.cross_entropy(logits, masks.long(), ignore_index=255)
    assert logged["val/loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert module.confusion.compute().sum() == (masks != 255).sum()


def test_predictions_of_files_of_different_size_stay_at_the_images() -> None:
    module = SegmentationModule(tiny(), CLASSES).eval()
    batch = {**Pictures(2).batch(), "source_size": [(32, 48), (8, 8)]}
    with torch.no_grad():
        prediction = module.predict_step(batch, 0)
        assert torch.equal(prediction, module(batch["image"]).argmax(1))


def test_logged_names_and_scores() -> None:
    data = Pictures(5)
    module = SegmentationModule(tiny(), CLASSES, class_names=NAMES, contrast=pne())
    once = trainer(max_epochs=1, num_sanity_val_steps=2)
    once.fit(module, data.loader(2), data.loader(2))
    logged_by_fit = set(once.callback_metrics)
    assert logged_by_fit == {
        "train/loss",
        "train/loss_ce",
        "train/loss_contrast",
        "train/contrast_pairs",
        "train/contrast_anchors",
        "val/loss",
        "val/mIoU",
        "val/mAcc",
        "val/pixel_accuracy",
        "val/IoU/road",
        "val/IoU/sky",
        "val/IoU/car",
    }
    with torch.no_grad():
        prediction = module.eval()(data.images).argmax(1)
    labeled = data.masks != 255
    ious = []
    for index, name in enumerate(NAMES):
        predicted, true = (prediction == index) & labeled, data.masks == index
        ious.append(((predicted & true).sum() / (predicted | true).sum()).item())
        assert once.callback_metrics[f"val/IoU/{name}"].item() == pytest.approx(ious[-1])
    # Over the whole split, the sanity check's images not counted twice.
    assert once.callback_metrics["val/mIoU"].item() == pytest.approx(sum(ious) / 3)
    right = ((prediction == data.masks) & labeled).sum() / labeled.sum()
    assert once.callback_metrics["val/pixel_accuracy"].item() == pytest.approx(right.item())
    assert module.metrics is not None
    assert module.metrics.matrix.sum() == labeled.sum()

    named = once.test(module, data.loader(2), verbose=False)[0]
    # Nothing is counted twice by a second test.
    assert once.test(module, data.loader(2), verbose=False)[0] == named
    assert module.boundary_metrics is not None
    counted = module.boundary_metrics.within[9].matrix + module.boundary_metrics.beyond.matrix
    assert torch.equal(counted, module.metrics.matrix)
    assert named["test/mIoU"] == pytest.approx(sum(ious) / 3)
    assert set(named) == {
        name.replace("val/", "test/") for name in logged_by_fit if name.startswith("val/")
    } | {f"test/boundary_mIoU/{width}px" for width in (1, 3, 5, 9)}


def test_checkpoint_saved_without_training_can_be_evaluated(tmp_path: Path) -> None:
    module = SegmentationModule(tiny(), CLASSES)
    once = trainer()
    loader = Pictures().loader()
    before = once.validate(module, loader, verbose=False)
    once.save_checkpoint(tmp_path / "random.ckpt")
    other = SegmentationModule(TinyNet(CLASSES), CLASSES)
    after = trainer().validate(
        other, loader, ckpt_path=tmp_path / "random.ckpt", verbose=False, weights_only=True
    )
    assert after == before
