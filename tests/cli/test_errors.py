"""A mistake is answered in a few lines with the nearest valid name, and exit code 2."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pne_seg.cli import VERBS, main
from tests.cli.commands import DRY, REPOSITORY, command, refused, write_config


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b: 1` as it stands in a file."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


TYPOS = [
    ("trainer.max_epoch", "trainer.max_epochs"),
    ("trainer.max_epohcs", "trainer.max_epochs"),
    ("trainr.max_epochs", "trainer.max_epochs"),
    ("seed_everythin", "seed_everything"),
    ("model.networks", "model.network"),
    ("model.contrst.temperature", "model.contrast.temperature"),
    ("figures.num_image", "figures.num_images"),
    ("model.contrast.init_args.tempertaure", "model.contrast.temperature"),
    ("model.contrast.init_args.wieght", "model.contrast.weight"),  # by **kwargs, from Contrast
    ("model.network.init_args.widht", "model.network.width"),
    ("model.optimizer.init_args.weight_decy", "model.optimizer.weight_decay"),
    ("model.schedule.init_args.total_step", "model.schedule.total_steps"),
    ("data.init_args.batchsize", "data.batch_size"),
]


@pytest.mark.parametrize(("key", "near"), TYPOS)
@pytest.mark.parametrize("place", ["command line", "command line, plain", "file"])
def test_a_mistyped_key(
    tiny: Path, capsys: pytest.CaptureFixture[str], key: str, near: str, place: str
) -> None:
    plain = key.replace(".init_args", "")
    if place == "file":
        args: list[object] = [
            "--config",
            write_config(tiny.with_name("x.yaml"), nested(key, 1)),
        ]
    else:
        args = [f"--{plain if place.endswith('plain') else key}", "1"]
    said = refused(capsys, "fit", "--config", tiny, *args)
    expected = f"error: There is no setting --{plain}.\n  The nearest is --{near}."
    if place == "file":
        line = 1 + key.count(".")  # each part of the key on a line
        expected += f"\n  It stands in {tiny.with_name('x.yaml')}, line {line}."
    assert said == expected


def test_a_mistyped_key_in_a_list(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
trainer:
  callbacks:
  - class_path: pne_seg.callbacks.ContrastDiagnostics
    init_args:
      num_images: 2
  - class_path: lightning.pytorch.callbacks.LearningRateMonitor
    init_args:
      logging_intervall: step
"""
    file = write_config(tiny.with_name("x.yaml"), text)
    said = refused(capsys, "fit", "--config", tiny, "--config", file)
    assert said == (
        "error: There is no setting --trainer.callbacks.logging_intervall.\n"
        "  The nearest is --trainer.callbacks.logging_interval.\n"
        f"  It stands in {file}, line 9."
    )


@pytest.mark.parametrize("verb", ["validate", "predict"])
def test_a_mistyped_key_of_another_command(
    fitted: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    said = refused(capsys, verb, "--run", fitted, "--data.eval_batch_siz", "1")
    assert "The nearest is --data.eval_batch_size." in said


def test_a_key_like_no_other(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "fit", "--config", tiny, "--zzzzzz", "1")
    assert said == "error: There is no setting --zzzzzz.\n  `--help` lists the settings."


@pytest.mark.parametrize(
    ("verb", "said"), [("fti", "Did you mean fit?"), ("tset", "Did you mean test?"), ("xyz", "")]
)
def test_a_mistyped_command(capsys: pytest.CaptureFixture[str], verb: str, said: str) -> None:
    message = refused(capsys, verb)
    assert f"{verb!r} is no command." in message
    assert said in message
    assert all(known in message for known in VERBS)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.batch_size", "many", "int"),
        ("trainer.max_epochs", "many", "int"),
        ("model.contrast.temperature", "warm", "float"),
        ("model.contrast.sampling", "sorted", "'raster'"),
        ("model.optimizer.lr", "big", "float"),
    ],
)
@pytest.mark.parametrize("place", ["command line", "file"])
def test_a_value_of_the_wrong_type(
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: str,
    expected: str,
    place: str,
) -> None:
    args: list[object] = [f"--{key}", value]
    if place == "file":
        *slot, name = key.split(".")
        inner = key if slot == ["trainer"] else ".".join([*slot, "init_args", name])
        args = ["--config", write_config(tiny.with_name("x.yaml"), nested(inner, value))]
    said = refused(capsys, "fit", "--config", tiny, *args)
    assert said.startswith(f"error: --{key} {value}: expected ")
    assert expected in said


