"""What holds for each method of the paper: it learns, and takes images of any size."""

import functools
import statistics
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from pne_seg.data import Scenes
from pne_seg.data.samples import SampleView, collate
from pne_seg.module import Batch
from tests.methods import NETWORKS, loader, training_module
from tests.training import trainer

METHODS = pytest.mark.parametrize("method", NETWORKS)
CLASSES = len(Scenes.class_names)
MEAN_COLOR = torch.tensor([123.675, 116.28, 103.53])[:, None, None]


def four_scenes() -> Batch:
    scenes = Scenes(train_size=4, val_size=4, test_size=4, height=64, width=64)
    view = SampleView(scenes.dataset("val"))
    return collate([view[index] for index in range(4)])


class LossHistory(Callback):
    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        for name, value in trainer.callback_metrics.items():
            self.values.setdefault(name, []).append(float(value))


@METHODS
def test_the_losses_fall_on_four_images(method: str) -> None:
    optimizer = functools.partial(torch.optim.AdamW, lr=1e-3)
    module = training_module(method, CLASSES, optimizer=optimizer)
    history = LossHistory()
    run = trainer(max_epochs=1, callbacks=[history], log_every_n_steps=1)
    run.fit(module, loader([four_scenes()] * 30))
    names = {"train/loss", "train/loss_ce", "train/loss_contrast"}
    if method != "hrnetv2":
        names.add("train/loss_auxiliary")
    assert {name for name in history.values if "loss" in name} == names
    for name in names - {"train/loss_contrast"}:
        values = history.values[name]
        assert len(values) == 30
        assert statistics.mean(values[-5:]) < 0.85 * statistics.mean(values[:5]), name
    assert min(history.values["train/contrast_pairs"]) > 0


@METHODS
def test_an_odd_size_gives_what_the_padded_image_gives(method: str) -> None:
    module = training_module(method, CLASSES).eval()
    image = torch.randint(0, 256, (1, 3, 333, 500), dtype=torch.uint8)
    below, right = -333 % 32, -500 % 32
    padded = MEAN_COLOR.expand(1, 3, 333 + below, 500 + right).clone()
    padded[..., :333, :500] = image
    with torch.no_grad():
        scores: Tensor = module(image)
        whole: Tensor = module(padded)
        # The convention of the published baselines: bilinear, corners not aligned.
        size = (333 + below, 500 + right)
        inputs = module.preprocessing(padded)
        raw = module.network(inputs)
        plain = F.interpolate(raw, size=size, mode="bilinear", align_corners=False)
    stride = module.preprocessing.stride
    assert stride == (8 if method == "deeplabv3" else 32)
    assert scores.shape == (1, CLASSES, 333, 500)
    if stride == 32:
        assert torch.equal(scores, whole[..., :333, :500])
        torch.testing.assert_close(whole, plain)
    else:  # padded to fewer pixels, so compare with that
        eight = padded[..., : 333 - 333 % -8, : 500 - 500 % -8]
        with torch.no_grad():
            assert torch.equal(scores, module(eight)[..., :333, :500])


@METHODS
@pytest.mark.parametrize("size", [(1, 1), (33, 500), (64, 31)])
def test_validation_takes_any_size(method: str, size: tuple[int, int]) -> None:
    module = training_module(method, CLASSES)
    batch = {
        "image": torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8),
        "mask": torch.randint(0, CLASSES, (1, *size), dtype=torch.uint8),
        "name": ["odd"],
    }
    trainer().validate(module, loader([batch]), verbose=False)
    assert module.metrics is not None
    assert int(module.metrics.matrix.sum()) == size[0] * size[1]


@METHODS
def test_training_refuses_a_crop_of_one_pixel(method: str) -> None:
    module = training_module(method, CLASSES)
    stride = module.preprocessing.stride
    said = rf"crops of 1×1 pixels are smaller than the network's stride of {stride}"
    with pytest.raises(ValueError, match=said):
        module.requirements.check(8, 1, 1)
    module.requirements.check(2, 64, 64)


@METHODS
def test_networks_that_pool_to_one_pixel_refuse_a_single_image(method: str) -> None:
    module = training_module(method, CLASSES)
    pools = method in ("deeplabv3", "upernet_resnet", "upernet_swin")
    assert (module.requirements.pooled_norm is not None) is pools
    if pools:
        with pytest.raises(ValueError, match=r"Set batch_size to 2 or more"):
            module.requirements.check(1, 64, 64)
        module.network.train()
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            module.network(torch.zeros(1, 3, 64, 64))
    else:
        module.requirements.check(1, 64, 64)
        module.network.train()
        module.network(torch.zeros(1, 3, 64, 64))
