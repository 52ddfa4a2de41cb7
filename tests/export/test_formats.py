"""Every file of an export gives the network's scores, at sizes and batches that it never saw."""

import io
import json
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from timm.models import swin_transformer, swin_transformer_v2

from pne_seg import networks
from pne_seg.errors import UserError
from pne_seg.export.writer import Exported, export
from pne_seg.exported import FILES, read_export
from pne_seg.inference import Preprocessing, network_stride
from pne_seg.networks.encoders import pad_before_shift
from pne_seg.trained import Trained
from tests.allowed import TESTS, load_trained
from tests.export.trained import MEAN, STD, description, pixels, plain_scores, run_onnx, trained
from tests.methods import NETWORKS
from tests.tiny_networks import same_tensors

CLASSES = 5

NETWORKS_TO_EXPORT: dict[str, Callable[[int], Any]] = {
    "deeplabv3": NETWORKS["deeplabv3"],
    "upernet_resnet": NETWORKS["upernet_resnet"],
    "hrnetv2_resnet": lambda classes: networks.HRNetV2(
        "tu-resnet10t", None, decoder_channels=8, classes=classes
    ),
    "ocrnet_resnet": lambda classes: networks.OCRNet(
        *["tu-resnet10t", None, 8], decoder_channels=16, key_channels=8, classes=classes
    ),
    "hrnetv2": NETWORKS["hrnetv2"],
    "ocrnet": NETWORKS["ocrnet"],
    "upernet_swin": NETWORKS["upernet_swin"],
    "upernet_hrnet": lambda classes: networks.UPerNet(
        "tu-hrnet_w18_small", None, decoder_channels=16, classes=classes
    ),
    "smp.Unet": lambda classes: smp.Unet("resnet18", encoder_weights=None, classes=classes),
    "smp.FPN": lambda classes: smp.FPN("resnet18", encoder_weights=None, classes=classes),
    "smp.DeepLabV3Plus": lambda classes: smp.DeepLabV3Plus(
        "resnet18", encoder_weights=None, classes=classes
    ),
    "torchvision": lambda classes: networks.TorchvisionNetwork(
        "deeplabv3_mobilenet_v3_large", None, classes
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS_TO_EXPORT)
def test_all_formats_agree_with_the_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NETWORKS_TO_EXPORT[name](CLASSES)
    given = trained(network, CLASSES, tmp_path)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    layers = [type(layer) for layer in network.modules()]
    folder = tmp_path / "out"
    done = export(given, folder)

    assert [*done.formats] == ["safetensors", "onnx", "torch"]
    assert {written.size for written in done.formats.values()} == {None}  # any size
    assert {written.reason for written in done.formats.values()} == {None}
    assert same_tensors(network.state_dict(), before)
    assert [type(layer) for layer in network.modules()] == layers
    _check_folder(folder, done)
    program = torch.export.load(folder / "model.pt2").module()
    weights, content = read_export(folder, TESTS)
    stride = network_stride(network)
    assert content["stride"] == stride
    odd = 1 if stride == 1 else stride
    for images in (pixels(1, 3, 64 + odd, 96), pixels(3, 3, 192, 128 + odd)):
        expected = plain_scores(network, images)
        assert 0.01 < expected.abs().max() < 20  # what 1e-4 is measured by
        with torch.no_grad():
            torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(plain_scores(weights, images), expected, rtol=0, atol=1e-6)
        found = run_onnx(folder / "model.onnx", images)
        assert np.abs(found - expected.numpy()).max() < 1e-4


class SwinStage(torch.nn.Module):
    """Patches, a block with and one without shifted windows, a merging, a classifier."""

    requires_divisible_input_shape = False

    def __init__(self, stage: Any, merging: Any) -> None:
        super().__init__()
        settings: dict[str, Any] = {"dim": 8, "out_dim": 8, "input_resolution": (16, 16)}
        windows: dict[str, Any] = {"num_heads": 2, "always_partition": True, "dynamic_mask": True}
        self.patches = torch.nn.Conv2d(3, 8, 4, 4)
        self.stage = stage(depth=2, downsample=False, window_size=7, **settings, **windows)
        pad_before_shift(self.stage)
        self.merging = merging(8)
        self.classifier = torch.nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.merging(self.stage(self.patches(images).permute(0, 2, 3, 1)))
        scores: torch.Tensor = self.classifier(tokens).permute(0, 3, 1, 2)
        return scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "merging"),
    [
        (swin_transformer.SwinTransformerStage, swin_transformer.PatchMerging),
        (swin_transformer_v2.SwinTransformerV2Stage, swin_transformer_v2.PatchMerging),
    ],
)
def test_swins_windows(stage: Any, merging: Any, tmp_path: Path) -> None:
    """The layers of Swin only, of which a whole network takes a minute."""
    network = SwinStage(stage, merging)
    preprocessing = Preprocessing(MEAN, STD, 8)
    given = trained(network, CLASSES, tmp_path, preprocessing=preprocessing)
    done = export(given, tmp_path / "out", ["onnx", "torch"])
    assert {format: written.size for format, written in done.formats.items()} == {
        "onnx": None,
        "torch": None,
    }
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for images in (pixels(1, 3, 64, 224), pixels(3, 3, 136, 72)):
        expected = plain_scores(network, images)
        with torch.no_grad():
            torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-4)
        found = run_onnx(tmp_path / "out" / "model.onnx", images)
        assert np.abs(found - expected.numpy()).max() < 1e-4


