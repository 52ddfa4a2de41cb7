"""Configs by name: found, listed and copied, wherever the command runs."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import pne_seg
from pne_seg.cli import VERBS, main
from pne_seg.cli.completion import completion_script
from pne_seg.cli.settings import Settings
from pne_seg.errors import UserError
from pne_seg.imports import Imports
from pne_seg.shipped_configs import find_config, shipped_configs
from tests.cli.commands import DRY, REPOSITORY, SCENES, SMALL, command, refused

NAME = "scenes_upernet_resnet18"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_files_are_shipped() -> None:
    folder = REPOSITORY / "configs"  # studies are run from a checkout
    files = {*folder.glob("*.*"), *folder.glob("overlays/*")}
    assert set(shipped_configs().values()) == files
    assert shipped_configs()["overlays/debug"] == REPOSITORY / "configs/overlays/debug.yaml"


@pytest.mark.parametrize("given", [NAME, f"{NAME}.yaml", f"configs/{NAME}.yaml", f"./{NAME}"])
def test_a_shipped_config_is_found_by_name(given: str) -> None:
    assert find_config(given) == SCENES


@pytest.mark.parametrize("given", [f"../{NAME}", f"/{NAME}", f"other/{NAME}", f"{NAME}.yml", ""])
def test_what_is_no_name_is_a_path(given: str) -> None:
    assert find_config(given) == Path(given)


@pytest.mark.parametrize("given", [NAME, f"{NAME}.yaml"])
def test_the_users_file_wins(here: Path, given: str) -> None:
    (here / NAME).mkdir()  # such as a folder of results
    assert find_config(given) == SCENES
    copy = here / f"{NAME}.yaml"
    copy.write_text("seed_everything: 7")
    assert find_config(given).resolve() == copy
    assert Settings.of(["--config", given]).files == [Path(copy.name)]


def test_a_run_by_name_is_one_by_path(here: Path) -> None:
    quick = [*SMALL, *DRY]
    by_name = command("fit", "--config", NAME, "--config", "overlays/cpu", *quick)
    by_path = command(
        "fit", "--config", SCENES, "--config", SCENES.parent / "overlays" / "cpu.yaml", *quick
    )
    assert by_name.name == by_path.name == NAME
    config = by_name.parser.dump(by_name._as_written)
    assert config == by_path.parser.dump(by_path._as_written)
    trained = by_name.model.network.state_dict()
    torch.save(trained, here / "weights.pt")
    loaded = pne_seg.load("weights.pt", config=NAME).trained.network.state_dict()
    torch.testing.assert_close(loaded, trained, rtol=0, atol=0)


def test_a_miss_names_the_nearest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "fit", "--config", "scenes_upernet_resnet8")
    assert "scenes_upernet_resnet8: No such file, and no shipped config" in said
    assert f"The nearest: {NAME}" in said
    assert "`pne-seg configs` lists" in said
    (here / "my_scenes.yaml").touch()
    assert "The nearest: my_scenes.yaml." in refused(capsys, "fit", "--config", "my_scene")
    assert "The nearest: overlays/debug." in refused(capsys, "fit", "--config", "overlays/debg")
    assert "nearest" not in refused(capsys, "check-data", "--config", "x/y/z.yaml")


def test_a_shipped_name_trusts_nothing_else(here: Path) -> None:
    """What a config names is refused as from any other file of the user's."""
    (here / f"{NAME}.yaml").write_text("data: {class_path: subprocess.Popen}")
    settings = Settings.of(["--config", NAME])
    settings.load()
    with pytest.raises(UserError, match="standard library"):
        settings.imports.resolve(settings.config["data"]["class_path"], "data")
    assert settings.imports.allow == Imports().allow


def test_the_list_agrees_with_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs"])
    lines = capsys.readouterr().out.splitlines()
    rows = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert rows[NAME] == ["Scenes", "UPerNet", "whole", "4", "epochs"]
    assert rows["cityscapes_upernet_swin"] == ["Cityscapes", "UPerNet", "512×1024", "80k", "steps"]
    assert "All GPUs of a machine" in " ".join(rows["overlays/ddp"])
    assert set(shipped_configs()) <= set(rows)


def test_a_copy_never_replaces_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs", NAME])
    copy = here / f"{NAME}.yaml"
    assert copy.read_bytes() == SCENES.read_bytes()
    copy.write_text("edited: true")
    for args in ([NAME], [NAME, "--output", str(here)]):
        with pytest.raises(SystemExit, match="2"):
            main(["configs", *args])
        assert "exists and is kept" in capsys.readouterr().err
    assert copy.read_text() == "edited: true"
    main(["configs", "overlays/debug", "--output", "mine.yaml"])
    assert yaml.safe_load((here / "mine.yaml").read_text())["trainer"]["max_steps"] == 6
    capsys.readouterr()
    main(["configs", NAME, "--output", "-"])
    assert capsys.readouterr().out == SCENES.read_text()
    assert {path.name for path in here.iterdir()} == {copy.name, "mine.yaml"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["overlays/debg"], "The nearest is overlays/debug."),
        (["zzz"], "`pne-seg configs` lists them."),
        (["--output", "x.yaml"], "Give the config's name too."),
        ([NAME, "--output", "none/x.yaml"], "No such file or directory"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["configs", *args])
    assert said in capsys.readouterr().err


def test_the_list_needs_no_torch() -> None:
    script = "import sys, pne_seg.cli as cli; cli.main(['configs']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.endswith("False\n")


@pytest.mark.parametrize("program", ["cli.py", "bin/pne-seg"])
def test_messages_name_the_program_as_it_was_typed(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    for verb in VERBS:
        with contextlib.suppress(SystemExit):
            main([verb, "--help"])
    main([])
    said = capsys.readouterr().out
    typed, other = "python cli.py", "pne-seg"
    if program != "cli.py":
        typed, other = other, typed
    for verb in (*VERBS, "VERB"):
        assert f"{typed} {verb}" in said, verb
    assert f"{other} " not in said


def test_completion_in_bash(here: Path) -> None:
    (here / "camera.yaml").touch()
    (here / "completion").write_text(completion_script("bash"))

    def complete(*words: str) -> list[str]:
        script = (
            'source ./completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pne_seg; '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", script, "bash", "pne-seg", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.split()

    assert complete("") == sorted(VERBS)
    assert complete("fi") == ["fit"]
    assert complete("fit", "--config", "ca") == ["camvid_upernet_resnet18", "camera.yaml"]
    assert complete("fit", "--config", "=", "scenes_up") == [NAME]
    assert complete("configs", "overlays/d") == ["overlays/ddp", "overlays/debug"]
    assert complete("fit", "--trainer.max_s") == ["--trainer.max_steps"]
    assert complete("sweep", "--trainer.max_s") == ["--trainer.max_steps"]
    assert complete("fit", "--data.train_s") == ["--data.train_size"]
    assert complete("fit", "--model.contrast.temp") == ["--model.contrast.temperature"]
    assert complete("predict", "--inp") == ["--input"]
    assert complete("models", "--") == ["--classes", "--encoder", "--help"]
    assert complete("predict", "--data.inp") == []
    assert complete("validate", "--run", "ca") == []  # files, by the shell
