"""The catalogue is true: what it says goes together does, with the numbers it gives."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from pne_seg.contrast.component import PNE
from pne_seg.module import SegmentationModule
from pne_seg.networks import DeepLabV3, FCNHead, HRNetV2, OCRNet, UPerNet
from pne_seg.networks.catalogue import ENCODERS, METHODS, Fit, Misfit, check_encoder, describe
from tests.cli.commands import REPOSITORY
from tests.networks import published

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
R101, W18, W48 = "tu-resnet101c.gluon_in1k", "tu-hrnet_w18.ms_in1k", "tu-hrnet_w48.ms_in1k"
SWIN_T, SWIN_S, SWIN_B = (
    f"{published.SWIN.format(size)}.ms_in1k" for size in ("tiny", "small", "base")
)
BY_NAME = {method.name: method for method in METHODS}


@functools.cache
def record(method: str, encoder: str, classes: int) -> Fit | Misfit:
    """The catalogue's record, made once for all tests."""
    return describe(BY_NAME[method], encoder, classes)


def fit(method: str, encoder: str, classes: int = 150) -> Fit:
    """The record of a pair that must go together."""
    found = record(method, encoder, classes)
    assert isinstance(found, Fit), found.reason
    return found


def test_the_papers_encoders() -> None:
    assert set(ENCODERS) == {R101, W18, W48, SWIN_T, SWIN_S, SWIN_B}
    for encoder in ENCODERS:
        check_encoder(encoder)


# Swin-S and HRNet-W18 come further below: they differ from these by their size alone.
@pytest.mark.parametrize("encoder", [R101, W48, SWIN_T, SWIN_B])
@pytest.mark.parametrize("method", BY_NAME)
def test_what_goes_together(method: str, encoder: str) -> None:
    found = record(method, encoder, 150)
    assert (found.method.name, found.encoder) == (method, encoder)
    assert isinstance(found, Misfit if method == "DeepLabV3" and encoder != R101 else Fit)


@pytest.mark.parametrize(
    ("method", "encoder", "counts"),
    [
        ("HRNetV2", W48, published.HRNETV2_W48),
        ("HRNetV2", W18, published.HRNETV2_W18),
        ("OCRNet", W48, published.OCRNET_W48),
        ("OCRNet", W18, published.OCRNET_W18),
        ("UPerNet", SWIN_T, published.UPERNET_SWIN_T),
        ("UPerNet", SWIN_S, published.UPERNET_SWIN_S),
        ("UPerNet", SWIN_B, published.UPERNET_SWIN_B),
        ("DeepLabV3", R101, published.DEEPLABV3_R101),
    ],
)
def test_published_counts(
    method: str,
    encoder: str,
    counts: tuple[int, ...],
) -> None:
    assert fit(method, encoder).parameters == counts[published.CLASSES.index(150)]


@pytest.mark.parametrize(
    ("method", "encoder", "counts"),
    [
        ("UPerNet", SWIN_T, published.UPERNET_SWIN_T_AUXILIARY),
        ("UPerNet", SWIN_S, published.UPERNET_SWIN_S_AUXILIARY),
        ("UPerNet", SWIN_B, published.UPERNET_SWIN_B_AUXILIARY),
        ("DeepLabV3", R101, published.DEEPLABV3_R101_AUXILIARY),
    ],
)
def test_published_counts_with_the_auxiliary_head(
    method: str,
    encoder: str,
    counts: tuple[int, ...],
) -> None:
    found = fit(method, encoder)
    both = found.parameters + found.auxiliary_parameters
    assert both == counts[published.CLASSES.index(150)]


@pytest.mark.parametrize(
    ("method", "encoder", "channels", "stride", "divisor", "output"),
    [
        ("DeepLabV3", R101, 512, 8, 8, 1),
        ("HRNetV2", W48, 48 + 96 + 192 + 384, 4, 32, 1),
        ("HRNetV2", W18, 18 + 36 + 72 + 144, 4, 32, 1),
        ("HRNetV2", R101, 256 + 512 + 1024 + 2048, 4, 32, 1),
        ("HRNetV2", SWIN_B, 128 + 256 + 512 + 1024, 4, 32, 1),
        ("OCRNet", W48, 512, 4, 32, 1),
        ("OCRNet", R101, 512, 8, 8, 1),
        ("OCRNet", SWIN_B, 512, 4, 32, 1),
        ("UPerNet", W48, 512, 4, 32, 4),
        ("UPerNet", R101, 512, 4, 32, 4),
        ("UPerNet", SWIN_B, 512, 4, 32, 4),
    ],
)
def test_features_and_strides(
    method: str,
    encoder: str,
    channels: int,
    stride: int,
    divisor: int,
    output: int,
) -> None:
    found = fit(method, encoder)
    assert (found.feature_channels, found.feature_stride) == (channels, stride)
    assert (found.divisor, found.smallest, found.output_stride) == (divisor, 64, output)


RESNET, HRNET = "tu-resnet10t", "tu-hrnet_w18_small"
SMALL: dict[tuple[str, str], Callable[[], nn.Module]] = {
    ("DeepLabV3", RESNET): lambda: DeepLabV3(RESNET, None, classes=5),
    ("DeepLabV3", "resnet18"): lambda: DeepLabV3("resnet18", None, classes=5),
    ("HRNetV2", RESNET): lambda: HRNetV2(RESNET, None, classes=5),
    ("HRNetV2", HRNET): lambda: HRNetV2(HRNET, None, classes=5),
    ("HRNetV2", "mit_b0"): lambda: HRNetV2("mit_b0", None, classes=5),
    ("OCRNet", RESNET): lambda: OCRNet(RESNET, None, 8, classes=5),
    ("OCRNet", HRNET): lambda: OCRNet(HRNET, None, classes=5),
    ("UPerNet", HRNET): lambda: UPerNet(HRNET, None, classes=5),
    ("UPerNet", SWIN_T): lambda: UPerNet(SWIN_T, None, classes=5),
}