def _check_folder(folder: Path, done: Exported) -> None:
    """Descriptions inside the files, and nothing that would be unpickled."""
    assert {path.name for path in folder.iterdir()} == {*FILES} - {"preview.png", "README.new.md"}
    assert done.files == {path.name: path.stat().st_size for path in folder.iterdir()}
    for path in folder.iterdir():
        no_pickle(path.read_bytes(), path.name)

    import onnx
    from safetensors import safe_open

    extra = {"segmentation.json": ""}
    torch.export.load(folder / "model.pt2", extra_files=extra)
    model = onnx.load(folder / "model.onnx")
    inside = {entry.key: entry.value for entry in model.metadata_props}
    sides = [dimension.dim_param for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "", "height", "width"]
    with safe_open(folder / "model.safetensors", "pt") as opened:
        header = opened.metadata()
    data = description(CLASSES)
    for found in (json.loads(extra["segmentation.json"]), inside, header):
        assert json.loads(found["class_names"]) == [*data.class_names]
        assert json.loads(found["palette"]) == [[*color] for color in data.palette]
        assert json.loads(found["mean"]) == [*MEAN]
        assert json.loads(found["std"]) == [*STD]
        assert (
            int(found["stride"]) == json.loads((folder / "segmentation.json").read_text())["stride"]
        )
    assert "0-255" in inside["input"]


def no_pickle(content: bytes, name: str) -> None:
    """Nothing in a file, nor in an archive in it, is a whole pickle."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                assert not member.endswith((".pkl", ".pickle"))
                inner = archive.read(member)
                assert not inner.startswith(b"PK\x03\x04"), f"{name}: {member}"
                no_pickle(inner, f"{name}: {member}")
        return
    try:
        operations = list(pickletools.genops(content)) if content[:1] == b"\x80" else []
    except Exception:
        return  # weights that begin so by chance
    assert not operations, name


def test_the_search_for_pickles_finds_them(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt2", "w") as archive:
        archive.write(tmp_path / "a.pt", "data/sample_inputs/model.pt")
    for name in ("a.pt", "b.pt2"):
        with pytest.raises(AssertionError):
            no_pickle((tmp_path / name).read_bytes(), name)


class OneSize(torch.nn.Module):
    """Takes only 64×96 pixels, as transformers with fixed positions do."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.positions = torch.nn.Parameter(torch.randn(1, 3, 64, 96))
        self.classifier = torch.nn.Conv2d(3, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (64, 96):
            raise ValueError("I take 64×96 alone.")
        scores: torch.Tensor = self.classifier(images + self.positions)
        return scores


def test_a_network_of_one_size_is_held_to_it_and_says_so(tmp_path: Path) -> None:
    network = OneSize().eval()
    slot = {"class_path": "tests.export.test_formats.OneSize", "init_args": {}}
    given = trained_without_settling(network, tmp_path, slot)
    folder = tmp_path / "out"
    done = export(given, folder)
    assert done.formats["onnx"].size == done.formats["torch"].size == (64, 96)
    assert "64×96 alone" in str(done.formats["torch"].reason)
    content = json.loads((folder / "segmentation.json").read_text())
    for name in ("model.onnx", "model.pt2"):
        assert content["files"][name]["size"] == [64, 96]
        assert content["files"][name]["fixed_because"]
    assert "64×96 pixels (height×width), that size only" in (folder / "README.md").read_text()
    images = pixels(3, 3, 64, 96)
    expected = plain_scores(network, images)
    found = run_onnx(folder / "model.onnx", images)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4)
    # Sizes that it does not take.
    with pytest.raises(UserError, match=r"traced at 32×32 pixels: I take 64×96 alone.*\n.*size="):
        export(given, tmp_path / "other", ["torch"], size=(32, 32))
    # Its class and settings come back from the export.
    again = load_trained(folder)
    assert type(again.network) is OneSize
    assert same_tensors(again.network.state_dict(), network.state_dict())


def trained_without_settling(network: torch.nn.Module, folder: Path, slot: Any) -> Any:
    return Trained(
        network=network,
        preprocessing=Preprocessing(MEAN, STD),
        data=description(CLASSES, base=(96, 64)),
        path=folder / "best.ckpt",
        slot=slot,
    )


@pytest.mark.slow
def test_sides_of_more_than_the_stride(tmp_path: Path) -> None:
    """smp's Unet takes any side, but by cases; a graph of it takes those that halve evenly."""
    network = smp.Unet(
        *["tu-resnet10t", 3, None], decoder_channels=(8, 8, 8), decoder_use_norm=False, classes=2
    )
    given = trained(network, 2, tmp_path)
    folder = tmp_path / "out"
    done = export(given, folder, ["torch"])
    assert given.preprocessing.stride == 1
    assert [*done.formats] == ["torch"]
    assert done.formats["torch"].size is None
    assert done.formats["torch"].multiple == 32
    note = json.loads((folder / "segmentation.json").read_text())["files"]["model.pt2"]
    assert note["multiple_of"] == 32
    assert "both sides divisible by 32, 64 pixels or more" in note["input"]
    assert "64 pixels or more and divisible by 32" in (folder / "README.md").read_text()
    program = torch.export.load(folder / "model.pt2").module()
    images = pixels(1, 3, 96, 160)
    torch.testing.assert_close(program(images), plain_scores(network, images), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_size_that_is_asked_for(tmp_path: Path) -> None:
    network = NETWORKS["upernet_resnet"](CLASSES)
    given = trained(network, CLASSES, tmp_path)
    done = export(given, tmp_path / "out", ["torch"], size=(96, 160))
    assert [*done.formats] == ["torch"]
    assert done.formats["torch"].size == (96, 160)
    assert done.formats["torch"].reason is None
    with pytest.raises(UserError, match=r"size \[65, 96\]: .*32.*\[96, 96\]"):
        export(given, tmp_path / "out", ["torch"], size=(65, 96))
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    images = pixels(3, 3, 96, 160)
    torch.testing.assert_close(program(images), plain_scores(network, images), rtol=0, atol=1e-4)
