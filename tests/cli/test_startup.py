"""Help and mistyped keys are answered from the sources, at once, and as the parser would."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pne_seg.cli import PACKAGES, VERBS, main
from pne_seg.cli import help as cli_help
from pne_seg.cli.arguments import GROUPS, top_level_keys
from pne_seg.cli.command import SegmentationCLI
from pne_seg.cli.mistyped import check_keys
from pne_seg.cli.settings import Settings
from pne_seg.cli.signatures import arguments, documented
from pne_seg.errors import UserError
from pne_seg.imports import imported
from tests.cli.commands import REPOSITORY, SCENES, refused
from tools.settings_page import parser_of_verb

CLASSES = [
    *GROUPS.values(),
    *(f"pne_seg.{name}" for name in ("PNE", "InfoNCE", "PixelContrast", "Contrast", "Inference")),
    *(f"pne_seg.data.{n}" for n in ("ADE20K", "CamVid", "Cityscapes", "COCOStuff", "Folder")),
    *("pne_seg.data.Scenes", "pne_seg.networks.FCNHead", "pne_seg.networks.AuxiliaryLogits"),
    *("pne_seg.networks.TorchvisionNetwork", "pne_seg.losses.CrossEntropy"),
    *("pne_seg.losses.OHEMCrossEntropy", "pne_seg.optim.WarmupPoly"),
    *("pne_seg.optim.ParameterGroups", "torch.optim.AdamW", "torch.optim.SGD"),
    "pne_seg.callbacks.ContrastDiagnostics",
]


def parsed_class(path: str) -> dict[str, Any]:
    """What jsonargparse takes the settings of a class for, by importing it: defaults by name."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(imported(path), fail_untyped=False)
    return defaults_of(parser)


def defaults_of(parser: ArgumentParser) -> dict[str, Any]:
    return {
        action.dest: action.default
        for action in parser._actions
        if action.dest.rpartition(".")[2] != "help"
    }


@pytest.mark.parametrize("path", CLASSES)
def test_settings_are_read_as_by_importing(path: str) -> None:
    if path == "lightning.pytorch.Trainer":
        from lightning.pytorch import Trainer

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Trainer, fail_untyped=False)
        expected = defaults_of(parser)
    else:
        expected = parsed_class(path)
    found = arguments(path)
    assert found is not None
    assert set(found) == set(expected)
    for name, argument in found.items():
        try:
            value = ast.literal_eval(argument.default or "None")
        except ValueError:  # a name or a call
            continue
        if isinstance(value, bool | int | float | str):
            assert value == expected[name], name


@pytest.mark.parametrize("path", ["pne_seg.networks.UPerNet", "pne_seg.networks.OCRNet"])
def test_what_sources_do_not_tell_is_left_to_the_parser(path: str) -> None:
    assert arguments(path) is None  # its **kwargs go to an encoder
    assert set(documented(path)) <= set(parsed_class(path))