@pytest.mark.parametrize(("method", "encoder"), SMALL)
def test_a_network_with_weights_is_what_its_record_says(method: str, encoder: str) -> None:
    """Built by hand, and counted by hooks instead of the catalogue's."""
    found = fit(method, encoder, 5)
    network = SMALL[method, encoder]()
    features: list[Tensor] = []
    head = network.segmentation_head
    assert isinstance(head, nn.Sequential)
    head[0].register_forward_pre_hook(lambda _, args: features.append(args[0]))
    height, width = 96, 64
    with torch.no_grad():
        scores = network.eval()(torch.rand(1, 3, height, width))

    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    channels, rows, columns = features[0].shape[1:]
    assert found.feature_channels == channels
    assert (rows * found.feature_stride, columns * found.feature_stride) == (height, width)
    assert scores.shape[1] == 5
    assert tuple(side * found.output_stride for side in scores.shape[2:]) == (height, width)
    with pytest.raises(RuntimeError, match=f"divisible by {found.divisor}"):
        network(torch.rand(1, 3, height + found.divisor // 2, width))


@pytest.mark.parametrize("method", BY_NAME)
def test_the_parts_of_the_training_module_have_the_recorded_sizes(method: str) -> None:
    encoder = HRNET if method in ("HRNetV2", "OCRNet") else RESNET
    found = fit(method, encoder, 5)
    auxiliary = FCNHead() if found.auxiliary_parameters else None
    network = found.method.build(encoder, 5)
    module = SegmentationModule(network, 5, contrast=PNE(), auxiliary=auxiliary)
    parts = [module.network] + ([auxiliary] if auxiliary else [])
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert sum(counts) == found.parameters + found.auxiliary_parameters
    assert module.contrast is not None
    assert module.contrast.projection is not None
    assert module.contrast.projection[0].in_channels == found.feature_channels
    assert module.preprocessing.stride == found.divisor


def test_describing_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    assert isinstance(describe(BY_NAME["UPerNet"], RESNET, 7), Fit)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("encoder", [W18, W48, SWIN_T, SWIN_S, SWIN_B, "tu-pvt_v2_b0", "vgg11"])
def test_what_does_not_go_together_cannot_be_built(encoder: str) -> None:
    found = record("DeepLabV3", encoder, 150)
    assert isinstance(found, Misfit)
    assert found.reason == "the encoder cannot be dilated to output stride 8"
    with torch.device("meta"), pytest.raises(ValueError, match="cannot be built at output stride"):
        DeepLabV3(encoder, None, classes=5)


def test_a_reason_is_one_line() -> None:
    found = record("UPerNet", "tu-vit_tiny_patch16_224", 150)
    assert isinstance(found, Misfit)
    assert 0 < len(found.reason) <= 160
    assert "\n" not in found.reason


def test_a_transformer_of_few_sizes_is_marked() -> None:
    found = fit("HRNetV2", "tu-maxvit_tiny_tf_224")
    assert found.smallest == 224
    assert found.feature_stride == 4


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet19", "resnet18"),
        ("tu-hrnet_w488", "tu-hrnet_w48"),
        ("swin_tiny_patch4_window7_224", "tu-swin_tiny_patch4_window7_224"),
        ("tu-resnet50.a1_in2k", "tu-resnet50.a1_in1k"),
        ("", None),
        ("tu-", None),
    ],
)
def test_an_unknown_encoder(name: str, near: str | None) -> None:
    with pytest.raises(ValueError, match="no encoder of that name") as caught:
        describe(BY_NAME["UPerNet"], name, 5)
    assert ("The nearest is" in str(caught.value)) is (near is not None)
    assert near is None or str(caught.value).endswith(f"The nearest is {near}.")


@pytest.mark.parametrize(
    "name", ["resnet18", "timm-efficientnet-b0", "tu-resnet50", "tu-resnet50.a1_in1k"]
)
def test_a_known_encoder(name: str) -> None:
    check_encoder(name)


def _networks_of_configs() -> dict[tuple[str, str], dict[str, Any]]:
    """The networks of the shipped configs, by class path and encoder."""
    found = {}
    for path in CONFIGS:
        network = yaml.safe_load(path.read_text())["model"]["network"]
        if network["class_path"] not in {method.class_path for method in METHODS}:
            continue  # none of the paper's methods, or a small network of the first steps
        found[network["class_path"], network["init_args"]["encoder_name"]] = network
    return found


SHIPPED = _networks_of_configs()


def test_configs_are_found() -> None:
    assert len(SHIPPED) >= 6


@pytest.mark.parametrize(("class_path", "encoder"), SHIPPED)
def test_shipped_configs_name_pairs_that_go_together(class_path: str, encoder: str) -> None:
    methods = {method.class_path: method.name for method in METHODS}
    found = fit(methods[class_path], encoder)
    network = SHIPPED[class_path, encoder]
    of_training = ("encoder_weights", "drop_path_rate")
    given = {key: value for key, value in network["init_args"].items() if key not in of_training}
    assert given == found.method.init_args(encoder)
