"""A trained network comes back from its run, checkpoint or export, without Lightning or data."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from pne_seg.errors import UserError
from pne_seg.export.writer import export
from pne_seg.inference import Inference
from pne_seg.module import SegmentationModule
from pne_seg.trained import Trained
from tests.allowed import load_trained
from tests.cli.commands import TINY, command, write_config
from tests.tiny_networks import TinyNet, hook_count

REPOSITORY = Path(__file__).parents[1]
Changed = Callable[[Callable[[dict[str, Any]], None], Callable[[dict[str, Any]], None]], Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on scenes, with contrast and dropout."""
    root = tmp_path_factory.mktemp("trained")
    config = write_config(root / "tiny.yaml", TINY)
    more = ["--model.dropout", "0.1", "--trainer.default_root_dir", root]
    folder = command("fit", "--config", config, *more).run_folder
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    assert folder is not None
    return folder


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Changed:
    """A copy of the run with another checkpoint and config."""

    def change(
        checkpoint: Callable[[dict[str, Any]], None] = lambda _: None,
        config: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> Path:
        content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
        settings = yaml.safe_load((run / "config.yaml").read_text())
        checkpoint(content)
        config(settings)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        torch.save(content, tmp_path / "checkpoints" / "best.ckpt")
        write_config(tmp_path / "config.yaml", settings)
        return tmp_path

    return change


def nothing(_: dict[str, Any]) -> None:
    """Leave it."""


def test_a_run_without_its_data(run: Path) -> None:
    trained = load_trained(run)
    network = trained.network
    assert type(network) is TinyNet
    assert not network.training
    assert hook_count(network) == 0  # neither contrast nor dropout
    assert not any(parameter.requires_grad for parameter in network.parameters())
    saved: dict[str, Tensor] = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)[
        "state_dict"
    ]
    own = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    assert set(own) == {name for name in saved if name.startswith("network.")}
    assert all(torch.equal(saved[name], tensor) for name, tensor in own.items())
    assert len(trained.data.class_names) == 11
    assert trained.data.data == "Scenes"
    assert trained.run_name == "tiny/0"
    assert trained.inference == Inference()
    contrast = sum(
        tensor.numel() * tensor.element_size()
        for name, tensor in saved.items()
        if name.startswith("contrast.")
    )
    assert trained.training_bytes == {"contrast": contrast}


def test_a_checkpoint_of_a_run(run: Path) -> None:
    trained = load_trained(run / "checkpoints" / "last.ckpt")
    assert trained.path == run / "checkpoints" / "last.ckpt"
    assert type(trained.network) is TinyNet


def test_the_runs_settings(changed: Changed) -> None:
    def config(settings: dict[str, Any]) -> None:
        settings["model"] |= {
            "mean": [1.0, 2.0, 3.0],
            "std": [4.0, 5.0, 6.0],
            "inference": {"scales": [1.0, 0.5], "flip": True},
        }

    trained = load_trained(changed(nothing, config))
    assert trained.preprocessing.mean.flatten().tolist() == [1, 2, 3]
    assert trained.preprocessing.std.flatten().tolist() == [4, 5, 6]
    assert trained.inference == Inference(scales=(1.0, 0.5), flip=True)


def test_figures_are_those_of_the_checkpoint(run: Path, changed: Changed) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert load_trained(run).metrics == {"val": metrics}
    copy = changed(nothing, nothing)
    (copy / "metrics.json").write_text(json.dumps(metrics | {"step": metrics["step"] + 1}))
    assert load_trained(copy).metrics == {}
    cut = metrics | {"protocol": {"complete": False}}
    (copy / "metrics.json").write_text(json.dumps(cut))
    assert load_trained(copy).metrics == {}


EVALUATED: dict[str, Any] = {
    "test/mIoU": 0.5,
    "step": 2,
    "checkpoint": "best",
    "same_data": True,
    "protocol": {
        "split": "test",
        "data": "Scenes",
        "inference": {"scales": [1.0], "window": None},
        "complete": True,
    },
}


def evaluated(folder: Path, name: str, content: dict[str, Any], date: int) -> None:
    """An evaluation's figures, of a date in seconds since 1970."""
    file = folder / "test" / name / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    os.utime(file, (date, date))


