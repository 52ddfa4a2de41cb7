"""The built package, installed and used outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
_NEEDED = ("pne_seg", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")
"""What a build takes from the repository."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    source = tmp_path_factory.mktemp("source")
    for name in _NEEDED:
        if (REPOSITORY / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
        else:
            shutil.copy(REPOSITORY / name, source)
    folder = tmp_path_factory.mktemp("built")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, and this one's other packages."""
    environment = tmp_path_factory.mktemp("installed")
    venv = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(venv, check=True, timeout=100)
    (site,) = environment.glob("lib/python*/site-packages")
    # By path only: an editable install of the checkout has a file there that is not run so.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    (wheel,) = built.glob("*.whl")
    command = [*pip, "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, env=_environment(), check=True, timeout=100)
    return python.parent


def _environment() -> dict[str, str]:
    """The variables of this process, less those with which Python and pip find the checkout."""
    hidden = ("PYTHONPATH", "PYTHONSAFEPATH")
    return {name: value for name, value in os.environ.items() if name not in hidden}


def _run(program: Path, *args: str, folder: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(program), *args],
        cwd=folder,
        env=_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def test_the_wheel_holds_the_package_and_the_configs(built: Path) -> None:
    package = REPOSITORY / "pne_seg"
    expected = {
        str(path.relative_to(REPOSITORY))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    folder = REPOSITORY / "configs"  # studies are run from a checkout
    configs = [*folder.glob("*.*"), *folder.glob("overlays/*")]
    expected |= {f"pne_seg/{path.relative_to(REPOSITORY)}" for path in configs}
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert files == expected
        assert {"pne_seg/py.typed", "pne_seg/export/model_card.md"} < files
        assert "pne_seg/data/classes/ade20k.csv" in files
        assert "pne_seg/configs/overlays/debug.yaml" in files
        name = "configs/ade20k_upernet_swin.yaml"
        assert archive.read(f"pne_seg/{name}") == (REPOSITORY / name).read_bytes()


def test_the_source_distribution_holds_what_a_build_needs(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"configs/overlays/debug.yaml", "LICENSE", "README.md", "setup.py"} <= names


def test_it_lists_and_copies_configs(installed: Path, tmp_path: Path) -> None:
    program = installed / "pne-seg"
    listed = _run(program, "configs", folder=tmp_path)
    assert "scenes_upernet_resnet18" in listed
    assert "pne-seg fit --config NAME" in listed
    _run(program, "configs", "overlays/debug", folder=tmp_path)
    shipped = REPOSITORY / "configs" / "overlays" / "debug.yaml"
    assert (tmp_path / "debug.yaml").read_bytes() == shipped.read_bytes()
    said = _run(program, "configs", "--help", folder=tmp_path)
    assert said.startswith("usage: pne-seg configs")


@pytest.mark.slow
def test_it_trains_by_name_with_a_module_of_the_users(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "my_loss.py").write_text(
        "from torch import nn\nclass Loss(nn.CrossEntropyLoss):\n    pass\n"
    )
    (tmp_path / "torch.py").write_text("raise SystemExit('the user has a file of that name')")
    said = _run(
        installed / "pne-seg",
        *["fit", "--config", "scenes_upernet_resnet18", "--config", "overlays/cpu"],
        *["--model.loss", "my_loss.Loss", "--trainer.max_steps", "2", "--figures.num_images", "0"],
        *["--data.train_size", "4", "--data.val_size", "2", "--data.test_size", "2"],
        *["--data.height", "32", "--data.width", "32", "--trainer.enable_progress_bar", "false"],
        folder=tmp_path,
    )
    run = tmp_path / "runs" / "scenes_upernet_resnet18" / "0"
    assert f"Written to {run.relative_to(tmp_path)}" in said
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["loss"]["class_path"] == "my_loss.Loss"
    assert config["trainer"]["max_steps"] == 2
    begun = (run / "environment.txt").read_text().splitlines()[0]
    assert begun.startswith(f"command: {installed}/pne-seg fit --config scenes_upernet_resnet18")
    assert (run / "checkpoints" / "best.ckpt").is_file()
    # The same run, put elsewhere, may not name the module.
    run.parents[1].rename(tmp_path / "downloads")
    there = str(run.relative_to(tmp_path)).replace("runs", "downloads")
    said = _run(installed / "pne-seg", "test", "--run", there, folder=tmp_path, code=2)
    assert "my_loss.Loss: settings that come from elsewhere may not name" in said
