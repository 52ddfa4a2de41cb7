"""`models` prints what the catalogue knows; a mistake is answered in a few lines."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from pne_seg.cli import main, models
from pne_seg.contrast.component import Projection
from pne_seg.networks import catalogue
from pne_seg.networks.catalogue import METHODS, SHIPPED, Fit, describe
from tests.cli.commands import REPOSITORY, refused

SWIN = "tu-swin_tiny_patch4_window7_224"
SMALL = ["--encoder", "tu-resnet10t", "--encoder", "tu-pvt_v2_b0"]


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What the command prints; it must succeed."""
    capsys.readouterr()
    assert main(["models", *args]) is None
    return capsys.readouterr().out


def test_the_table_says_what_the_catalogue_knows(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, *SMALL, "--classes", "19")
    assert said.startswith("Networks for 19 classes")
    rest = said.partition("tu-resnet10t")[2]
    tables = dict(zip(SMALL[1::2], rest.partition("\nparameters ")[0].split(SMALL[3]), strict=True))
    for encoder, table in tables.items():
        rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
        for method in METHODS:
            record = describe(method, encoder, 19)
            if not isinstance(record, Fit):
                assert method.name not in rows
                continue
            assert rows[method.name][1:] == [
                f"{record.parameters:,}",
                f"{record.auxiliary_parameters:,}" if method.fcn_head else "–",
                str(record.divisor),
                *[str(record.feature_channels), "at", f"1/{record.feature_stride}"],
                "1" if record.output_stride == 1 else f"1/{record.output_stride}",
                f"{models.projection_parameters(record.feature_channels):,}",
            ]
    assert "DeepLabV3 on tu-pvt_v2_b0: the encoder cannot be dilated" in said


def test_without_an_encoder_it_shows_the_papers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ENCODERS", ("resnet18",))
    said = shown(capsys)
    assert said.startswith("Networks for 150 classes")
    assert "\nresnet18" in said


def test_nothing_goes_together(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "--encoder", "tu-vit_tiny_patch16_224")
    assert said.count("tu-vit_tiny_patch16_224: ") == len(METHODS)
    assert "parameters" not in said


def test_the_projections_parameters() -> None:
    assert models.projection_parameters(512) == 394_496
    real = Projection(270, 256)
    counted = sum(parameter.numel() for parameter in real.parameters())
    assert models.projection_parameters(270) == counted


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-hrnet_w18_small", SWIN])
def test_what_it_says_of_configs_can_be_pasted(
    capsys: pytest.CaptureFixture[str], encoder: str
) -> None:
    """The parser that reads configs gets out of it what the catalogue builds."""
    said = shown(capsys, "--encoder", encoder)
    block = said.partition("In a config, under `model`:\n")[2]
    slots = [yaml.safe_load(line) for line in block.splitlines() if "network:" in line]
    assert len(slots) == said.count("at 1/4") + said.count("at 1/8")
    wanted = {method.class_path: method.init_args(encoder) for method in METHODS}
    for slot in slots:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--network", type=nn.Module)
        read = parser.parse_object(slot).as_dict()["network"]
        assert read["init_args"].items() >= wanted[read["class_path"]].items()
        assert not read.get("dict_kwargs")


def test_it_names_the_shipped_configs(capsys: pytest.CaptureFixture[str]) -> None:
    """Each config of the paper's methods is known, and none that is known is missing."""
    methods = {method.class_path: method.name for method in METHODS}
    found: dict[tuple[str, str], set[str]] = {}
    for path in (REPOSITORY / "configs").glob("*.yaml"):
        network = yaml.safe_load(path.read_text())["model"]["network"]
        encoder = network["init_args"]["encoder_name"]
        if network["class_path"] not in methods:
            continue  # none of the paper's methods, or a small network of the first steps
        name = re.sub("^(ade20k|cityscapes|coco_stuff10k|coco_stuff)_", "", path.stem)
        found.setdefault((methods[network["class_path"]], encoder), set()).add(name)
    assert found == {pair: {name} for pair, name in SHIPPED.items()}
    said = shown(capsys, "--encoder", "tu-resnet101c.gluon_in1k")
    assert "# DeepLabV3 on tu-resnet101c.gluon_in1k: configs/*_deeplabv3_resnet101.yaml" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--classes", "1"], "--classes 1: expected a whole number, 2 or more."),
        (["--classes", "-5"], "--classes"),
        (["--classes", "many"], "--classes many: expected a whole number, 2 or more."),
        (["--classes"], "--classes expected one argument"),
        (["--clases", "3"], "There is no setting --clases.\n  The nearest is --classes."),
        (["--encod", "resnet18"], "There is no setting --encod.\n  The nearest is --encoder."),
        (["--zzzzz=1"], "There is no setting --zzzzz.\n  `--help` lists the settings."),
        (["resnet18"], "'resnet18' belongs to no option."),
        (["--encoder", "resnet19"], "resnet19: no encoder of that name.\n  The nearest is resnet1"),
        (
            ["--encoder", "resnet18", "--encoder", "swin_tiny_patch4_window7_224"],
            "The nearest is tu-swin_tiny_patch4_window7_224.",
        ),
    ],
)
def test_a_mistake(capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    assert said in refused(capsys, "models", *args)


def test_it_needs_no_lightning_and_no_wide_screen() -> None:
    script = """
import sys
from pne_seg.cli import main
main(["models", "--encoder", "tu-resnet10t"])
print([name for name in ("lightning", "torchmetrics", "albumentations") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.endswith("[]\n")
    rows = [line for line in done.stdout.splitlines() if "at 1/4" in line or "at 1/8" in line]
    assert len(rows) == len(METHODS)
    assert all(line.rstrip()[-1].isdigit() for line in rows)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["models", "--help"])
    assert not caught.value.code
    listed = capsys.readouterr().out
    assert "--classes" in listed
    assert "--encoder" in listed
    assert "pne-seg models" in listed