def test_what_decorators_or_other_calls_may_change_is_left_to_the_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_classes.py").write_text(
        """
import functools
class Base:
    def __init__(self, a: int = 1): ...
class Decorated:
    @functools.cache
    def __init__(self, a: int = 1): ...
class Elsewhere(Base):
    def __init__(self, b: int = 2, **more): self.more = dict(**more)
class Both(Base):
    def __init__(self, b: int = 2, **more):
        super().__init__(**more)
        print(more)
class New(Base):
    def __new__(cls, **anything): ...
class Unknown(functools.partial): ...
class Plain(Base):
    def __init__(self, b: int = 2, *, c: int, **more): super().__init__(**more)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Decorated", "Elsewhere", "Both", "New", "Unknown", "Missing"):
        assert arguments(f"odd_classes.{name}") is None, name
    assert list(arguments("odd_classes.Plain") or ()) == ["b", "c", "a"]
    assert "odd_classes" not in sys.modules


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_first_keys_and_groups_are_the_parsers(verb: str) -> None:
    keys = {action.dest for action in parser_of_verb(verb)._actions} - {"help", "print_config"}
    tops = {key.partition(".")[0] for key in keys if not key.endswith(".help")}
    assert top_level_keys(verb) == tops
    for group in GROUPS:
        below = {key.removeprefix(f"{group}.") for key in keys if key.startswith(f"{group}.")}
        below -= {name for name in below if name.endswith("help")}
        assert set(arguments(GROUPS[group]) or ()) == {name for name in below if "." not in name}


OVERRIDES = """
--data Scenes
--data.init_args.batch_size 2
--data my_data.MyData --data.anything 1
--model.contrast null
--model.contrast PixelContrast --model.contrast.max_views 10
--model.contrast my_loss.MyLoss --model.contrast.anything 1
--model.contrast Contrast --model.contrast.loss my_loss.MyLoss --model.contrast.loss.anything 1
--model.network.anything_of_an_encoder 1
--model.network.dict_kwargs '{a: 1}'
--model.inference.window '[64, 64]'
--model.extra_losses '{dice: {class_path: a.B, init_args: {c: 1}}}'
--model.optimizer torch.optim.SGD --model.optimizer.momentum 0.9
--model.parameter_groups.head_lr 10
--model.num_classes 3
--trainer.callbacks+ ContrastDiagnostics
--trainer.logger.save_dir x
--ema EMAWeightAveraging --ema.decay 0.9
--name x --seed_everything 1 --allow x --print_config
""".strip().splitlines()


def check(verb: str, *args: str) -> None:
    settings = Settings.of(args)
    settings.load()
    check_keys(settings, top_level_keys(verb))


@pytest.mark.parametrize("overlay", [None, "colab", "cpu", "ddp", "debug", "multiscale"])
def test_no_shipped_config_is_refused(overlay: str | None) -> None:
    args = [f"--config={REPOSITORY / 'configs' / 'overlays' / overlay}.yaml"] if overlay else []
    for config in (REPOSITORY / "configs").glob("*.yaml"):
        check("fit", f"--config={config}", *args)


@pytest.mark.parametrize("verb", ["fit", "predict"])
@pytest.mark.parametrize("args", OVERRIDES)
def test_nothing_valid_is_refused(verb: str, args: str) -> None:
    check(verb, f"--config={SCENES}", *shlex.split(args))


def test_a_runs_own_config_is_valid(fitted: Path) -> None:
    check("fit", f"--config={fitted / 'config.yaml'}")


@pytest.mark.parametrize(
    "args",
    [
        ["--model.contrst", "PNE"],
        ["--modle.network", "x"],
        ["--data.batch_sise", "4"],
        ["--model.contrast.temprature", "1"],
        ["--model.inference.windw", "[64, 64]"],
        ["--trainer.max_epoch", "1"],
        ["--model.auxiliary", "pne_seg.networks.FCNHead", "--model.auxiliary.wieght", "1"],
    ],
)
def test_the_parser_gives_the_same_answer(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--config={SCENES}", *args]
    with pytest.raises(UserError) as caught:
        SegmentationCLI("fit", given)
    with pytest.raises(SystemExit):
        main(["fit", *given])
    assert capsys.readouterr().err == f"error: {caught.value}\n"


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_screen_names_settings_with_their_defaults(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([verb, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    defaults = {action.dest: action.default for action in parser_of_verb(verb)._actions}
    for slot, path in (
        ("data", "pne_seg.data.file_datamodule.FileDataModule"),
        ("model.network", "pne_seg.networks.UPerNet"),
        ("model.contrast", "pne_seg.PNE"),
        ("model.optimizer", "torch.optim.AdamW"),
        ("model.inference", "pne_seg.Inference"),
        ("model.parameter_groups", "pne_seg.optim.ParameterGroups"),
    ):
        defaults |= {f"{slot}.{name}": value for name, value in parsed_class(path).items()}
    keys = [line.split() for line in lines if line.startswith("  --")]
    assert len(keys) > 15
    for key, value, *_ in keys:
        assert key[2:] in defaults, key
        if value == cli_help.screen_default(key[2:]) and value.replace(".", "").isdigit():
            assert float(value) == defaults[key[2:]], key


@pytest.mark.parametrize(
    ("args", "class_path", "line"),
    [
        ("--model.contrast", "pne_seg.contrast.component.PNE", "temperature 1.0"),
        (
            "--model.contrast PixelContrast",
            "pne_seg.contrast.component.PixelContrast",
            "weight 0.1",
        ),
        ("--data CamVid", "pne_seg.data.CamVid", "root data/camvid"),
        (f"--config {SCENES} --data", "pne_seg.data.Scenes", "scene_seed"),
        ("--model.network pne_seg.networks.OCRNet", "pne_seg.networks.OCRNet", "key_channels 256"),
        ("--model.network tests.tiny_networks.TinyNet", "tests.tiny_networks.TinyNet", "width 8"),
        ("--model.inference", "pne_seg.inference.Inference", "flip false"),
        (
            "--ema EMAWeightAveraging",
            "lightning.pytorch.callbacks.EMAWeightAveraging",
            "decay 0.999",
        ),
        ("--trainer", "lightning.pytorch.Trainer", "max_steps -1"),
        (
            "--trainer.callbacks ContrastDiagnostics",
            "pne_seg.callbacks.ContrastDiagnostics",
            "num_pixels 4096",
        ),
    ],
)
def test_help_of_one_class(
    capsys: pytest.CaptureFixture[str], args: str, class_path: str, line: str
) -> None:
    given = shlex.split(args)
    assert main(["fit", *given, "--help"]) is None
    said = capsys.readouterr().out
    assert said.startswith(f"{class_path}\n")
    slot = next(word for word in reversed(given) if word.startswith("--"))
    assert f"\n  {slot}.{line}" in said
    assert max(map(len, said.splitlines())) <= 110


def test_help_of_an_unknown_class(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "fit", "--model.contrast", "PNEE", "--help")
    assert said == "error: --model.contrast PNEE: no class of that name.\n  The nearest is PNE."
    said = refused(capsys, "fit", "--help", "model.contrst")
    assert said.endswith("  The nearest is --model.contrast.")


@pytest.mark.parametrize("verb", ["fit", "check-data"])
def test_help_of_a_slot_lists_its_classes(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    main([verb, "--data", "--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in ("ADE20K", "CamVid", "Folder", "Scenes"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--help", "all"], "--trainer.overfit_batches"),
        (["--model.contrast.help", "PNE"], "--model.contrast.temperature"),
        (["--ema.help", "EMAWeightAveraging"], "--ema.decay"),
    ],
)
def test_the_parsers_own_help(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", *args])
    assert not caught.value.code
    assert said in capsys.readouterr().out


def test_neither_pytorch_nor_lightning_is_loaded_for_an_answer() -> None:
    config = f"--config={SCENES}"
    commands = [
        *([verb, "--help"] for verb in ("fit", "validate", "test", "predict")),
        *([verb, "--help"] for verb in ("check-data", "export", "models", "compare", "sweep")),
        *(["fit", f"--{key}", "--help"] for key in ("model.contrast", "data", "trainer")),
        *(["fit", config, f"--{key}", "1"] for key in ("model.contrst", "data.batch_sise")),
        *(["fit", config, f"--{key}", "1"] for key in ("modle", "model.contrast.temprature")),
        *(["check-data", config, "--data.batch_sise", "1"], ["export", "--sise", "[64, 64]"]),
        ["fit", "--config", "missing.yaml"],
    ]
    script = """
