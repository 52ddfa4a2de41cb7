"""Commands, Python blocks and links of README and docs/ hold.

Every command is parsed to settings in this process; those on the built-in data are also run, made
small (`-m slow`). What is neither is listed here with its reason.
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.cli import VERBS, command, export, main
from pne_seg.cli.settings import Settings
from pne_seg.data import Scenes
from pne_seg.errors import UserError
from tests.cli.commands import QUICK
from tests.cli.commands import SMALL as TINY_SCENES
from tests.documented import (
    PAGES,
    ROOT,
    Shown,
    anchors,
    arguments,
    blocks,
    inline,
    links,
    shell_commands,
    words,
)

COMMANDS = sorted(set(shell_commands()))
CONFIGS = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
SCENES = "configs/scenes_upernet_resnet18.yaml"

PLACEHOLDERS = {
    "FILE": SCENES,
    "my.yaml": SCENES,
    "configs/CONFIG.yaml": "configs/ade20k_upernet_swin.yaml",
    "DIR": "runs/scenes_upernet_resnet18/0",
    "downloads/their_run": "runs/scenes_upernet_resnet18/0",
    "NAME": "scenes_upernet_resnet18",
    "postgresql+pg8000://me:secret@host/sweeps": "sqlite:///study.db",
    "/shared": ".",
    "…": "model.contrast=null,PNE",
}
"""Words that stand for something of the reader's."""

OTHER_PROGRAMS = {
    "python3 -m venv": "sets up an environment; .ci/run runs README's",
    "python -m venv": "the same",
    ". .venv/bin/activate": "the same",
    ".venv/bin/pip install": "a package registry; .ci/run runs README's",
    "pip install": "the same",
    ".venv/bin/pytest": "the tests themselves; .ci/run runs README's",
    ".venv/bin/ruff": "run by .ci/run",
    ".venv/bin/mypy": "the same",
    "bash .ci/run": "runs all of it",
    "mkdocs": "run by .ci/run",
    "csDownload": "needs a login",
    "mkdir": "makes a folder",
    "tensorboard": "a server; tests/cli/test_loggers.py reads its files",
    "jupyter": "the notebook has its own test",
}
"""Commands that are not this project's, and where they are exercised."""

OWN_RUNS = "python cli.py compare RUN RUN"
"""Needs finished runs of the reader; tests/sweep compares some."""


def _title(shown: Shown) -> str:
    return str(shown)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40
    assert {one.page for one in COMMANDS} >= {"README.md", "ablations.md", "benchmarks.md"}


@pytest.mark.parametrize("shown", COMMANDS, ids=_title)
def test_command_is_accepted(shown: Shown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    args = arguments(shown.text)
    if args is None:
        _check_other_program(shown.text)
        return
    if shown.text.startswith(OWN_RUNS):
        return
    args = [PLACEHOLDERS.get(word, word) for word in args]
    verb, *rest = args
    if verb == "VERB":
        return
    assert verb in (*VERBS, "--print_completion")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "cli.py").symlink_to(ROOT / "cli.py")
    monkeypatch.chdir(tmp_path)
    parse(verb, rest, monkeypatch)


SETTINGS = sorted(
    one
    for one in set(inline("--"))
    if re.match(r"--(data|model|trainer|ema)[. ].*\S \S", one.text)
    and not re.search(r"CLASS|…", one.text)  # of the reader's choice
)
OWN_CLASSES = """
from torch import nn
from pne_seg.contrast import ContrastiveLoss

class MyLoss(ContrastiveLoss):
    pass

class MyNet(nn.Module):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("shown", SETTINGS, ids=_title)
def test_settings_in_text_are_accepted(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Settings such as `--model.contrast.temperature 0.5` fit one of the configs."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    margin = next(block.text for block in blocks("python") if "class MeanMargin" in block.text)
    (tmp_path / "my_loss.py").write_text(margin + OWN_CLASSES)
    (tmp_path / "my_net.py").write_text(OWN_CLASSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    refused = []
    for name in ("scenes_upernet_resnet18", "folder_upernet_resnet34", "cityscapes_upernet_swin",
                 "coco_stuff10k_ocrnet_hrnet48"):  # fmt: skip
        args = [f"--config=configs/{name}.yaml", *words(shown.text)]
        try:
            parse("fit", args, monkeypatch)
        except UserError as error:
            refused.append(str(error))
        else:
            return
    pytest.fail("\n".join(refused))


def _check_other_program(text: str) -> None:
    parts = words(text)
    if not parts or any(text.startswith(known) for known in OTHER_PROGRAMS):
        return
    if parts[:2] == ["python", "-m"]:
        assert find_spec(parts[2]) is not None
        return
    if parts[0] == "bash":
        assert (ROOT / parts[1]).is_file()
        return
    pytest.fail(f"{text!r} is no known program: add it with the reason why it is not run")


def parse(verb: str, args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command to settings, or show its help; nothing is built, fetched or run."""
    asks = any(word.endswith(("help", "--print_config")) for word in args)
    if asks or verb in ("models", "compare"):
        code: Any = None
        try:
            main([verb, *args, *([] if asks else ["--help"])])
        except SystemExit as leaving:
            code = leaving.code
        assert not code
    elif verb == "sweep":
        for place, word in enumerate(args[:-1]):
            if word in ("--arms", "--search") and not Path(args[place + 1]).exists():
                Path(args[place + 1]).write_text(_file_of(word))
        assert main([verb, *args, "--dry-run"]) is None
    elif verb in ("configs", "--print_completion"):
        main([verb, *args])
    elif verb == "export":
        export.build_parser().parse(Settings.of(args))
    else:
        if verb == "check-data":  # which takes the data's settings
            verb, args = "fit", ["--config", SCENES, *args]
        monkeypatch.setattr(command, "checkpoint_to_resume", _settings_only)
        monkeypatch.setattr(command, "weights_to_score", _settings_only)
        _Parsed(verb, args)


