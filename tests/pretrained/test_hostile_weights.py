"""Files of weights of any content, and exports of any settings: read, or refused in little time."""

import io
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import pne_seg
from pne_seg.errors import UserError
from pne_seg.export.writer import export
from pne_seg.pretrained import read_weights
from pne_seg.pretrained.reading import read_tensors
from tests.export.trained import trained
from tests.mutations import mutated, mutated_json
from tests.tiny_networks import TinyNet

STATE = {
    "module.encoder.weight": torch.randn(4, 3, 3, 3),
    "module.encoder.bias": torch.randn(4),
    "module.norm.num_batches_tracked": torch.tensor(3),
}


def torch_saved(content: object, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


FILES = [
    save(STATE),
    *(torch_saved(STATE, zipped) for zipped in (True, False)),
    *(torch_saved({"state_dict": STATE, "meta": {"a": [1, None]}}, z) for z in (True, False)),
]


def hostile(number: int) -> bytes:
    chance = random.Random(number)
    data = mutated(chance.choice(FILES), chance)
    if data[8:9] == b"{" and chance.random() < 0.5:
        length = int.from_bytes(FILES[0][:8], "little")
        header = mutated_json(FILES[0][8 : 8 + length], chance)
        data = len(header).to_bytes(8, "little") + header + FILES[0][8 + length :]
    return data


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_files_of_weights(count: int, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    for number in range(count):
        file.write_bytes(hostile(number))
        said = ""
        try:
            read_tensors(file, "weights.pth")
            read_weights(str(file))
        except UserError as error:
            said = str(error)
        assert not said or "weights.pth" in said
        assert len(said) < 1000


def test_an_archive_whose_end_python_refuses(tmp_path: Path) -> None:
    content = torch_saved(STATE, zipped=True)
    end = content.index(b"PK\x06\x07")  # says on which disk the rest lies, and of how many
    (tmp_path / "a.pth").write_bytes(content[: end + 16] + b"\7\0\0\0" + content[end + 20 :])
    with pytest.raises(UserError, match=r"a\.pth: (cut short|cannot be read as weights)"):
        read_tensors(tmp_path / "a.pth", "a.pth")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    slot = {"class_path": "tests.tiny_networks.TinyNet", "init_args": {"num_classes": 3}}
    network = trained(TinyNet(3), 3, folder, slot=slot)
    export(network, folder / "export", ["safetensors"])
    return folder / "export"


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_exports(exported: Path, count: int, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "export"))
    files = ["config.json", "segmentation.json", "segmentation.json", "model.safetensors"]
    for number in range(count):
        chance = random.Random(number)
        name = chance.choice(files)
        content = (exported / name).read_bytes()
        as_json = name.endswith(".json") and chance.random() < 0.75
        (folder / name).write_bytes((mutated_json if as_json else mutated)(content, chance))
        said = ""
        try:
            pne_seg.load(folder, device="cpu", allow=["tests"])
        except UserError as error:
            said = str(error)
        assert len(said) < 2000
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("value", [float("inf"), [], [None] * 3, {"a": 1}, "x" * 2000])
@pytest.mark.parametrize("key", ["mean", "std", "stride"])
def test_values_of_other_kinds(exported: Path, tmp_path: Path, key: str, value: object) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "export"))
    content = json.loads((folder / "segmentation.json").read_bytes()) | {key: value}
    (folder / "segmentation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"export|is damaged") as caught:
        pne_seg.load(folder, device="cpu", allow=["tests"])
    assert len(str(caught.value)) < 600