def test_figures_of_an_evaluation_whatever_the_dates(changed: Changed) -> None:
    folder = changed(nothing, nothing)
    step = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    fitting = EVALUATED | {"step": step}
    protocol = EVALUATED["protocol"]
    for number, other in enumerate(
        [
            fitting | {"step": step + 1},
            fitting | {"checkpoint": "best-v1"},
            fitting | {"same_data": False},
            fitting | {"protocol": protocol | {"split": "val"}},
            fitting | {"protocol": protocol | {"data": "CamVid"}},
            fitting | {"protocol": protocol | {"complete": False}},
            fitting | {"protocol": protocol | {"inference": {"flip": True}}},
            fitting | {"protocol": protocol | {"inference": {"unknown": 1}}},
            fitting | {"protocol": None},
            {"test/mIoU": 0.5},  # of an older version
        ]
    ):
        evaluated(folder, f"best_other-{number}", other, date=4_000_000_000)
        assert load_trained(folder).metrics == {}, other
    evaluated(folder, "best-2", fitting, date=1_000)  # far older than the checkpoint
    assert load_trained(folder).metrics == {"test": fitting}
    newer = fitting | {"test/mIoU": 0.6}
    evaluated(folder, "best", newer, date=2_000)
    assert load_trained(folder).metrics == {"test": newer}
    evaluated(folder, "last", {}, date=4_000_000_000)
    (folder / "test" / "last" / "metrics.json").write_text("{")  # of no concern
    assert load_trained(folder).metrics == {"test": newer}


def test_a_checkpoint_without_description_asks_the_data(changed: Changed) -> None:
    def old(checkpoint: dict[str, Any]) -> None:
        del checkpoint["data_description"]

    folder = changed(old, nothing)
    assert load_trained(folder).data.data == "Scenes"

    def elsewhere(settings: dict[str, Any]) -> None:
        settings["data"] = {"class_path": "pne_seg.data.Folder", "init_args": {"root": "nowhere"}}

    with pytest.raises(
        UserError, match=r"older than this program[^\n]*nowhere[^\n]*\n *Put the data"
    ):
        load_trained(changed(old, elsewhere))


