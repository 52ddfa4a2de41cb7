"""Classifiers' rows follow the classes' names, whatever the classifier is called."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from pne_seg.class_rows import class_tensors, rows_by_name
from pne_seg.description import IN_CHECKPOINT, DataDescription, check_same_classes, class_difference
from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from pne_seg.pretrained import read_weights
from pne_seg.pretrained.reading import classes_of_config
from pne_seg.weight_loading import Loaded, fill_network, initialize_from
from tests.methods import NETWORKS, training_module
from tests.tiny_networks import TinyNet
from tests.training import pne

HEAD = "network.segmentation_head.1"
AUXILIARY = "auxiliary.head.4"


def described(names: Sequence[str]) -> dict[str, Any]:
    palette = ((0, 0, 0),) * len(names)
    return DataDescription("Mine", tuple(names), palette, 255, None).as_dict()


def state(classes: int, **settings: Any) -> dict[str, Tensor]:
    """Row c of each classifier is 100 + c, all else 5."""
    module = SegmentationModule(TinyNet(classes), classes, **settings)
    filled = {name: torch.full_like(t, 5) for name, t in module.state_dict().items()}
    for name, tensor in filled.items():
        if name.startswith((HEAD, AUXILIARY)):
            tensor.copy_(100.0 + torch.arange(classes).view(-1, *[1] * (tensor.ndim - 1)))
    return filled


def head() -> FCNHead:
    return FCNHead(4, feature_module="decoder", stage=0)


def checkpoint(folder: Path, names: Sequence[str], **settings: Any) -> Path:
    file = folder / "last.ckpt"
    content = {"state_dict": state(len(names), **settings), IN_CHECKPOINT: described(names)}
    torch.save(content, file)
    return file


def rows(tensor: Tensor, fresh: Tensor) -> list[int | None]:
    """Class of the source that each row came from; None for a fresh row."""
    found: list[int | None] = []
    for row, before in zip(tensor, fresh, strict=True):
        found.append(None if torch.equal(row, before) else int(row.flatten()[0]) - 100)
        if found[-1] is not None:
            assert (row == row.flatten()[0]).all()
    return found


CASES: dict[str, tuple[list[str], list[int | None], str | None]] = {
    "the same": (["bg", "a", "b"], [0, 1, 2], None),
    "another order": (
        ["b", "bg", "a"],
        [2, 0, 1],
        "trained on the classes in another order; taken by name: b, bg, a",
    ),
    "fewer": (["b", "bg"], [2, 0], "trained on other classes; taken by name: b, bg; not used: a"),
    "more": (
        ["c", "a", "bg", "b"],
        [None, 1, 0, 2],
        "trained on other classes; taken by name: a, bg, b; new, with fresh weights: c",
    ),
    "as many, others": (
        ["sky", "b", "sea"],
        [None, 2, None],
        "trained on other classes; taken by name: b; new, with fresh weights: sky, sea; "
        "not used: bg, a",
    ),
    "none in common": (
        ["sky", "sea", "sand"],
        [None, None, None],
        "trained on other classes; taken by name: none; new, with fresh weights: sky, sea, sand; "
        "not used: bg, a, b",
    ),
    "another case": (
        ["BG", "a ", "b"],
        [None, None, 2],
        "trained on other classes; taken by name: b; new, with fresh weights: BG, a ; "
        "not used: bg, a",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_follow_names(case: str, tmp_path: Path) -> None:
    names, expected, said = CASES[case]
    file = checkpoint(tmp_path, ["bg", "a", "b"], auxiliary=head(), contrast=pne())
    settings: dict[str, Any] = {"class_names": names, "contrast": pne()}
    module = SegmentationModule(TinyNet(len(names)), len(names), auxiliary=head(), **settings)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    report = initialize_from(module, file)
    of_classes = [f"{layer}.{kind}" for layer in (HEAD, AUXILIARY) for kind in ("weight", "bias")]
    for name, tensor in module.state_dict().items():
        if name in of_classes:
            assert rows(tensor, before[name]) == expected, name
        else:
            assert (tensor == 5).all(), name
    assert report.classes == said
    assert report.missing == report.unused == []
    assert report.other_shape == {}
    taken = set(of_classes) if any(row is not None for row in expected) else set()
    assert {name for name in report.fitting if name in of_classes} == taken


def test_classes_without_names_are_taken_in_order(tmp_path: Path) -> None:
    file = tmp_path / "network.pth"
    torch.save(state(3), file)
    for names in (["x", "y", "z"], None):
        module = SegmentationModule(TinyNet(3), 3, class_names=names)
        before = module.state_dict()[f"{HEAD}.bias"].clone()
        report = initialize_from(module, file)
        assert rows(module.state_dict()[f"{HEAD}.bias"], before) == [0, 1, 2]
        assert report.classes == "classes have no names in the source: all 3 are taken in order"
    more = SegmentationModule(TinyNet(4), 4, class_names=["x", "y", "z", "w"])
    assert initialize_from(more, file).classes is None
    named = checkpoint(tmp_path, ["x", "y", "z"])
    numbered = SegmentationModule(TinyNet(3), 3)
    said = initialize_from(numbered, named).classes
    assert said == "classes have no names here: all 3 are taken in order"


# ---- which tensors -----------------------------------------------------------------------


class Unnamed(nn.Module):
    """Layers called nothing in particular, as wide as there are classes; a norm on the scores."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, classes, 3, padding=1), nn.BatchNorm2d(classes))
        self.two = nn.Conv2d(classes, classes, 1, bias=False)
        self.three = nn.BatchNorm2d(classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.three(self.two(self.one(images).relu()))
        return scores


class LRASPP(nn.Module):
    """torchvision's, which adds the scores of two classifiers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        build = torchvision.models.segmentation.lraspp_mobilenet_v3_large
        self.inner = build(weights=None, weights_backbone=None, num_classes=classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.inner(images)["out"]
        return scores


def test_the_classifier_is_found_by_what_it_does() -> None:
    wide = SegmentationModule(TinyNet(8, width=8), 8)
    assert class_tensors(wide, 8) == {f"{HEAD}.weight", f"{HEAD}.bias"}
    unnamed = SegmentationModule(Unnamed(4), 4)
    norm = ("weight", "bias", "running_mean", "running_var")
    expected = {"network.two.weight", *(f"network.three.{name}" for name in norm)}
    assert class_tensors(unnamed, 4) == expected
    two = SegmentationModule(LRASPP(5), 5)
    layers = {name.rpartition(".")[0] for name in class_tensors(two, 5)}
    assert layers == {f"network.inner.classifier.{side}_classifier" for side in ("low", "high")}
    limited = SegmentationModule(nn.Sequential(TinyNet(4), nn.Hardtanh(-30, 30)), 4)
    assert class_tensors(limited, 4) == {
        f"network.0.{HEAD.removeprefix('network.')}.{name}" for name in ("weight", "bias")
    }


def test_finding_it_leaves_the_module_as_it_was() -> None:
    module = SegmentationModule(TinyNet(3), 3)
    module.get_parameter("network.encoder.0.bias").requires_grad_(False)
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    class_tensors(module, 3)
    assert torch.equal(torch.rand(1), expected)
    assert all(layer.training for layer in module.modules())
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    assert frozen == ["network.encoder.0.bias"]
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


@pytest.mark.parametrize("method", NETWORKS)
def test_the_papers_methods(method: str) -> None:
    """Compared with another way to tell: what changes its shape with the number of classes."""
    one, other = training_module(method, 24).state_dict(), training_module(method, 5).state_dict()
    expected = {name for name in one if one[name].shape != other[name].shape}
    assert class_tensors(training_module(method, 24), 24) == expected


def test_rows_that_are_none() -> None:
    fresh = torch.zeros(2, 3)
    assert rows_by_name(fresh, torch.ones(3, 3), ["a", "b"], ["a", "b"]) is None
    assert rows_by_name(fresh, torch.ones(2, 4), ["a", "b"], ["b", "a"]) is None
    assert rows_by_name(fresh, torch.ones(2, 3, dtype=torch.int), ["a", "b"], ["b", "a"]) is None


# ---- who names them ----------------------------------------------------------------------


def test_names_are_read_where_files_have_them(tmp_path: Path) -> None:
    network = dict(TinyNet(2).state_dict())
    content: dict[str, Any] = {"state_dict": network}
    meta = {"dataset_meta": {"classes": ("wall", "bed ")}}
    for name, further, expected in (
        ("ours", {IN_CHECKPOINT: described(["wall", "bed "])}, ("wall", "bed ")),
        ("mmseg 1.x", {"meta": meta}, ("wall", "bed")),
        ("mmseg 0.x", {"meta": {"CLASSES": ["wall", "bed "]}}, ("wall", "bed")),
        ("numbers", {"meta": {"CLASSES": ["0", "1"]}}, ()),
        ("twice", {"meta": {"CLASSES": ["wall", "wall"]}}, ()),
        ("damaged", {IN_CHECKPOINT: {"class_names": 3}, "meta": []}, ()),
    ):
        torch.save(content | further, tmp_path / f"{name}.pth")
        assert read_weights(str(tmp_path / f"{name}.pth")).class_names == expected, name
    export = tmp_path / "model.safetensors"
    save_file(network, export, {"class_names": json.dumps(["wall", "bed"])})
    assert read_weights(str(export)).class_names == ("wall", "bed")
    save_file(network, export, {"format": "pt"})
    assert read_weights(str(export)).class_names == ()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"0": "wall", "1": "bed "}, ("wall", "bed")),
        ({"1": "bed", "0": "wall"}, ("wall", "bed")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, ()),
        ({"3": "wall", "4": "bed"}, ()),
        (None, ()),
        (["wall"], ()),
    ],
)
def test_names_of_transformers(labels: Any, expected: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": labels}))
    assert classes_of_config(tmp_path / "config.json") == expected
    (tmp_path / "config.json").write_text("[")
    assert classes_of_config(tmp_path / "config.json") == ()


# ---- weights to score --------------------------------------------------------------------


def test_weights_of_other_classes_are_refused(tmp_path: Path) -> None:
    file = str(checkpoint(tmp_path, ["bg", "a", "b"]))
    assert fill_network(TinyNet(3), file, ["bg", "a", "b"]).classes is None
    assert fill_network(TinyNet(3), file).classes is None
    network = TinyNet(3)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    with pytest.raises(UserError, match="class 1 is 'b' here, 'a' in the weights; class 2 is 'a'"):
        fill_network(network, file, ["bg", "b", "a"])
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    with pytest.raises(UserError, match="class 2 is 'c' here, 'b' in the weights"):
        fill_network(network, file, ["bg", "a", "c"])


def test_other_wording_of_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkpoint(tmp_path, ["bg", "a", "b"])
    found = read_weights(str(file))
    found.library = "mmsegmentation"
    monkeypatch.setattr("pne_seg.weight_loading.read_weights", lambda _: found)
    report: Loaded = fill_network(TinyNet(3), str(file), ["bg", "a", "bee"])
    assert report.classes == (
        "classes are taken in order, though named differently: class 2 is 'bee' here, 'b' in "
        "the weights"
    )
    with pytest.raises(UserError, match="other classes"):
        fill_network(TinyNet(3), str(file), ["bg", "b", "a"])


# ---- checkpoints -------------------------------------------------------------------------


def test_what_differs_is_said_in_short() -> None:
    assert class_difference(["a", "b"], ["a", "b"]) is None
    said = class_difference(list("abcdef"), list("bcdefa"))
    assert said is not None
    assert said.startswith("class 0 is 'a' here, 'b' in the checkpoint; class 1")
    assert said.endswith("'d' in the checkpoint; and 3 more")
    assert class_difference(["a"], ["a", "b"]) == (
        "1 classes here, 2 in the checkpoint; class 1 is missing here, 'b' in the checkpoint"
    )


def test_a_checkpoint_names_its_classes() -> None:
    content = {IN_CHECKPOINT: described(["bg", "a b", "no"])}
    check_same_classes(["bg", "a b", "no"], content, "x.ckpt")
    check_same_classes(["anything"], {}, "x.ckpt")  # an older one
    with pytest.raises(UserError) as caught:
        check_same_classes(["bg", "a_b", "no"], content, "x.ckpt")
    first, second = str(caught.value).splitlines()
    expected = "class 1 is 'a_b' here, 'a b' in the checkpoint."
    assert first == f"x.ckpt: trained on other classes: {expected}"
    assert "classes=['bg', 'a b', 'no']" in second
    with pytest.raises(UserError, match=r"x\.ckpt is damaged"):
        check_same_classes(["a"], {IN_CHECKPOINT: {"class_names": ["a"]}}, "x.ckpt")
    many = [f"a long name of class {index}" for index in range(20)]
    with pytest.raises(UserError, match=r"in its order \(those of Mine"):
        check_same_classes(many[::-1], {IN_CHECKPOINT: described(many)}, "x.ckpt")


def test_the_module_compares_without_the_command_line() -> None:
    module = SegmentationModule(TinyNet(2), 2, class_names=["a", "b"])
    content = {IN_CHECKPOINT: described(["b", "a"])}
    with pytest.raises(UserError, match="The checkpoint: trained on other classes"):
        module.on_load_checkpoint(content)
    SegmentationModule(TinyNet(2), 2).on_load_checkpoint(content)  # numbered only
