"""Other libraries' checkpoints, loaded by this project, give those libraries' own outputs."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.feature_hooks import capture
from pne_seg.module import SegmentationModule
from pne_seg.networks import DPT, FCNHead, OCRNet, UPerNet
from pne_seg.pretrained import map_names, read_weights
from pne_seg.weight_loading import fill_network, initialize_from
from tests.networks.reference import randomize
from tests.tiny_networks import TinyNet, same_tensors

SWIN = {"embed_dim": 24, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}
CONVNEXT = {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


def transformers_upernet(kind: str) -> Any:
    """A small UPerNet of transformers', its weights at random (norms and biases too)."""
    transformers = pytest.importorskip("transformers")
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    if kind == "swin":
        backbone = transformers.SwinConfig(image_size=224, window_size=7, **SWIN, **stages)
    else:
        sizes = {"hidden_sizes": CONVNEXT["dims"], "depths": CONVNEXT["depths"]}
        backbone = transformers.ConvNextConfig(**sizes, **stages)
    config = transformers.UperNetConfig(
        backbone_config=backbone,
        hidden_size=16,
        num_labels=5,
        auxiliary_channels=8,
        auxiliary_in_channels=96 if kind == "swin" else 24,  # 384 in older versions
    )
    network = transformers.UperNetForSemanticSegmentation(config).eval()
    randomize(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name or "bias" in name or "layer_scale" in name:
                parameter.uniform_(0.3, 1.2)
    return network


def ours(kind: str, classes: int = 5) -> SegmentationModule:
    """The same network of this project's."""
    encoder = {"swin": "tu-swin_tiny_patch4_window7_224", "convnext": "tu-convnext_tiny"}[kind]
    settings: Any = SWIN if kind == "swin" else CONVNEXT
    network = UPerNet(encoder, None, decoder_channels=16, classes=classes, **settings)
    auxiliary = FCNHead(channels=8, feature_module="decoder.feature_norms.2")
    return SegmentationModule(network, classes, auxiliary=auxiliary).eval()


@pytest.mark.parametrize("kind", ["swin", "convnext"])
def test_transformers(kind: str, tmp_path: Path) -> None:
    theirs = transformers_upernet(kind)
    theirs.save_pretrained(tmp_path / "saved")
    module = ours(kind)
    report = initialize_from(module, tmp_path / "saved")
    assert report.missing == []
    assert report.other_shape == {}
    assert report.unused == []
    assert report.weights.library == "transformers"
    # Swin's norm for classification, which segmentation does not use.
    assert set(report.weights.unknown) <= {
        f"backbone.{part}layernorm.{kind}" for part in ("", "swin.") for kind in ("weight", "bias")
    }
    assert module.auxiliary is not None
    images = torch.randn(2, 3, 96, 160)
    with torch.no_grad(), capture(module.auxiliary.hooks):
        expected = theirs(images)
        logits = module.network(images)
        auxiliary = module.auxiliary.logits()  # type: ignore[operator]
        features = theirs.backbone(images).feature_maps
        expected_auxiliary = theirs.auxiliary_head(features)
    found = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)
    scale = expected.logits.abs().max()
    assert (found - expected.logits).abs().max() < 1e-4 * scale
    assert (auxiliary - expected_auxiliary).abs().max() < 1e-4 * expected_auxiliary.abs().max()


def test_a_folder_that_smp_saved(tmp_path: Path) -> None:
    theirs = smp.FPN("resnet18", encoder_weights=None, classes=4).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path / "fpn")
    network = smp.FPN("resnet18", encoder_weights=None, classes=4)
    fill_network(network, str(tmp_path / "fpn"))
    assert same_tensors(network.state_dict(), theirs.state_dict())


def test_a_upernet_that_smp_saved(tmp_path: Path) -> None:
    """As on the hub under `smp-hub/upernet-*`: no auxiliary head, norms on the features."""
    flexible = {"strict_img_size": False, "always_partition": True}
    encoder = "tu-swin_tiny_patch4_window7_224"
    settings = {"decoder_channels": 16, "classes": 5, **SWIN, **flexible}
    theirs = smp.UPerNet(encoder, encoder_weights=None, **settings).eval()
    randomize(theirs)
    theirs.save_pretrained(tmp_path / "saved")
    module = ours("swin")
    report = fill_network(module.network, str(tmp_path / "saved"))
    assert report.missing == report.unused == []
    images = torch.randn(1, 3, 224, 448)  # whole windows: there smp's Swin is the published one
    with torch.no_grad():
        features = theirs.decoder(theirs.encoder(images))
        expected = theirs.segmentation_head[0](features)
        torch.testing.assert_close(module.network(images), expected)


