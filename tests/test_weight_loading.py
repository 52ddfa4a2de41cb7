"""`initialize_from`: what fits is loaded bit for bit, the rest stays fresh, and all is told."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.module import SegmentationModule
from pne_seg.networks import FCNHead
from pne_seg.weight_loading import initialize_from
from tests.networks.reference import randomize
from tests.tiny_networks import TinyNet, same_tensors
from tests.training import Pictures, pne, trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*number of training batches"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

CLASSIFIER = ["network.segmentation_head.1.weight", "network.segmentation_head.1.bias"]


class Alike(TinyNet):
    """A network that holds its layers in `network`, so that prefixes could be mistaken."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 3, 1))


def fresh(classes: int = 5, **settings: Any) -> SegmentationModule:
    """The same weights each time."""
    torch.manual_seed(21)
    return SegmentationModule(TinyNet(classes), classes, **settings)


def source(classes: int = 3) -> TinyNet:
    """Weights and statistics unlike any fresh network's."""
    torch.manual_seed(4)
    network = TinyNet(classes)
    randomize(network)
    for _ in range(3):
        network(torch.randn(2, 3, 8, 8))
    return network


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def assert_taken_over(
    module: SegmentationModule, theirs: dict[str, Tensor], untouched: list[str]
) -> None:
    """All of the network is the file's, save `untouched`, which is as built."""
    reference = fresh().state_dict()
    for name, tensor in module.state_dict().items():
        if not name.startswith("network.") or name in untouched:
            assert torch.equal(tensor, reference[name]), name
        else:
            assert torch.equal(tensor, theirs[name.removeprefix("network.")]), name
            assert not torch.equal(tensor, reference[name]), name


def save_bare(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "network.pth")
    return folder / "network.pth"


def save_safe(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "network.safetensors")
    return folder / "network.safetensors"


def save_nested(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, folder / "nested.pt")
    return folder / "nested.pt"


