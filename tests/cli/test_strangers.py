"""Settings that may come from anywhere: what they name runs only if it belongs there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

import pne_seg
from pne_seg.cli import main
from pne_seg.errors import UserError
from pne_seg.runs import Run
from pne_seg.settings_files import MAX_BYTES
from tests.cli.commands import QUICK, TINY, command, write_config

Spec = dict[str, Any]

SLOTS = [
    *("data", "ema", "model.network", "model.optimizer", "model.schedule", "model.loss"),
    *("model.extra_losses.more", "model.contrast", "model.auxiliary", "model.parameter_groups"),
    *("model.inference", "trainer.callbacks", "trainer.logger", "trainer.profiler"),
    *("trainer.strategy", "trainer.plugins", "trainer.accelerator", "data.transforms"),
    *("figures", "model.network.init_args.width", "model.network.dict_kwargs.more"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module that leaves a mark when it is imported, and a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "marking.py").write_text(
        "import os\nfrom pathlib import Path\nPath('MARK').touch()\n"
        "def mark(*_, **__):\n    Path('MARK').touch()\n"
        "class Mark:\n    def __init__(self, *_, **__):\n        mark()\n"
    )
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom tests.tiny_networks import TinyNet\n"
        "class Net(TinyNet):\n    pass\n"
        "class Loss(nn.CrossEntropyLoss):\n    pass\n"
        "def rate(step: int) -> float:\n    return 1.0\n"
    )
    for name in ("marking", "mine", "this"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture
def stranger(fitted: Path, tmp_path: Path) -> Run:
    """A run that was put beside the working directory's own, with a network of this project."""
    run = Run(tmp_path / "stranger")
    (run.folder / "checkpoints").mkdir(parents=True)
    run.best.write_bytes((fitted / "checkpoints" / "best.ckpt").read_bytes())
    config = yaml.safe_load((fitted / "config.yaml").read_text())
    config["model"]["network"] = {
        "class_path": "segmentation_models_pytorch.Unet",
        "init_args": {"encoder_name": "resnet18", "encoder_weights": None},
    }
    write_config(run.config, config)
    return run


def hostile(mark: Path) -> list[Spec | str]:
    """What a slot may be given to run a command, or to import a module that does."""
    touch = f"touch {mark}"
    return [
        {"class_path": "os.system", "init_args": {"command": touch}},
        {"class_path": "posix.system", "init_args": {"command": touch}},
        {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(mark)]}},
        {"class_path": "pne_seg.runs.os.system", "init_args": {"command": touch}},
        {"class_path": "builtins.exec", "init_args": {"source": f"open({str(mark)!r}, 'w')"}},
        {"class_path": "pathlib.Path.touch", "init_args": {"self": str(mark)}},
        {"class_path": "functools.partial", "init_args": {"func": "os.system"}},
        {"class_path": "torch.utils.cpp_extension.load", "init_args": {"name": "x"}},
        {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "x/y", "model": "z"}},
        {"class_path": "pne_seg.cli.main", "init_args": {"args": ["fit", "--allow", "os"]}},
        {"class_path": "pne_seg.cli.command.SegmentationCLI", "init_args": {"verb": "fit"}},
        {"class_path": "jsonargparse.set_parsing_settings"},
        {"class_path": "marking.Mark"},
        {"class_path": "marking.os.system", "init_args": {"command": touch}},
        {"class_path": "runs.theirs.marking.Mark"},
        {"class_path": "this.s"},
        {"class_path": "torchvision.ops.MLP", "init_args": {"in_channels": 3,
         "hidden_channels": [3], "norm_layer": {"class_path": "os.system",
                                                "init_args": {"command": touch}}}},
        {"class_path": "torchvision.ops.MLP", "init_args": {"in_channels": 3,
         "hidden_channels": [3], "norm_layer": "marking.mark"}},
        "os.system",
        "marking.Mark",
        "marking.mark",
    ]  # fmt: skip


def put(config: dict[str, Any], slot: str, value: Any) -> None:
    """Set a dotted slot of a config; `data.transforms` and its like lie in `init_args`."""
    *outer, last = slot.replace("data.transforms", "data.init_args.transforms").split(".")
    for key in outer:
        if not isinstance(config.get(key), dict):
            config[key] = {}
        config = config[key]
    is_list = last in ("callbacks", "transforms", "plugins")
    config[last] = [value] if is_list else value


def ends(*args: object) -> int:
    """Run a command that may not succeed; returns its exit code."""
    try:
        main([*map(str, args)])
    except SystemExit as stop:
        return int(stop.code or 0)
    except MisconfigurationException:  # Lightning's, of a name that was taken for a text
        return 2
    return 0


