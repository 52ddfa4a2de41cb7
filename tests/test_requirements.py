"""`BatchRequirements` refuse what PyTorch would fail on in training, and nothing else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pne_seg.inference import network_stride
from pne_seg.module import SegmentationModule
from pne_seg.networks import DeepLabV3, HRNetV2
from pne_seg.networks.requirements import BatchRequirements
from tests.tiny_networks import TinyNet, hook_count, same_tensors
from tests.training import Pictures, pne, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

CLASSES = 3


def upernet() -> nn.Module:
    network: nn.Module = smp.UPerNet(
        "resnet18", encoder_weights=None, classes=CLASSES, decoder_channels=16
    )
    return network


def deeplabv3() -> nn.Module:
    network: nn.Module = DeepLabV3("tu-resnet10t", None, classes=CLASSES, decoder_channels=16)
    return network


def pspnet() -> nn.Module:
    network: nn.Module = smp.PSPNet("resnet18", encoder_weights=None, classes=CLASSES)
    return network


def hrnet() -> nn.Module:
    network: nn.Module = HRNetV2("tu-hrnet_w18_small", None, classes=CLASSES)
    return network


class WithoutBatchNorm(nn.Module):
    """One feature a 32×32 window, through a norm that asks nothing of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 32, stride=32)
        self.norm = nn.GroupNorm(1, 4)
        self.segmentation_head = nn.Conv2d(4, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.segmentation_head(self.norm(self.encoder(images)))
        return scores


def requirements(network: nn.Module) -> BatchRequirements:
    return BatchRequirements(network, CLASSES, network_stride(network))


def train_step(network: nn.Module, images: int, height: int, width: int) -> Tensor:
    network.train()
    scores: Tensor = network(torch.randn(images, 3, height, width))
    scores.square().mean().backward()
    return scores


@pytest.mark.parametrize(
    ("build", "norm"),
    [(upernet, r"decoder\.psp\.blocks\.0\.1\.1"), (deeplabv3, r"decoder\.image_pooling\.1\.1")],
)
def test_one_image_is_refused_where_the_image_is_pooled(
    build: Callable[[], nn.Module], norm: str
) -> None:
    network = build()
    required = requirements(network)
    message = (
        f"normalization {norm} would see a single .*batch_size to 2 or more.*sync_batchnorm=True"
    )
    with pytest.raises(ValueError, match=message):
        required.check(1, 64, 64)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        train_step(network, 1, 64, 64)
    required.check(2, 64, 64)
    train_step(network, 2, 64, 64)


@pytest.mark.parametrize("build", [hrnet, pspnet], ids=["HRNetV2", "PSPNet"])
def test_one_image_is_enough_where_none_is_pooled(build: Callable[[], nn.Module]) -> None:
    """smp's PSPNet leaves the batch norm out where it pools to one pixel."""
    network = build()
    requirements(network).check(1, 64, 64)
    scores = train_step(network, 1, 64, 64)
    assert scores.isfinite().all()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert any(gradient is not None and gradient.any() for gradient in gradients)


@pytest.mark.parametrize(("build", "stride"), [(hrnet, 32), (pspnet, 8), (upernet, 32)])
def test_one_image_of_one_stride_is_refused(build: Callable[[], nn.Module], stride: int) -> None:
    network = build()
    required = requirements(network)
    assert required.stride == stride
    with pytest.raises(ValueError, match="One image per device is too few"):
        required.check(1, stride, stride)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        train_step(network, 1, stride, stride)
    required.check(2, stride, stride)
    train_step(network, 2, stride, stride)


def test_a_crop_that_padding_brings_to_two_strides_counts_as_two() -> None:
    required = requirements(hrnet())
    required.check(1, 32, 33)
    train_step(hrnet(), 1, 32, 64)


@pytest.mark.parametrize("images", [1, 2, 16])
@pytest.mark.parametrize("size", [(31, 64), (64, 31), (1, 1), (16, 16)])
def test_crops_below_the_stride_are_refused(size: tuple[int, int], images: int) -> None:
    reason = rf"{size[0]}×{size[1]} pixels are smaller than .*stride of 32.*at least 32×32"
    with pytest.raises(ValueError, match=reason):
        requirements(hrnet()).check(images, *size)


def test_a_single_pixel_is_refused_whatever_the_stride() -> None:
    with pytest.raises(ValueError, match=r"1×1 pixels .*at least 2×2"):
        BatchRequirements(TinyNet(), 3, 1).check(8, 1, 1)
    BatchRequirements(TinyNet(), 3, 1).check(1, 1, 2)


def test_networks_without_batch_norm_take_one_image_of_one_stride() -> None:
    network = WithoutBatchNorm()
    BatchRequirements(network, CLASSES, 32).check(1, 32, 32)
    assert train_step(network, 1, 32, 32).shape == (1, CLASSES, 1, 1)


class Spare(TinyNet):
    """Holds a norm that no image reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.BatchNorm2d(4)


def test_norms_that_no_image_reaches_do_not_count() -> None:
    assert requirements(Spare()).pooled_norm is None
    # smp's PSPNet leaves the last two stages of its encoder out.
    assert SegmentationModule(pspnet(), CLASSES).requirements.pooled_norm is None


@pytest.mark.parametrize("build", [upernet, deeplabv3, pspnet, hrnet])
def test_the_network_is_as_before(build: Callable[[], nn.Module]) -> None:
    network = build().train()
    next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = {name: module.training for name, module in network.named_modules()}
    assert set(modes.values()) == {True, False}
    before = copy.deepcopy(network.state_dict())  # with the norms' statistics
    random_state = torch.get_rng_state()
    requirements(network)
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert same_tensors(network.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert hook_count(network) == 0


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (1, (64, 64), r"decoder\.psp\.blocks\.0\.1\.1 would see a single value per channel"),
        (2, (16, 40), r"16×40 pixels are smaller than the network's stride of 32"),
    ],
)
def test_a_training_without_the_command_line_is_refused_as_readably(
    images: int, size: tuple[int, int], message: str
) -> None:
    module = SegmentationModule(upernet(), CLASSES, contrast=pne())
    with pytest.raises(ValueError, match=message):
        trainer(max_steps=1).fit(module, Pictures(2, size).loader(images))


def test_synchronized_norms_count_the_images_of_all_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, ...]] = []
    for network in (upernet(), nn.SyncBatchNorm.convert_sync_batchnorm(upernet())):
        module = SegmentationModule(network, CLASSES)

        class Ranks:
            world_size = 4

        monkeypatch.setattr(SegmentationModule, "trainer", Ranks())
        monkeypatch.setattr(module.requirements, "check", lambda *size: seen.append(size))
        batch: dict[str, Any] = {"image": torch.zeros(3, 3, 32, 64)}
        module.on_train_batch_start(batch, 0)
        module.on_train_batch_start(batch, 1)  # the first batch alone is looked at
    assert seen == [(3, 32, 64), (12, 32, 64)]


class After(nn.Module):
    """A tiny network, and a function on what it returns."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network = TinyNet()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(self.network(images))


def probabilities(logits: Tensor) -> Tensor:
    return (logits.softmax(1) + (2 * logits).softmax(1)) / 2


ACTIVATED: dict[str, Callable[[], nn.Module]] = {
    **{
        f"smp {name}": lambda name=name: smp.Unet(  # type: ignore[misc]
            "resnet18", encoder_weights=None, classes=CLASSES, activation=name
        )
        for name in ("softmax2d", "sigmoid", "logsoftmax", "tanh", "argmax2d", "argmax", "clamp")
    },
    **{
        type(layer).__name__: lambda layer=layer: nn.Sequential(TinyNet(), layer)  # type: ignore[misc]
        for layer in (
            *(nn.Softmax(1), nn.Softmax2d(), nn.LogSoftmax(1), nn.Sigmoid(), nn.LogSigmoid()),
            *(nn.Tanh(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardsigmoid(), nn.Softplus()),
        )
    },
    "softmax, then resized": lambda: After(lambda t: F.interpolate(t.softmax(1), scale_factor=2.0)),
    "softmax, then cropped": lambda: After(lambda t: F.softmax(t, 1)[..., :9, :9]),
    "channels last": lambda: After(lambda t: t.movedim(1, -1).softmax(-1).movedim(-1, 1)),
    "clamped": lambda: After(lambda t: t.softmax(1).clamp(1e-6, 1 - 1e-6)),
    "log of softmax": lambda: After(lambda t: (t.softmax(1) + 1e-7).log()),
    "by hand": lambda: After(lambda t: t - t.logsumexp(1, keepdim=True)),
    "mean of two": lambda: After(probabilities),
    "without a graph": lambda: After(lambda t: t.detach().softmax(1)),
    "class by class": lambda: After(lambda t: torch.cat([c.sigmoid() for c in t.split(1, 1)], 1)),
    "frozen": lambda: nn.Sequential(TinyNet(), nn.Softmax(1)).requires_grad_(False),
}


@pytest.mark.parametrize("name", ACTIVATED)
def test_an_activation_at_the_end_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*logits.*Leave the network's last activation"):
        requirements(ACTIVATED[name]())


class Gated(nn.Module):
    """A gate and attention behind the classifier; the image is normalized in place."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNet()
        self.gate = nn.Conv2d(CLASSES, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5)
        logits = self.network(images)
        logits = logits * torch.sigmoid(self.gate(logits.mean((2, 3), keepdim=True)))
        flat = logits.flatten(2)
        attended: Tensor = (flat @ (flat.mT @ flat).softmax(-1)).view_as(logits)
        return attended


@pytest.mark.parametrize(
    "build",
    [
        Gated,
        lambda: After(lambda t: 30 * torch.tanh(t / 30)),
        lambda: After(lambda t: t.clamp(-50, 50)),
        lambda: After(lambda t: t * 0),
        lambda: nn.Sequential(TinyNet(), nn.ReLU(), nn.Conv2d(CLASSES, CLASSES, 1)),
        lambda: smp.Unet(
            "resnet18", encoder_weights=None, classes=CLASSES, decoder_attention_type="scse"
        ),
        lambda: smp.Segformer("mit_b0", encoder_weights=None, classes=CLASSES),
        hrnet,
    ],
)
def test_activations_inside_are_no_matter(build: Callable[[], nn.Module]) -> None:
    requirements(build())


def test_log_probabilities_are_for_their_loss_only() -> None:
    network = nn.Sequential(TinyNet(), nn.LogSoftmax(1))
    SegmentationModule(network, CLASSES, loss=nn.NLLLoss())
    for loss in (None, nn.CrossEntropyLoss()):
        with pytest.raises(ValueError, match="ends in log-softmax; expected logits"):
            SegmentationModule(network, CLASSES, loss=loss)
    with pytest.raises(ValueError, match="NLLLoss expects log-probabilities"):
        SegmentationModule(TinyNet(), CLASSES, loss=nn.NLLLoss())