def test_weights_of_another_form_or_number_of_classes(tmp_path: Path) -> None:
    saved = UPerNet("resnet18", None, decoder_channels=8, classes=5, feature_norms=True)
    torch.save(saved.state_dict(), tmp_path / "norms.pth")
    plain = UPerNet("resnet18", None, decoder_channels=8, classes=5)
    with pytest.raises(UserError, match="set feature_norms to true"):
        fill_network(plain, str(tmp_path / "norms.pth"))
    settings = {"decoder_channels": 16, "key_channels": 8}
    two = OCRNet("tu-hrnet_w18_small", None, classes=5, **settings)  # has two classifiers
    torch.save(two.state_dict(), tmp_path / "ocr.pth")
    with pytest.raises(UserError, match="have 5 classes, the config's data have 3"):
        fill_network(
            OCRNet("tu-hrnet_w18_small", None, classes=3, **settings), str(tmp_path / "ocr.pth")
        )


SMALL: Any = {"decoder_channels": 8, "classes": 3}
SWIN_T = "tu-swin_tiny_patch4_window7_224"
DEEPER: dict[str, tuple[Any, Any]] = {
    "Swin": (
        lambda: UPerNet(SWIN_T, None, **SMALL, **{**SWIN, "depths": [1, 2, 3, 1]}),
        lambda: UPerNet(SWIN_T, None, **SMALL, **SWIN),
    ),
    "ConvNeXt": (
        lambda: UPerNet("tu-convnext_tiny", None, **SMALL, **{**CONVNEXT, "depths": [1, 1, 3, 1]}),
        lambda: UPerNet("tu-convnext_tiny", None, **SMALL, **CONVNEXT),
    ),
    "ResNet": (
        lambda: smp.FPN("resnet34", encoder_weights=None, classes=3),
        lambda: smp.FPN("resnet18", encoder_weights=None, classes=3),
    ),
    "MiT": (
        lambda: smp.Segformer("mit_b2", encoder_weights=None, classes=3),
        lambda: smp.Segformer("mit_b1", encoder_weights=None, classes=3),
    ),
}


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name == "ResNet" else pytest.mark.slow) for name in DEEPER],
)
def test_weights_of_a_deeper_network_are_refused(family: str, tmp_path: Path) -> None:
    """All of the shallower one is there; its scores would be nobody's."""
    deep, shallow = DEEPER[family]
    torch.save(deep().state_dict(), tmp_path / "deep.pth")
    with pytest.raises(UserError, match=r"not the weights of .*\n  it also has network\.encoder"):
        fill_network(shallow(), str(tmp_path / "deep.pth"))


def test_an_encoder_s_classifier_is_no_other_network(tmp_path: Path) -> None:
    narrow: Any = {"decoder_intermediate_channels": (8, 8, 8, 8), "decoder_fusion_channels": 8}
    theirs = smp.DPT("tu-vit_tiny_patch16_224", encoder_weights=None, classes=3, **narrow)
    torch.save(theirs.state_dict(), tmp_path / "dpt.pth")  # with timm's head and last norm
    network = DPT("tu-vit_tiny_patch16_224", None, classes=3, **narrow)
    report = fill_network(network, str(tmp_path / "dpt.pth"))
    assert {name.split(".")[3] for name in report.unused} == {"head", "norm"}
    assert torch.equal(network.encoder.model.pos_embed, theirs.encoder.model.pos_embed)