import json, sys
from pne_seg.cli import PACKAGES, VERBS, main
codes = []
for args in json.loads(sys.argv[1]):
    try:
        main(args)
        codes.append(0)
    except SystemExit as stop:
        codes.append(stop.code or 0)
loaded = [name for name in ("torch", "numpy", "lightning") if name in sys.modules]
print("\\n" + json.dumps([codes, loaded]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    codes, loaded = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0] * 12 + [2] * 7
    assert loaded == []
    assert done.stderr.count("error: There is no setting --") == 6


def test_the_packages_looked_for_are_the_dependencies() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    brought_by = packages_distributions()
    looked_for = {canonicalize_name(name) for one in PACKAGES for name in brought_by[one]}
    assert required <= looked_for
    assert len(PACKAGES) == len(required)


@pytest.mark.parametrize("verb", [*VERBS, "--print_completion"])
def test_a_python_without_the_dependencies(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "cli.py", verb, "--help"],  # -S: without installed packages
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(
        r"error: \S+ has no torch and \d+ more packages\. .*pip install -e \.\n", done.stderr
    )


def test_the_loss_loads_no_compiler() -> None:
    names = {"lightning", "torch._dynamo", "torch._inductor", "torchvision", "torchmetrics", "cv2"}
    code = f"import sys; from pne_seg import PNELoss; print({names} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