@pytest.mark.parametrize(
    ("slot", "name", "near"),
    [
        ("data", "CamVId", "CamVid"),
        ("model.contrast", "PNEE", "PNE"),
        ("model.optimizer", "AdmW", "AdamW"),
        ("model.optimizer", "torch.optim.SGDD", "torch.optim.SGD"),
        ("model.schedule", "WarmupPolly", "WarmupPoly"),
        (
            "model.network",
            "segmentation_models_pytorch.UperNet",
            "segmentation_models_pytorch.UPerNet",
        ),
    ],
)
@pytest.mark.parametrize("place", ["command line", "file"])
def test_an_unknown_class(
    tiny: Path, capsys: pytest.CaptureFixture[str], slot: str, name: str, near: str, place: str
) -> None:
    args: list[object] = [f"--{slot}", name]
    if place == "file":
        content = nested(slot, {"class_path": name})
        args = ["--config", write_config(tiny.with_name("x.yaml"), content)]
    said = refused(capsys, "fit", "--config", tiny, *args)
    assert f"--{slot} {name}: no class of that name." in said
    assert f"The nearest is {near}." in said
    assert (f"It stands in {tiny.with_name('x.yaml')}, line " in said) == (place == "file")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.inference.window", "512", "[512, 512]"),
        ("model.inference.scales", "0.5", "[0.5]"),
        ("model.boundary_widths", "3", "[3]"),
    ],
)
@pytest.mark.parametrize("place", ["command line", "file"])
def test_a_number_in_place_of_a_list(
    tiny: Path, capsys: pytest.CaptureFixture[str], key: str, value: str, expected: str, place: str
) -> None:
    args: list[object] = [f"--{key}", value]
    if place == "file":
        args = ["--config", write_config(tiny.with_name("x.yaml"), nested(key, float(value)))]
    said = refused(capsys, "fit", "--config", tiny, *args)
    if place == "file":
        value, expected = str(float(value)), expected.replace(value, str(float(value)))
    first, *rest = said.splitlines()
    assert first == f"error: --{key} {value}: expected a list such as {expected}."
    assert len(rest) == (place == "file")
    assert all(f"It stands in {tiny.with_name('x.yaml')}, line " in line for line in rest)