def test_values_that_are_no_weights(tmp_path: Path) -> None:
    network = smp.FPN("resnet18", encoder_weights=None, classes=3)
    state = network.state_dict()
    first = state["encoder.conv1.weight"]
    for value, message in [
        (first * torch.nan, "holds values that are not finite"),
        (first.to(torch.int8), "torch.int8 .*expected torch.float32"),
        (first.to(torch.complex64), "torch.complex64"),
        (first.to_sparse(), "torch.sparse_coo"),
        (first.to("meta"), "holds torch.float32"),
    ]:
        torch.save(state | {"encoder.conv1.weight": value}, tmp_path / "odd.pth")
        with pytest.raises(UserError, match=message):
            fill_network(network, str(tmp_path / "odd.pth"))
    torch.save({key: tensor.half() for key, tensor in state.items()}, tmp_path / "half.pth")
    fill_network(network, str(tmp_path / "half.pth"))


def test_old_norms_are_told_of_when_fine_tuning(tmp_path: Path) -> None:
    old = UPerNet("resnet18", None, decoder_channels=8, classes=3, feature_norms=True)
    torch.save(old.state_dict(), tmp_path / "old.pth")
    module = SegmentationModule(UPerNet("resnet18", None, decoder_channels=8, classes=3), 3)
    said = str(initialize_from(module, tmp_path / "old.pth"))
    assert "not used of the file: network.decoder.feature_norms (8)" in said
    assert "set feature_norms to true" in said


# ---- mmsegmentation --------------------------------------------------------------------------


def mmseg_convnext() -> dict[str, Tensor]:
    """Names as in mmpretrain's `convnext.py` and mmsegmentation's heads; a value for each."""
    state: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape)
        state[f"{name}.bias"] = torch.randn(shape[0])

    def conv_module(name: str, out: int, inside: int, side: int) -> None:
        state[f"{name}.conv.weight"] = torch.randn(out, inside, side, side)
        add(f"{name}.bn", out)
        for statistic in ("running_mean", "running_var"):
            state[f"{name}.bn.{statistic}"] = torch.rand(out)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(1)

    dims, depths = CONVNEXT["dims"], CONVNEXT["depths"]
    add("backbone.downsample_layers.0.0", dims[0], 3, 4, 4)
    add("backbone.downsample_layers.0.1", dims[0])
    for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
        if stage:
            add(f"backbone.downsample_layers.{stage}.0", dims[stage - 1])
            add(f"backbone.downsample_layers.{stage}.1", dim, dims[stage - 1], 2, 2)
        for block in range(depth):
            name = f"backbone.stages.{stage}.{block}"
            state[f"{name}.gamma"] = torch.randn(dim)
            add(f"{name}.depthwise_conv", dim, 1, 7, 7)
            add(f"{name}.norm", dim)
            add(f"{name}.pointwise_conv1", 4 * dim, dim)
            add(f"{name}.pointwise_conv2", dim, 4 * dim)
        add(f"backbone.norm{stage}", dim)
    add("decode_head.conv_seg", 5, 16, 1, 1)
    for level in range(4):
        conv_module(f"decode_head.psp_modules.{level}.1", 16, dims[-1], 1)
    conv_module("decode_head.bottleneck", 16, dims[-1] + 64, 3)
    for level in range(3):
        conv_module(f"decode_head.lateral_convs.{level}", 16, dims[level], 1)
        conv_module(f"decode_head.fpn_convs.{level}", 16, 16, 3)
    conv_module("decode_head.fpn_bottleneck", 16, 64, 3)
    conv_module("auxiliary_head.convs.0", 8, dims[2], 3)
    add("auxiliary_head.conv_seg", 5, 8, 1, 1)
    return state


def test_mmsegmentations_convnext_fits_name_by_name(tmp_path: Path) -> None:
    """No output of theirs is at hand: names and shapes, and the places where shapes are alike."""
    state = mmseg_convnext()
    torch.save({"state_dict": state}, tmp_path / "convnext.pth")
    module = ours("convnext")
    report = initialize_from(module, tmp_path / "convnext.pth")
    assert report.missing == report.unused == []
    assert report.other_shape == {}
    assert report.weights.unknown == []
    found = module.state_dict()
    encoder, decoder = "network.encoder.model", "network.decoder"
    for theirs, name in {
        "backbone.stages.2.1.gamma": f"{encoder}.stages_2.blocks.1.gamma",
        "backbone.stages.2.0.norm.weight": f"{encoder}.stages_2.blocks.0.norm.weight",
        "backbone.downsample_layers.0.1.bias": f"{encoder}.stem_1.bias",
        "backbone.downsample_layers.2.0.weight": f"{encoder}.stages_2.downsample.0.weight",
        "backbone.norm1.weight": f"{decoder}.feature_norms.1.weight",
        "decode_head.fpn_convs.0.conv.weight": f"{decoder}.fpn_conv_blocks.2.0.weight",
        "decode_head.fpn_convs.2.bn.bias": f"{decoder}.fpn_conv_blocks.0.1.bias",
        "decode_head.psp_modules.1.1.bn.weight": f"{decoder}.psp.blocks.1.1.1.weight",
    }.items():
        assert torch.equal(found[name], state[theirs]), name


