"""What settings may name, asked without a command line."""

import json
from pathlib import Path
from typing import Any

import jsonargparse
import pytest
from jsonargparse._common import parsing_settings
from torch import nn

import pne_seg
from pne_seg.errors import UserError
from pne_seg.exported import CONFIG, DESCRIPTION, WEIGHTS
from pne_seg.imports import Imports, RefusedImportError, is_own
from pne_seg.networks.slot import build_network, complete_slot

FITTING: list[Any] = [
    {
        "class_path": "segmentation_models_pytorch.Unet",
        "init_args": {"encoder_name": "resnet18", "encoder_weights": None},
    },
    {
        "class_path": "torchvision.ops.MLP",
        "init_args": {
            "in_channels": 3,
            "hidden_channels": [3],
            "norm_layer": "torch.nn.BatchNorm1d",
            "activation_layer": "torch.nn.GELU",
        },
    },
    {
        "class_path": "timm.models.vision_transformer.VisionTransformer",
        "init_args": {"depth": 1},
    },
]


@pytest.mark.parametrize("slot", FITTING, ids=lambda slot: slot["class_path"])
def test_networks_of_known_packages_are_built(slot: Any) -> None:
    assert isinstance(build_network(complete_slot(slot, 3)), nn.Module)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "builtins.eval", "this.s", "subprocess.Popen", "nt.system", "_io.open"),
        *("torch.load", "torch.hub.load", "torch.ops.load_library", "torch.jit.load"),
        *("lightning.pytorch.Trainer", "timm.create_model", "pip.main", "numpy.load"),
        *("tests.tiny_networks.TinyNet", "runs.mine.Net"),
    ],
)
def test_names_that_are_refused_before_an_import(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert Imports().refused(name)
    assert Imports(allow=(name.partition(".")[0],)).refused(name) is None


def test_own_modules_are_those_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "theirs").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    own = Imports(own=True)
    assert own.refused("tests.tiny_networks.TinyNet") is None
    assert own.refused("__main__.Net") is None
    for name in ("numpy.load", "yaml.unsafe_load", "os.system", "runs.theirs.Net"):
        assert own.refused(name)


@pytest.mark.parametrize(
    "name",
    [
        *("pne_seg.runs.os.system", "pne_seg.cli.main", "pne_seg.load"),
        *("timm.models.load_checkpoint", "segmentation_models_pytorch.from_pretrained"),
        *("torch.nn.functional.__loader__.load_module", "torch.nn.Module.__subclasses__"),
        *("pne_seg.cli.command.SegmentationCLI", "torch.nn.functional.torch.from_file"),
        *("albumentations.load", "torchvision.models.get_weight", "torch.optim.Optimizer.__init__"),
    ],
)
def test_names_of_known_packages_that_are_no_parts_of_settings(name: str) -> None:
    with pytest.raises(RefusedImportError, match="If you trust it, pass allow="):
        Imports(own=True).resolve(name, "model.network")


def test_what_a_refusal_advises_is_enough() -> None:
    for name in ("os.path.join", "yaml.unsafe_load", "segmentation_models_pytorch.from_pretrained",
                 "torch.hub.load", "pne_seg.runs.os.system"):  # fmt: skip
        with pytest.raises(RefusedImportError) as refused:
            Imports().resolve(name, "x")
        advised = str(refused.value).partition('allow=["')[2].partition('"]')[0]
        assert callable(Imports(allow=(advised,)).resolve(name, "x")), name


def test_jsonargparse_is_left_as_it_was() -> None:
    before, loader = dict(parsing_settings), jsonargparse.get_loader("yaml")
    with Imports().enforced("x"):
        assert parsing_settings != before
    assert parsing_settings == before
    assert jsonargparse.get_loader("yaml") is loader


def test_which_runs_are_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for run in ("runs/a/0", "other/a/0", "../runs/a/0"):
        Path(run).mkdir(parents=True)
    Path("runs/link").symlink_to(tmp_path / "runs" / "a")
    assert is_own(Path("runs/a/0"))
    assert is_own(Path("runs/a/../a/0").absolute())
    for run in ("other/a/0", "../runs/a/0", "runs/link/0", "runs", "runs/../other/a/0"):
        assert not is_own(Path(run)), run
    assert is_own(Path("../runs/a/0"), tmp_path)


def export_of(folder: Path, network: object, description: object = None) -> Path:
    """An export without weights, as a stranger may write one."""
    folder.mkdir(exist_ok=True)
    described = description or {"files": {WEIGHTS: {"size": "any"}}, "stride": 1}
    for name, content in ((CONFIG, network), (DESCRIPTION, described)):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    (folder / WEIGHTS).touch()
    return folder


TOUCH = {"class_path": "os.system", "init_args": {"command": "touch MARK"}}


@pytest.mark.parametrize(
    "network",
    [
        TOUCH,
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "MARK"]}},
        {"class_path": "torch.nn.Sequential", "dict_kwargs": {"arg": TOUCH}},
        {"class_path": "torchvision.ops.Conv2dNormActivation",
         "init_args": {"in_channels": 3, "out_channels": 3, "norm_layer": TOUCH}},
        {"class_path": "torch.nn.TransformerEncoderLayer",
         "init_args": {"d_model": 8, "nhead": 2, "activation": TOUCH}},
        {"class_path": "timm.models.vision_transformer.VisionTransformer",
         "init_args": {"norm_layer": TOUCH}},
        {"class_path": "timm.models.resnet.ResNet", "init_args": {"block": TOUCH, "layers": [1]}},
        {"class_path": "segmentation_models_pytorch.Unet", "init_args": {"activation": TOUCH}},
        {"class_path": "pne_seg.networks.UPerNet", "init_args": {"encoder_name": TOUCH}},
        {"class_path": "tests.tiny_networks.TinyNet"},
        {"_model_class": "from_pretrained"},
        {"_model_class": "os.system", "command": "touch MARK"},
        {"_model_class": "pne_seg.networks.from_pretrained", "path_or_repo": "x"},
        {"_model_class": "Unet", "encoder_name": TOUCH},
        [TOUCH],
        "[" * 5000,
        '{"class_path": "torch.nn.Linear", "init_args": {"in_features": "' + "[" * 5000 + '"}}',
        " " * 2_000_000,
    ],
    ids=lambda network: str(network)[:40],
)  # fmt: skip
def test_exports_of_strangers(
    network: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = export_of(tmp_path / "export", network)
    with pytest.raises(UserError):
        pne_seg.load(folder)
    assert not Path("MARK").exists()


@pytest.mark.parametrize("text", ["[" * 5000, "{", " " * 2_000_000, '"\\ud800', "[]"])
def test_descriptions_of_strangers(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="export"):
        pne_seg.load(export_of(tmp_path / "export", {"class_path": "torch.nn.Identity"}, text))


def test_allow_is_a_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"allow=\['tests'\]"):
        pne_seg.load(tmp_path, allow="tests")
    with pytest.raises(UserError, match="decides what may be imported"):
        pne_seg.load(tmp_path, allow=["jsonargparse.x"])