@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
def test_a_config_whose_network_is_not_here(
    fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    run = Path(shutil.copytree(fitted, tmp_path / "runs" / "own" / "0"))
    config = run / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["model"]["network"]["class_path"] = "my_nets.Net"
    config.write_text(yaml.safe_dump(content))
    line = config.read_text().splitlines().index("  network:") + 1
    said = refused(capsys, verb, *(["--config", config] if verb == "fit" else ["--run", run]))
    assert said == (
        "error: --model.network my_nets.Net cannot be found here (No module named 'my_nets').\n"
        "  Start where Python finds its file, or install its package.\n"
        f"  It stands in {config}, line {line}."
    )


@pytest.mark.parametrize("name", ["no_such_package.Net", "NoSuchNet"])
def test_a_network_from_nowhere(tiny: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    said = refused(capsys, "fit", "--config", tiny, "--model.network", name)
    assert said.startswith("error: --model.network")
    assert name.partition(".")[0] in said


@pytest.mark.parametrize(
    ("key", "given", "actual"),
    [
        ("model.network.init_args.num_classes", 7, "11"),
        ("model.num_classes", 7, "11"),
        ("model.ignore_index", 7, "255"),
        ("model.class_names", ["sky"], "building"),
    ],
)
@pytest.mark.parametrize("place", ["command line", "file"])
def test_what_contradicts_the_data(
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    given: object,
    actual: str,
    place: str,
) -> None:
    args: list[object] = [f"--{key}", str(given)]
    if place == "file":
        args = ["--config", write_config(tiny.with_name("x.yaml"), nested(key, given))]
    said = refused(capsys, "fit", "--config", tiny, *args)
    assert f"--{key.replace('.init_args', '')}" in said
    assert actual in said or "follows from the data" in said


@pytest.mark.parametrize(
    "spelling",
    [
        ["--model.network.classes", "7"],
        ["--model.network.init_args.classes=7"],
        ["--model.network", "{class_path: segmentation_models_pytorch.FPN, init_args: "
         "{encoder_name: resnet18, encoder_weights: null, classes: 7}}"],
    ],
)  # fmt: skip
def test_a_number_of_classes_under_another_name(
    tiny: Path, capsys: pytest.CaptureFixture[str], spelling: list[str]
) -> None:
    network = {
        "class_path": "segmentation_models_pytorch.FPN",
        "init_args": {"encoder_name": "resnet18", "encoder_weights": None},
    }
    fpn = write_config(tiny.with_name("fpn.yaml"), nested("model.network", network))
    said = refused(capsys, "fit", "--config", tiny, "--config", fpn, *spelling)
    assert "--model.network.classes is 7, but Scenes has 11" in said


def test_the_datas_own_number_of_classes_may_be_said(tiny: Path) -> None:
    said = main(["fit", "--config", str(tiny), "--model.network.num_classes", "11",
                 "--trainer.fast_dev_run", "true"])  # fmt: skip
    assert said is not None


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--model.contrast", "null", "--model.contrast.weight", "2"], ["is null"]),
        (["--model.contrast.temperature", "-1"], ["temperature", "-1"]),
        (["--model.contrast.weight", "-1"], ["weight", "-1"]),
        (["--model.optimizer.lr", "-1"], ["learning rate", "-1"]),
        (["--model.optimizer.weight_decay", "-1"], ["weight_decay", "-1"]),
        (["--data.batch_size", "0"], ["Batch sizes", "0"]),
        (["--data.batch_size", "9"], ["train split", "8 images", "Lower batch_size"]),
        (["--figures.num_images", "9"], ["num_images", "9"]),
        (["--data.train_size", "0"], ["train_size"]),
        (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt does not exist"]),
        (["--ckpt_path", "last"], ["runs/tiny holds no run with"]),
        (["--model.contrast", "{class_path: PNE"], ["--model.contrast", "not valid YAML"]),
        (["stray"], ["'stray' belongs to no key"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (
            ["--model.network", "segmentation_models_pytorch.FPN",
             "--model.network.encoder_weights", "null",
             "--model.network.encoder_name", "resnet19"],
            ["resnet19: no encoder of that name", "The nearest is resnet1"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_run_leaves_no_folder(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "fit", "--config", tiny, *args)
    assert all(part in said for part in parts), said
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_mistake_beside_a_setting_that_takes_any_callable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in every run's own config of a network of smp's, whose `activation` is one."""
    given = ["--model.network.activation", "null", "--model.los", "x"]
    said = refused(capsys, "fit", "--config", "scenes_upernet_resnet18", *given)
    assert "There is no setting --model.los." in said


def test_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing: model.network, data." in refused(capsys, "fit")


def test_data_switched_off(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Missing: data" in refused(capsys, "fit", "--config", tiny, "--data", "null")


def test_an_error_of_a_loaders_worker_comes_without_its_traceback(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.data.camvid_tree import write_tree

    root = write_tree(tmp_path / "camvid", sizes={"train": 4, "val": 2})
    for path in (root / "trainannot").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    args = ["--data", "CamVid", "--data.root", root, "--data.batch_size", "4"]
    dry = ["--trainer.fast_dev_run", "true", "--data.num_workers", "1"]
    said = refused(capsys, "fit", "--config", tiny, *args, *dry)
    assert said.startswith(f"error: {root / 'trainannot'}")
    assert "not a readable image" in said


def test_help_and_typos_answer_before_lightning_loads() -> None:
    script = """
import runpy, sys
for args in ([], ["--help"], ["-h"], ["help"], ["fti"]):
    sys.argv = ["cli.py", *args]
    print(args)
    try:
        runpy.run_path("cli.py", run_name="__main__")
    except SystemExit as stop:
        print("exit", stop.code)
print([name for name in ("lightning", "torchmetrics", "albumentations") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *helps, typo = done.stdout.split("[")[1:-1]
    assert len(helps) == 4
    for said in helps:
        assert all(f"\n    {verb} " in said for verb in VERBS)
    assert typo == "'fti']\nexit 2\n"
    assert "Did you mean fit?" in done.stderr
    assert done.stdout.endswith("[]\n")


def test_a_commands_own_help_lists_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--help"]) is None
    listed = capsys.readouterr().out
    for key in (
        "--model.contrast",
        "--model.optimizer",
        "--trainer.max_epochs",
        "--name",
        "--data",
    ):
        assert key in listed
    assert " fit --config FILE [" in listed
    main(["test", "--help"])
    assert " test (--run DIR | --config FILE) [" in capsys.readouterr().out


def test_a_function_as_network(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = "torchvision.models.segmentation.fcn_resnet50"
    said = refused(capsys, "fit", "--config", tiny, "--model.network", builder)
    assert said.startswith(f"error: --model.network {builder} is a function; expected a class.")
    given = said.partition("Give ")[2].split()
    command("fit", "--config", tiny, *DRY, *given, "--model.network.weights_backbone", "null")
    own = write_config(tiny.with_name("own.yaml"), nested("model.network", f"{__name__}.nested"))
    said = refused(capsys, "fit", "--config", tiny, "--config", own)
    assert f"nested is a function; expected a class.\n  It stands in {own}, line 2." in said
    assert "an nn.Module of yours" in said


def test_a_network_of_one_size(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        *["--trainer.default_root_dir", tiny.parent / "empty"],
        *["--model.network.encoder_name", "tu-vit_tiny_patch16_224"],
        *["--model.network.encoder_weights", "null"],
        *["--model.network.decoder_fusion_channels", "16"],
    ]
    smps = ["--model.network", "segmentation_models_pytorch.DPT", *given]
    said = refused(capsys, "fit", "--config", tiny, *smps)
    assert said.startswith("error: DPT accepts no image of 32×48 pixels: ")
    assert "It accepts 224×224: " in said
    assert not (tiny.parent / "empty").exists()
    command("fit", "--config", tiny, *given, "--model.network", "pne_seg.networks.DPT", *DRY)
    # Crops of the network's size, but larger images in the validation.
    crop = "{class_path: albumentations.RandomCrop, init_args: {height: 224, width: 224}}"
    crops = ["--data.height=224", "--data.width=256", f"--data.transforms=[{crop}]"]
    said = refused(capsys, "fit", "--config", tiny, *smps, *crops, *DRY)
    assert "accepts no image of 224×256 pixels" in said


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["compare", "a", "--outptu", "b"], "There is no setting --outptu.\n  The nearest is"),
        (["configs", "--outptu", "b"], "There is no setting --outptu.\n  The nearest is --output."),
        (["configs", "a", "b"], "'b' belongs to no option."),
        (["sweep", "--trials", "x"], "--trials invalid int value: 'x'"),
    ],
)
def test_flags_of_other_commands(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, *args).startswith(f"error: {expected}")
