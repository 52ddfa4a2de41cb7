"""Files that are odd, damaged or hostile: read as what they are, or refused in a line."""

import builtins
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pne_seg.errors import UserError
from pne_seg.pretrained import read_weights
from pne_seg.pretrained.reading import read_tensors

STATE = {"a.weight": torch.ones(2), "b.bias": torch.zeros(3)}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tensors(path, "given")
    said = str(caught.value)
    assert said.startswith("given: ")
    assert len(said) < 400
    assert "weights_only" not in said
    return said


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.pth")
    save_file(STATE, tmp_path / "model.SAFETENSORS")
    torch.save(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "older.safetensors", _use_new_zipfile_serialization=False)
    for name in ("model.pth", "model.SAFETENSORS", "model.safetensors", "older.safetensors"):
        assert read_tensors(tmp_path / name, "given")[0].keys() == STATE.keys()


def test_files_that_hold_themselves(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "self.pth")
    assert "holds no weights" in refusal(tmp_path / "self.pth")
    torch.save(dict(STATE, model=endless), tmp_path / "beside.pth")
    assert read_tensors(tmp_path / "beside.pth", "given")[0].keys() == STATE.keys()


def test_prefixes_in_any_order(tmp_path: Path) -> None:
    for prefix in ("module._orig_mod.", "_orig_mod.module."):
        torch.save({prefix + name: t for name, t in STATE.items()}, tmp_path / "x.pth")
        assert read_tensors(tmp_path / "x.pth", "given")[0].keys() == STATE.keys()


def test_arrays_are_no_tensors(tmp_path: Path) -> None:
    torch.save(STATE | {"c.bias": np.ones(3)}, tmp_path / "mixed.pth")
    assert "c.bias is no tensor, but a NumPy array" in refusal(tmp_path / "mixed.pth")
    torch.save({"state_dict": {"c.bias": np.ones(3)}}, tmp_path / "arrays.pth")
    assert "c.bias is no tensor, but a NumPy array" in refusal(tmp_path / "arrays.pth")


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Calls(builtins.eval, "open('ran', 'w')"), "eval"),
        (Calls(builtins.exec, "open('ran', 'w')"), "exec"),
        (Calls(builtins.__import__, "antigravity"), "__import__"),
        (Calls(torch.load, "other.pth"), "torch.serialization.load"),
        (Calls(getattr, Calls(builtins.__import__, "os"), "system"), "__import__"),
    ],
)
def test_calls_are_named_and_not_made(
    call: Calls, name: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = OrderedDict(STATE, extra=call)
    torch.save(content, "x.pth", _use_new_zipfile_serialization=zipped)
    said = refusal(tmp_path / "x.pth")
    assert "not opened" in said
    assert name in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [0, 3, 4, 5])
def test_other_pickles(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (Calls(builtins.eval, "open('ran', 'w')"), {"a": 1}):
        (tmp_path / "x.pth").write_bytes(pickle.dumps(content, protocol))
        said = refusal(tmp_path / "x.pth")
        assert any(part in said for part in ("cannot be read", "neither", "not opened"))
    assert not (tmp_path / "ran").exists()


def test_torchscript(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    assert "TorchScript" in refusal(tmp_path / "x.pt")


def test_names_of_another_library_with_other_dimensions(tmp_path: Path) -> None:
    content = {
        "backbone.stages.0.blocks.0.attn.w_msa.proj.bias": torch.zeros(1),
        "backbone.stages.0.downsample.reduction.weight": torch.zeros(3, 7),
        "decode_head.conv_seg.bias": torch.zeros(1),
    }
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: .* the tensors have other dimensions"):
        read_weights(str(tmp_path / "x.pth"))