@pytest.mark.parametrize(
    ("slot", "every"),
    [
        ("model.network", 2),
        *((slot, 7) for slot in SLOTS),
        *(pytest.param(slot, 1, marks=pytest.mark.slow) for slot in SLOTS),
    ],
)
def test_a_strangers_run_runs_nothing(
    stranger: Run, here: Path, capsys: pytest.CaptureFixture[str], slot: str, every: int
) -> None:
    saved = stranger.config.read_text()
    chosen = hostile(here / "MARK")[SLOTS.index(slot) % every :: every]
    for number, value in enumerate(chosen):
        config = yaml.safe_load(saved)
        put(config, slot, value)
        write_config(stranger.config, config)
        verb = ("test", "validate", "predict", "export")[number % 4]
        if verb == "export" and not slot.startswith("model.network"):
            verb = "test"  # an export reads the network alone
        assert ends(verb, "--run", stranger.folder, *(QUICK if verb != "export" else [])) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said, value
        assert not (here / "MARK").exists(), value
        assert not {"marking", "this"} & set(sys.modules), value


@pytest.mark.parametrize("slot", SLOTS)
def test_a_config_calls_nothing_of_the_standard_library(
    here: Path, capsys: pytest.CaptureFixture[str], slot: str
) -> None:
    for value in hostile(here / "MARK")[:3:2]:
        config = yaml.safe_load(TINY)
        put(config, slot, value)
        write_config(here / "c.yaml", config)
        for verb in ("fit", "check-data") if slot.startswith("data") else ("fit",):
            assert ends(verb, "--config", "c.yaml") == 2
            assert "Traceback" not in capsys.readouterr().err, value
            assert not (here / "MARK").exists(), value


CALLABLES = {
    "trainer.callbacks": ("lightning.pytorch.callbacks.LambdaCallback", "setup"),
    "data.transforms": ("albumentations.Lambda", "image"),
    "model.schedule": ("torch.optim.lr_scheduler.LambdaLR", "lr_lambda"),
    "ema": ("lightning.pytorch.callbacks.EMAWeightAveraging", "avg_fn"),
    "trainer.strategy": ("lightning.pytorch.strategies.DDPStrategy", "ddp_comm_hook"),
}


@pytest.mark.parametrize("slot", CALLABLES)
def test_callables_within_classes(
    here: Path, capsys: pytest.CaptureFixture[str], slot: str
) -> None:
    name, argument = CALLABLES[slot]
    names = ["os.system", "torch.load", "torch.hub.load", "torch.serialization.load"]
    names += ["timm.models.load_checkpoint", "lightning.pytorch.loggers.csv_logs.os.system"]
    for value in [*names, {"class_path": "os.system", "init_args": {"command": "touch MARK"}}]:
        config = yaml.safe_load(TINY)
        put(config, slot, {"class_path": name, "init_args": {argument: value}})
        write_config(here / "c.yaml", config)
        assert ends("fit", "--config", "c.yaml", "--trainer.fast_dev_run", "true") == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert not (here / "MARK").exists(), value


def test_overrides_are_checked_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(here / "c.yaml", TINY)
    spec = json.dumps({"class_path": "os.system", "init_args": {"command": "touch MARK"}})
    for key, value in [
        *(("model.optimizer", value) for value in (spec, "os.system", "{class_path: os.system}")),
        *(("model.network", spec), ("trainer.callbacks", f"[{spec}]"), ("data.help", "this.s")),
        ("model.optimizer", "Callable[[x], this.s] <class 'this.s'>"),
        ("model.network.help", "this.s"),
    ]:
        assert ends("fit", "--config", "c.yaml", f"--{key}={value}") == 2, value
        assert "Traceback" not in capsys.readouterr().err
        assert not (here / "MARK").exists(), value
        assert "this" not in sys.modules, value