def test_moving_averages(tmp_path: Path) -> None:
    state = mmseg_convnext()
    learned = [key for key, t in state.items() if t.is_floating_point() and "running" not in key]
    # mmcv keeps the average of an iteration-based training beside the last weights …
    average = {f"ema_{key.replace('.', '_')}": state[key] + 1 for key in learned}
    torch.save({"state_dict": state | average}, tmp_path / "mmcv.pth")
    weights = read_weights(str(tmp_path / "mmcv.pth"))
    plain = map_names(state).tensors
    assert weights.averaged
    assert weights.tensors.keys() == plain.keys()
    for name, tensor in plain.items():
        statistic = "running" in name or "tracked" in name
        assert torch.equal(weights.tensors[name], tensor if statistic else tensor + 1), name
    assert "moving average" in str(initialize_from(ours("convnext"), tmp_path / "mmcv.pth"))
    # … of which all has to be there …
    name = next(iter(average))
    torch.save({"state_dict": state | {name: average[name]}}, tmp_path / "part.pth")
    weights = read_weights(str(tmp_path / "part.pth"))
    assert not weights.averaged
    assert same_tensors(weights.tensors, plain)
    # … and mmengine saves the average as the weights, the last ones as `ema_state_dict`.
    raw = {f"module.{key}": tensor + 2 for key, tensor in state.items()}
    torch.save({"ema_state_dict": raw, "state_dict": state}, tmp_path / "mmengine.pth")
    weights = read_weights(str(tmp_path / "mmengine.pth"))
    assert not weights.averaged
    assert same_tensors(weights.tensors, plain)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod."])
def test_prefixes_and_wrappers_of_other_programs(prefix: str, tmp_path: Path) -> None:
    network = TinyNet()
    state = OrderedDict((prefix + key, t) for key, t in network.state_dict().items())
    file = tmp_path / "weights.pth"
    for key in ("state_dict", "model", "model_state_dict", "net", "network", None):
        torch.save({key: state, "epoch": 3} if key else state, file)
        again = TinyNet()
        fill_network(again, str(file))
        assert same_tensors(again.state_dict(), network.state_dict()), key


def test_patch_merging_in_the_order_of_unfold() -> None:
    """mmsegmentation unfolds 2×2 patches channel by channel; timm lists columns of rows."""
    channels = 3
    image = torch.randn(1, channels, 4, 6, dtype=torch.float64)
    weight = torch.randn(5, 4 * channels, dtype=torch.float64)
    theirs = nn.functional.unfold(image, 2, stride=2).transpose(1, 2) @ weight.T
    keys = {
        "backbone.stages.0.blocks.0.attn.w_msa.proj.bias": torch.zeros(1),
        "backbone.stages.0.downsample.reduction.weight": weight,
        "decode_head.conv_seg.bias": torch.zeros(1),
    }
    mapped = map_names(keys).tensors["network.encoder.model.layers_1.downsample.reduction.weight"]
    x = image.permute(0, 2, 3, 1)
    patches = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
    torch.testing.assert_close((patches @ mapped.T).flatten(1, 2), theirs)


def test_other_heads_on_known_backbones_are_not_taken_for_known_ones() -> None:
    keys = {
        "backbone.layer4.0.conv1.weight": torch.zeros(1),
        "decode_head.sem_conv.weight": torch.zeros(1),
    }
    mapped = map_names(keys)
    assert mapped.unknown == ["decode_head.sem_conv.weight"]
    assert list(mapped.tensors) == ["network.encoder.model.layer4.0.conv1.weight"]