def save_prefixed(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({f"network.{name}": tensor for name, tensor in state.items()}, folder / "module.pt")
    return folder / "module.pt"


@pytest.mark.parametrize("save", [save_bare, save_safe, save_nested, save_prefixed])
def test_a_network_with_other_classes(
    save: Callable[[dict[str, Tensor], Path], Path], tmp_path: Path
) -> None:
    theirs = source().state_dict()
    file = save(theirs, tmp_path)
    before = digest(file)
    module = fresh()
    report = initialize_from(module, str(file))
    assert_taken_over(module, theirs, untouched=CLASSIFIER)
    assert report.source == str(file)
    assert report.weights.library == ""
    assert list(report.fitting) == [
        name
        for name in module.state_dict()
        if name.startswith("network.") and name not in CLASSIFIER
    ]
    assert report.other_shape == {
        CLASSIFIER[0]: ((3, 8, 1, 1), (5, 8, 1, 1)),
        CLASSIFIER[1]: ((3,), (5,)),
    }
    assert report.missing == report.unused == []
    assert str(report).splitlines() == [
        f"Weights from {file}: 14 tensors loaded.",
        f"  skipped for its shape: {CLASSIFIER[0]}, (3, 8, 1, 1) in the file, (5, 8, 1, 1) here",
        f"  skipped for its shape: {CLASSIFIER[1]}, (3,) in the file, (5,) here",
    ]
    assert digest(file) == before


def test_a_run_of_other_classes_and_terms(tmp_path: Path) -> None:
    """From a run with contrast, of 3 classes, into one with an auxiliary head, of 5."""
    trained = SegmentationModule(source(), 3, contrast=pne())
    once = trainer(max_steps=2)
    once.fit(trained, Pictures().loader(2))
    file = tmp_path / "last.ckpt"
    once.save_checkpoint(file)
    before = digest(file)

    torch.manual_seed(21)
    reference = SegmentationModule(TinyNet(5), 5, auxiliary=FCNHead(4, feature_module="decoder"))
    torch.manual_seed(21)
    module = SegmentationModule(TinyNet(5), 5, auxiliary=FCNHead(4, feature_module="decoder"))
    assert same_tensors(module.state_dict(), reference.state_dict())
    report = initialize_from(module, file)
    theirs = trained.state_dict()
    for name, tensor in module.state_dict().items():
        taken = name in theirs and name not in CLASSIFIER
        expected = theirs if taken else reference.state_dict()
        assert torch.equal(tensor, expected[name]), name
    assert list(report.other_shape) == CLASSIFIER
    assert report.missing == [n for n in module.state_dict() if n.startswith("auxiliary.head.")]
    assert report.unused == [n for n in trained.state_dict() if n.startswith("contrast.")]
    assert str(report).splitlines()[3:] == [
        "  not in the file, fresh weights: auxiliary.head.0 (1), auxiliary.head.1 (5), "
        "auxiliary.head.4 (2)",
        "  not used of the file: contrast.projection.0 (1), contrast.projection.1 (5), "
        "contrast.projection.3 (2)",
    ]
    assert digest(file) == before


def test_gaps_and_surplus_are_told(tmp_path: Path) -> None:
    theirs = source(5).state_dict()
    del theirs["decoder.0.bias"]
    theirs["neck.conv.weight"] = torch.ones(2)
    report = initialize_from(module := fresh(), save_bare(theirs, tmp_path))
    assert report.missing == ["network.decoder.0.bias"]
    assert report.unused == ["network.neck.conv.weight"]
    assert_taken_over(module, theirs, untouched=["network.decoder.0.bias"])


def test_a_network_that_holds_a_network(tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = Alike().state_dict()
    torch.manual_seed(5)
    module = SegmentationModule(Alike(), 3)
    report = initialize_from(module, save_bare(theirs, tmp_path))
    assert report.missing == report.unused == []
    assert same_tensors(module.network.state_dict(), theirs)


def test_a_long_report_is_cut(tmp_path: Path) -> None:
    """A wider network of the same names: one tensor fits."""
    theirs = {
        name: torch.cat([t, t]) if t.ndim else t for name, t in source(5).state_dict().items()
    }
    theirs["encoder.0.bias"] = torch.full((8,), 3.0)
    module = fresh()
    lines = str(initialize_from(module, save_bare(theirs, tmp_path))).splitlines()
    assert lines[0].endswith("3 tensors loaded.")  # with the two norms' counters
    assert len(lines) == 10
    assert lines[-1] == "  and 5 more: network.decoder.1 (3), network.segmentation_head.1 (2)"
    assert module.network.get_parameter("encoder.0.bias").tolist() == [3.0] * 8


class RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def unreadable(folder: Path) -> dict[str, str]:
    """File name → what the refusal says of it."""
    state = source(5).state_dict()
    whole = save_bare(state, folder).read_bytes()
    (folder / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "cut.safetensors").write_bytes(save_safe(state, folder).read_bytes()[:200])
    (folder / "notes.pth").write_text("learning rates to try\n" * 20)
    (folder / "empty.pth").write_bytes(b"")
    torch.save({"state_dict": state, "extra": RunsCode(folder / "ran")}, folder / "code.ckpt")
    torch.save(source(), folder / "module.pt")
    torch.save({"epoch": 3}, folder / "numbers.pth")
    torch.save([torch.ones(2)], folder / "list.pth")
    torch.save({"state_dict": {}}, folder / "nothing.ckpt")
    torch.save({"backbone.weight": torch.ones(2)}, folder / "other.pth")
    counters = {name: t for name, t in state.items() if name.endswith("tracked")}
    torch.save(counters, folder / "counters.pth")
    (folder / "page.pth").write_text("<!DOCTYPE html><html>Log in</html>")
    (folder / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    closed = "not opened, because it holds more than tensors and plain values, which could run code"
    return {
        "absent.ckpt": "no such file",
        "cut.ckpt": "cut short after .* bytes",
        "cut.safetensors": "cannot be read as safetensors .* cut short or damaged",
        "notes.pth": "neither safetensors nor a file that torch.save wrote",
        "empty.pth": "is empty",
        "page.pth": "a web page, not weights",
        "pointer.pth": "a Git LFS pointer",
        "code.ckpt": f"{closed}: (posix|nt).mkdir",
        "module.pt": rf"{closed}: tests\.tiny_networks\.TinyNet, .* and \d more.\n.*\n.*torch.save",
        "numbers.pth": "holds no weights",
        "list.pth": "holds no weights",
        "nothing.ckpt": "holds no weights",
        "other.pth": r"nothing in it fits .*\n.*backbone\.weight.*network\.encoder\.0\.weight",
        "counters.pth": "nothing in it fits",
    }


def test_a_file_that_does_not_serve_is_refused_in_few_lines(tmp_path: Path) -> None:
    module = fresh()
    for name, message in unreadable(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            initialize_from(module, tmp_path / name)
        text = str(caught.value)
        assert text.startswith(f"{tmp_path / name}: "), name
        assert len(text) < 480 + len(str(tmp_path)), name
        assert text.count("\n") < 6, name
        assert "weights_only" not in text, name  # torch's advice to turn the guard off
    assert not (tmp_path / "ran").exists()
    assert same_tensors(module.state_dict(), fresh().state_dict())


def test_the_module_starts_from_the_file_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = source().state_dict()
    file = save_bare(theirs, tmp_path)
    with caplog.at_level(logging.INFO):
        module = fresh(init_from=str(file))
    assert_taken_over(module, theirs, untouched=CLASSIFIER)
    assert f"Weights from {file}: 14 tensors loaded." in caplog.text
    assert "(3,) in the file, (5,) here" in caplog.text
    with pytest.raises(UserError, match="no such file"):
        fresh(init_from=str(tmp_path / "absent.ckpt"))