def test_what_a_refusal_says(stranger: Run, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(here / "c.yaml", TINY)
    assert ends("fit", "--config", "c.yaml", "--model.optimizer", "os.system") == 2
    assert capsys.readouterr().err == (
        "error: --model.optimizer names os.system: settings may not name what is in Python's "
        "standard library.\n  If you trust it, add --allow os.\n"
    )
    assert ends("fit", "--config", "c.yaml", "--trainer.callbacks", "pip.main") == 2
    said = capsys.readouterr().err
    assert "pip is none of the packages that settings may name" in said
    assert said.endswith("add --allow pip.\n")
    config = yaml.safe_load(stranger.config.read_text())
    config["model"]["network"] = {"class_path": "mine.Net", "init_args": {"width": 6}}
    write_config(stranger.config, config)
    assert ends("test", "--run", stranger.folder, *QUICK) == 2
    said = capsys.readouterr().err
    assert "error: --model.network names mine.Net: settings that come from elsewhere" in said
    assert said.endswith("add --allow mine.\n")
    assert "mine" not in sys.modules
    with pytest.raises(UserError, match=r'If you trust it, pass allow=\["mine"\]'):
        pne_seg.load(stranger.folder)
    assert "mine" not in sys.modules
    assert command("test", "--run", stranger.folder, *QUICK, "--allow", "mine").trainer
    assert pne_seg.load(stranger.folder, allow=["mine"]).class_names
    for wrong in ("--allow", "--allow=", "--allow=a,,b", "--allow=a b", "--allow=jsonargparse"):
        assert ends("test", "--run", stranger.folder, *QUICK, wrong) == 2
    write_config(here / "c.yaml", "allow: os\n" + TINY)
    assert ends("fit", "--config", "c.yaml") == 2
    assert "Give --allow on the command line" in capsys.readouterr().err


def test_modules_of_the_working_directory(here: Path) -> None:
    config = yaml.safe_load(TINY)
    config["model"] |= {"network": {"class_path": "mine.Net"}, "loss": "mine.Loss"}
    put(config, "model.schedule", {"class_path": "torch.optim.lr_scheduler.LambdaLR",
                                   "init_args": {"lr_lambda": "mine.rate"}})  # fmt: skip
    write_config(here / "own.yaml", config)
    run = command_alone("fit", "--config", "own.yaml", "--figures.num_images", "0").run_folder
    assert "allow" not in yaml.safe_load((run / "config.yaml").read_text())
    for args in (["--run", run], ["--config", "own.yaml"], ["--ckpt_path", Run(run).best]):
        assert command_alone("validate", *args, *QUICK).trainer
    assert pne_seg.load("runs/own/0").class_names
    # What the user types is the user's, whatever run it is laid over.
    moved = (here / "elsewhere").absolute()
    run.rename(moved)
    args = ["--run", moved, *QUICK, "--model.network", "mine.Net", "--model.loss", "mine.Loss"]
    assert command_alone("validate", *args).trainer


def command_alone(verb: str, *args: object) -> Any:
    """Run a command that allows nothing."""
    return main([verb, *map(str, args)])


def test_a_run_below_the_root_that_is_given(here: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(TINY)
    config["model"]["network"] = {"class_path": "mine.Net"}
    write_config(here / "own.yaml", config)
    root = ["--trainer.default_root_dir", tmp_path / "out"]
    run = command_alone("fit", "--config", "own.yaml", *root, "--figures.num_images", 0).run_folder
    assert ends("validate", "--run", run, *QUICK) == 2
    assert command_alone("validate", "--run", run, *root, *QUICK).trainer


BOMBS = {
    "references": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{n}: &{n} [{', '.join([f'*{p}'] * 9)}]\n"
        for p, n in zip("abcdefghi", "bcdefghij", strict=True)
    ),
    "itself": "model: &a {network: *a}\n",
    "nesting": "model: " + "[" * 5000 + "]" * 5000,
    "block nesting": "model:\n" + "".join(" " * n + "- \n" for n in range(200)),
    "one line of sequences": "model: \n " + "- " * 400 + "x",
    "a list": "model: [" + "1, " * 200_000 + "1]",
    "a size": "# " + "x" * MAX_BYTES,
    "a tag": "model: !!python/object/apply:os.system [touch MARK]",
    "a date": "name: 2020-99-99",
    "a number": "name: " + "1" * 5000,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_files_beyond_bounds(
    stranger: Run, here: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (here / "bomb.yaml").write_text(BOMBS[kind])
    for verb in ("fit", "check-data"):
        assert ends(verb, "--config", "bomb.yaml") == 2
        said = capsys.readouterr().err
        assert said.startswith("error: --config bomb.yaml"), said
        assert len(said) < 500
    stranger.config.write_text(BOMBS[kind])
    for verb in ("test", "export"):
        assert ends(verb, "--run", stranger.folder) == 2
        assert str(stranger.config) in capsys.readouterr().err
    with pytest.raises(UserError, match=r"stranger/config\.yaml"):
        pne_seg.load(stranger.folder)
    assert not (here / "MARK").exists()


@pytest.mark.parametrize("kind", ["references", "itself", "nesting", "one line of sequences"])
def test_values_beyond_bounds(here: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    """On the command line, as a text in a config, and in a file that a config names."""
    bomb = BOMBS[kind]
    value = "{" + bomb.strip().replace("\n", ", ") + "}" if kind == "references" else bomb
    write_config(here / "c.yaml", TINY)
    for verb, key in (
        ("fit", "model.extra_losses"),
        ("fit", "data.batch_size"),
        ("export", "size"),
    ):
        assert ends(verb, "--config", "c.yaml", f"--{key}={value}") == 2
        assert f"--{key}" in capsys.readouterr().err
    for slot, content in (("model.network.init_args.width", value), ("model.network", "bomb.yaml")):
        config = yaml.safe_load(TINY)
        put(config, slot, content)
        write_config(here / "c.yaml", config)
        (here / "bomb.yaml").write_text(bomb)
        assert ends("fit", "--config", "c.yaml") == 2
        assert len(capsys.readouterr().err) < 2000