class Wrapped(nn.Module):
    """A class of the user's, with a network inside and no setting for the number of classes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.inner(images)
        return scores


def test_networks_in_networks_and_plain_class_paths(changed: Changed) -> None:
    inner = {"class_path": "tests.tiny_networks.TinyNet", "init_args": {"num_classes": 11}}

    def wrap(settings: dict[str, Any]) -> None:
        inner["init_args"] |= {"width": "6"}  # type: ignore[operator]  # converted to its type
        settings["model"]["network"] = {
            "class_path": "tests.test_trained.Wrapped",
            "init_args": {"inner": inner},
        }

    def prefix(checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("network.")]:
            state[name.replace("network.", "network.inner.", 1)] = state.pop(name)

    trained = load_trained(changed(prefix, wrap))
    assert type(trained.network) is Wrapped
    assert type(trained.network.inner) is TinyNet

    def plain(settings: dict[str, Any]) -> None:
        settings["model"]["network"] = "tests.tiny_networks.TinyNet"  # of width 8

    with pytest.raises(UserError, match=r"best\.ckpt are not those of the network that .*config"):
        load_trained(changed(nothing, plain))


def test_no_weights_are_fetched(changed: Changed) -> None:
    def pretrained(settings: dict[str, Any]) -> None:
        settings["model"]["network"] = {
            "class_path": "segmentation_models_pytorch.Unet",
            "init_args": {"encoder_name": "resnet18", "encoder_weights": "imagenet"},
        }

    with pytest.raises(UserError, match="are not those of the network"):  # built, not fetched
        load_trained(changed(nothing, pretrained))


def test_the_protocol_as_the_command_line_writes_it(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", TINY)
    more = ["--model.inference.scales", "[0.5, 1]", "--model.inference.flip", "true"]
    done = command("fit", "--config", config, "--trainer.default_root_dir", tmp_path, *more)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    assert done.run_folder is not None
    trained = load_trained(done.run_folder)
    assert trained.inference == Inference(scales=(0.5, 1.0), flip=True)
    # Scores of another protocol are not told as its own.
    assert set(trained.metrics) == {"val"}
    command("test", "--run", done.run_folder, "--model.inference", "null")
    assert set(load_trained(done.run_folder).metrics) == {"val"}
    command("test", "--run", done.run_folder)
    again = load_trained(done.run_folder).metrics
    assert set(again) == {"val", "test"}
    assert again["test"]["protocol"]["inference"]["flip"] is True


def test_averaged_weights_are_those_that_are_scored(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", TINY)
    done = command(
        "fit",
        *["--config", config, "--trainer.default_root_dir", tmp_path],
        *["--ema.decay", "0.5", "--trainer.max_epochs", "2"],
    )
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    assert done.run_folder is not None
    file = done.run_folder / "checkpoints" / "last.ckpt"
    network = load_trained(file).network
    scored = command("validate", "--ckpt_path", file, "--data.num_workers", "0").model
    assert isinstance(scored, SegmentationModule)
    current = torch.load(file, weights_only=True)["current_model_state"]
    name = "segmentation_head.1.weight"
    assert torch.equal(network.state_dict()[name], scored.network.state_dict()[name])
    assert not torch.equal(network.state_dict()[name], current[f"network.{name}"])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "does not exist"),
        ("empty folder", "neither a run's folder"),
        ("file of another kind", "no checkpoint"),
        ("outside a run", "lies in no run's folder"),
        ("cut short", "only a part of one"),
        ("holds code", "could run code"),
        ("no state dict", "no state dict"),
        ("class not there", "gone.Network cannot be found here"),
        ("refused settings", "cannot be built from its saved settings"),
        ("no network", "names no network"),
        ("figures cut short", r"metrics\.json is damaged"),
        ("description not whole", r"best\.ckpt is damaged.*palette.*another checkpoint"),
        ("no YAML", r"config\.yaml is not valid YAML"),
        ("protocol of no sense", r"config\.yaml: model\.inference.*wide"),
    ],
)
def test_refusals(what: str, said: str, run: Path, changed: Changed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        load_trained(_broken(what, run, changed, tmp_path / "other"))


def _broken(what: str, run: Path, changed: Changed, other: Path) -> Path:
    def network(slot: Any) -> Callable[[dict[str, Any]], None]:
        return lambda settings: settings["model"].update(network=slot)

    other.mkdir()
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    if what == "missing":
        return other / "gone"
    if what == "empty folder":
        return other
    if what in ("file of another kind", "outside a run"):
        path = other / ("model.onnx" if what == "file of another kind" else "best.ckpt")
        path.write_bytes(best)
        return path
    if what == "class not there":
        return changed(nothing, network("gone.Network"))
    if what == "refused settings":
        slot = {"class_path": "tests.tiny_networks.TinyNet", "init_args": {"width": "wide"}}
        return changed(nothing, network(slot))
    if what == "no network":
        return changed(nothing, network(None))
    if what == "description not whole":
        return changed(lambda content: content["data_description"].pop("palette"), nothing)
    if what == "protocol of no sense":
        return changed(nothing, lambda settings: settings["model"].update(inference={"wide": 1}))
    folder = changed(nothing, nothing)
    file = folder / "checkpoints" / "best.ckpt"
    if what == "no YAML":
        (folder / "config.yaml").write_text("model: [unclosed\n")
    elif what == "figures cut short":
        (folder / "metrics.json").write_text('{"val/mIoU": ')
    elif what == "cut short":
        file.write_bytes(best[: len(best) // 2])
    elif what == "holds code":
        torch.save({"state_dict": {}, "code": print}, file)
    else:
        torch.save({"weights": torch.ones(2)}, file)
    return folder


def test_an_export_comes_back(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run)
    export(trained, tmp_path / "out", ["safetensors"])
    again = load_trained(tmp_path / "out")
    _same(trained, again)
    assert again.metrics == trained.metrics
    assert again.run_name == ""
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_trained(tmp_path / "out")


def test_an_export_in_its_runs_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(run, tmp_path / "runs" / "tiny" / "0")
    out = folder / "export" / "best"
    export(load_trained(folder), out, ["safetensors"])
    assert load_trained(out).run_name == ""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_trained("~/runs/tiny/0").run_name == "tiny/0"
    content = json.loads((out / "segmentation.json").read_text())
    del content["mean"]
    (out / "segmentation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"segmentation\.json is damaged.*mean"):
        load_trained(out)


def test_an_export_of_files_that_do_not_belong_together(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(load_trained(run), out, ["safetensors"])
    content = json.loads((out / "segmentation.json").read_text())
    for key in ("class_names", "palette"):
        content["data"][key].pop()
    (out / "segmentation.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"has 11 classes, segmentation\.json describes 10"):
        load_trained(out)


def _same(one: Trained, other: Trained) -> None:
    images = torch.rand(1, 3, 32, 48)
    assert torch.equal(one.network(images), other.network(images))
    assert one.data == other.data
    assert one.preprocessing.stride == other.preprocessing.stride
    assert torch.equal(one.preprocessing.mean, other.preprocessing.mean)
    assert torch.equal(one.preprocessing.std, other.preprocessing.std)
    assert one.inference == other.inference


def test_loading_and_predicting_load_neither_lightning_nor_the_exporter(
    run: Path, tmp_path: Path
) -> None:
    import cv2
    import numpy as np

    export(load_trained(run), tmp_path / "out", ["safetensors"])
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    code = """
import sys, pne_seg
for path in sys.argv[1:3]:
    print(pne_seg.load(path, device="cpu", allow=["tests"]).predict(sys.argv[3]).shape)
loaded = [name for name in sys.modules if name.split(".")[0] in ("lightning", "albumentations")]
loaded += [name for name in sys.modules if name == "pne_seg.export"]  # which imports what loads
print(loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(tmp_path / "out"), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.stdout.splitlines() == ["(20, 30)", "(20, 30)", "[]"], done.stderr