class _Parsed(command.SegmentationCLI):
    def instantiate_classes(self) -> None:
        assert self.config["data.class_path"]


def _settings_only(settings: Settings, *_: Any) -> None:
    """Load the settings, those of a run from the config of its name, and no checkpoint."""
    for key in ("ckpt_path", "weights"):
        settings.pop(key)
    if folder := settings.pop("run"):
        name = Path(folder).parent.name
        assert name in CONFIGS, f"{folder} is no run of a config"
        settings.files.insert(0, Path("configs", f"{name}.yaml"))
    settings.load()


def _file_of(option: str) -> str:
    """Return the YAML block of docs/ablations.md that describes such a file."""
    wanted = "baseline: true" if option == "--arms" else "low:"
    return next(block.text for block in blocks("yaml") if wanted in block.text)


@pytest.mark.parametrize("block", list(blocks("python")), ids=_title)
def test_python_compiles(block: Shown) -> None:
    compile(block.text, block.page, "exec")


def test_worked_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (one for one in blocks("python") if one.page == "how_pne_works.md")
    exec(block.text, {})
    assert capsys.readouterr().out.startswith("0.9269\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_settings_page_is_current() -> None:
    from tools.settings_page import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.settings_page"


SMALL = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
RUN = [  # and what must be there afterwards
    ("fit --config configs/scenes_upernet_resnet18.yaml", [*QUICK, *TINY_SCENES, *SMALL],
     "runs/scenes_upernet_resnet18/0/figures/predictions.png"),
    ("test --run runs/scenes_upernet_resnet18/0", QUICK,
     "runs/scenes_upernet_resnet18/0/test/best/metrics.json"),
    ("predict --run runs/scenes_upernet_resnet18/0 --input photo.jpg --output predictions", QUICK,
     "predictions/overlay/photo.jpg"),
    ("export --run runs/scenes_upernet_resnet18/0", ["--formats", "safetensors"],
     "runs/scenes_upernet_resnet18/0/export/best/model.safetensors"),
    ("fit --config configs/scenes_upernet_resnet18.yaml --ckpt_path last",
     [*QUICK, *TINY_SCENES, *SMALL, "--trainer.max_epochs", "2"],
     "runs/scenes_upernet_resnet18/1/metrics.json"),
    ("check-data --data Folder --data.root mine", [], "data_check/mine/report.txt"),
    ("fit --config configs/folder_upernet_resnet34.yaml --data.root mine",
     [*QUICK, *SMALL, "--model.network.encoder_weights", "null", "--data.crop_size", "[64, 64]",
      "--data.batch_size", "2"], "runs/folder_upernet_resnet34/0/metrics.json"),
]  # fmt: skip


@pytest.mark.slow
def test_first_hour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented commands on the built-in data and on a folder of images, made small."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    _write_photos(tmp_path)
    documented = [" ".join(arguments(one.text) or []) for one in COMMANDS]
    for text, overrides, file in RUN:
        assert text in documented
        main([*words(text), *overrides])
        assert (tmp_path / file).is_file()
    loading = [one for one in blocks("python") if 'load("runs/scenes_' in one.text]
    assert loading
    for block in loading:
        exec(block.text, {})


def _write_photos(folder: Path) -> None:
    scenes = Scenes(height=64, width=96).dataset("val")
    for name in ("images", "masks"):
        (folder / "mine" / name).mkdir(parents=True)
    for index in range(10):
        scene = scenes.read(index)
        Image.fromarray(scene.image).save(folder / "mine" / "images" / f"{index}.jpg")
        mask = np.where(scene.labels == 255, 255, np.minimum(scene.labels, 2))
        Image.fromarray(mask.astype(np.uint8)).save(folder / "mine" / "masks" / f"{index}.png")
    (folder / "mine" / "classes.yaml").write_text("[background, road, tree]")
    Image.fromarray(scenes.read(10).image).save(folder / "photo.jpg")
