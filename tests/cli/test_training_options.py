"""Settings of a training given on the command line, and those that cannot work refused early."""

import contextlib
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from tests.cli.commands import DRY, REPOSITORY, SCENES, SMALL, command, refused
from tests.test_configs import NARROW

SWIN = REPOSITORY / "configs" / "ade20k_upernet_swin.yaml"
DEEPLAB = REPOSITORY / "configs" / "ade20k_deeplabv3_resnet101.yaml"
SIZE = ["--data.height", "64", "--data.width", "64"]
ON_SCENES = ["--data", "Scenes", *SMALL, *SIZE, "--model.network.encoder_weights", "null"]
LOSSES = "segmentation_models_pytorch.losses"


def narrow_swin(*args: str) -> list[object]:
    width = ["--model.network.decoder_channels", "16", *NARROW["upernet_swin"]]
    return ["--config", SWIN, *ON_SCENES, *DRY, *width, *args]


def test_drop_path_comes_from_the_command_line() -> None:
    run = command("fit", *narrow_swin("--model.network.drop_path_rate", "0.2"))
    rates = [
        float(module.drop_prob)
        for module in run.model.network.modules()
        if type(module).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.2)


def test_the_swin_recipe_spares_norms_and_position_biases() -> None:
    run = command("fit", *narrow_swin())
    decayed, spared = run.trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    names = {id(value): name for name, value in run.model.named_parameters()}
    spared_names = [names[id(value)] for value in spared["params"]]
    assert sum("relative_position_bias_table" in name for name in spared_names) == 5
    assert not any("qkv" in name or "mlp" in name for name in spared_names)
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_losses_by_class_path() -> None:
    dice = ["--model.extra_losses.dice", f"{LOSSES}.DiceLoss"]
    dice += ["--model.extra_losses.dice.mode", "multiclass", "--model.extra_loss_weights.dice", "2"]
    hard = ["--model.loss", "OHEMCrossEntropy", "--model.loss.threshold", "0.8"]
    run = command("fit", "--config", SCENES, *SMALL, *DRY, *dice, *hard)
    metrics = run.trainer.callback_metrics
    parts = metrics["train/loss_ohem"] + 2 * metrics["train/loss_dice"]
    total = parts + 1.3 * metrics["train/loss_contrast"]
    assert float(metrics["train/loss"]) == pytest.approx(float(total), rel=1e-5)


@pytest.mark.slow
def test_a_moving_average_of_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--trainer.default_root_dir", str(tmp_path), "--figures.num_images", "0"]
    steps = ["--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    run = command("fit", "--config", SCENES, *SMALL, *steps, *place, "--ema.decay", "0.5")
    callbacks = run.trainer.callbacks  # type: ignore[attr-defined]
    assert any(isinstance(callback, EMAWeightAveraging) for callback in callbacks)
    assert run.run_folder is not None
    saved = torch.load(run.run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    average, current = saved["state_dict"], saved["current_model_state"]
    name = "network.segmentation_head.0.weight"
    assert not torch.equal(average[name], current[name])
    resumed = [
        *steps[2:],
        "--trainer.max_epochs",
        "3",
        "--ckpt_path",
        str(run.run_folder / "checkpoints/last.ckpt"),
    ]
    again = command("fit", "--config", run.run_folder / "config.yaml", *place, *resumed)
    said = refused(capsys, "fit", "--config", SCENES, *SMALL, *place, *resumed)
    assert "resumes only with the averaging: give its ema settings" in said
    assert again.trainer.global_step == 6
    command("validate", "--run", again.run_folder, "--figures.num_images", "0")


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision", "bf16-mixed"],
        ["--trainer.gradient_clip_val", "1.0"],
        ["--trainer.accumulate_grad_batches", "2"],
        ["--model.parameter_groups.head_lr", "10"],
        ["--model.loss.average", "all"],
        ["--model.contrast.sampling", "random"],
        ["--model.dropout", "0.1"],
        ["--model.auxiliary", "FCNHead", "--model.auxiliary.weight", "0.2"],
        ["--model.network.encoder_name", "tu-resnet10t"],
        [
            *["--model.network", "pne_seg.networks.HRNetV2"],
            *["--model.network.encoder_name", "tu-hrnet_w18_small"],
            *["--model.network.encoder_weights", "null"],
        ],
        [
            *["--model.network", "segmentation_models_pytorch.DeepLabV3"],
            *["--model.network.encoder_name", "resnet18"],
            *["--model.network.encoder_weights", "null"],
        ],
        [
            *["--model.network", "pne_seg.networks.TorchvisionNetwork"],
            *["--model.network.name", "deeplabv3_mobilenet_v3_large"],
            *["--model.network.weights_backbone", "null"],
        ],
    ],
    ids=lambda options: "-".join(options[:2]).lstrip("-"),
)
def test_flags(options: list[str]) -> None:
    if "--model.loss.average" in options:
        options = ["--model.loss", "pne_seg.losses.CrossEntropy", *options]
    run = command("fit", "--config", SCENES, *SMALL, *SIZE, *DRY, *options)
    assert run.trainer.callback_metrics["train/loss"].isfinite()


# ---- what cannot work --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--data.batch_size", "1"], "One image per device is too few to train this network"),
        (["--trainer.sync_batchnorm", "true"], "synchronizes batch normalization on GPUs only"),
        (["--model.optimizer.lr", "-1"], "Invalid learning rate: -1"),
        (["--model.parameter_groups.head_lr", "0"], "head_lr must be above 0"),
        (["--model.dropout", "1.0"], "dropout must be at least 0 and below 1, got 1.0"),
        (["--model.extra_loss_weights.dice", "1"], "names dice, which extra_losses has not"),
        (["--model.auxiliary", "FCNHead", "--model.auxiliary.stage", "9"], "there is no stage 9"),
        (["--model.auxiliary", "AuxiliaryLogits"], "has no module 'decoder.region_classifier'"),
        (["--model.network.encoder_name", "tu-resnet19"], "The nearest is tu-resnet18."),
        (
            ["--model.network.encoder_weights", "imagnet"],
            "encoder_weights imagnet: the encoder resnet18 has no such weights. Give one of ",
        ),
        (
            ["--model.network.dict_kwargs", "{drop_path_rate: 0.1}"],
            "the encoder resnet18 takes no settings",
        ),
        (["--model.loss", "CrossEntropi"], "The nearest is CrossEntropy"),
        (["--model.schedule.min_lr", "0.1"], "min_lr 0.1 is above the learning rate 0.001"),
        (
            ["--model.loss", "CrossEntropy", "--model.loss.class_weights", "[1, 2, 3]"],
            "CrossEntropy has 3 class weights for 11 classes",
        ),
        (
            [
                *["--model.auxiliary", "FCNHead", "--model.auxiliary.loss", "OHEMCrossEntropy"],
                *["--model.auxiliary.loss.class_weights", "[1, 2]"],
            ],
            "OHEMCrossEntropy has 2 class weights for 11 classes",
        ),
        (
            [
                *["--model.extra_losses.dice", f"{LOSSES}.DiceLoss"],
                *["--model.extra_losses.dice.mode", "multiclass"],
                *["--model.extra_loss_weights.dice", "-1"],
            ],
            "extra_loss_weights.dice must be 0 or more, got -1",
        ),
        (
            [
                *["--model.extra_losses.keys", f"{LOSSES}.DiceLoss"],
                *["--model.extra_losses.keys.mode", "multiclass"],
            ],
            "extra_losses names 'keys': give it another name",
        ),
        (["--model.auxiliary", "PNE"], "PNE is a contrast: give it as 'contrast'"),
        (
            [
                *["--model.network.encoder_name", "tu-resnet10t.c3_in2k"],
                *["--model.network.encoder_weights", "imagenet"],
            ],
            "The nearest is tu-resnet10t.c3_in1k.",
        ),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, list) else "",
)
def test_refused_before_a_run_has_a_folder(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = ["--trainer.default_root_dir", tmp_path]
    cpu = ["--trainer.accelerator", "cpu"]
    assert said in refused(capsys, "fit", "--config", SCENES, *SMALL, *cpu, *place, *args)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("tu-hrnet_w18", "'tu-hrnet_w18' cannot be built at output stride 8"),
        ("tu-swin_tiny_patch4_window7_224", "cannot be built at output stride 8"),
        ("tu-resnet101d1", "The nearest is tu-resnet101d"),
    ],
)
def test_encoders_that_the_method_does_not_take(
    encoder: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--config", DEEPLAB, *ON_SCENES, *DRY, "--model.network.encoder_name", encoder]
    assert said in refused(capsys, "fit", *args)


def test_a_mistyped_encoder_setting(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "fit", *narrow_swin("--model.network.drop_path", "0.2"))
    assert "The nearest is --model.network.drop_path_rate." in said
    said = refused(capsys, "fit", *narrow_swin("--model.network.dict_kwargs.droppath", "0.2"))
    assert "The encoder 'tu-swin_tiny_patch4_window7_224.ms_in1k' has no setting 'droppath'" in said
    swap = ["--config", SWIN, *ON_SCENES, *DRY]
    swap += ["--model.network.encoder_name", "tu-hrnet_w18_small"]
    assert "no setting 'drop_path_rate': correct it, or set it to null" in refused(
        capsys, "fit", *swap
    )


def test_an_encoder_of_smp_drops_no_settings_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = ["--config", SWIN, *ON_SCENES, *DRY, "--model.network.encoder_name", "resnet18"]
    assert "'resnet18' takes no further settings, got 'drop_path_rate'" in refused(
        capsys, "fit", *args
    )
    smps = ["--config", SCENES, *SMALL, *DRY, "--model.network.dict_kwargs.depths", "[1]"]
    assert "dict_kwargs sets depths, but the encoder resnet18" in refused(capsys, "fit", *smps)


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "tu-hrnet_w18_small"])
def test_another_encoder_in_the_place_of_swin(encoder: str) -> None:
    network = ["--model.network.encoder_name", encoder, "--model.network.decoder_channels", "16"]
    off = ["--model.network.drop_path_rate", "null"]
    run = command("fit", "--config", SWIN, *ON_SCENES, *DRY, *network, *off)
    channels = {"tu-resnet10t": [64, 128, 256, 512], "tu-hrnet_w18_small": [16, 32, 64, 128]}
    assert run.model.network.encoder.out_channels[2:] == channels[encoder]


def test_a_method_without_the_loss_that_it_is_published_with_is_said_so() -> None:
    network = ["--model.network", "pne_seg.networks.OCRNet", "--model.network.encoder_name"]
    network += ["tu-hrnet_w18_small", "--model.network.encoder_weights", "null"]
    args = ["--config", SCENES, *SMALL, *SIZE, *DRY, *network]
    with pytest.warns(UserWarning, match="without a loss on its first logits"):
        command("fit", *args)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without a loss on its first logits")
        command("fit", *args, "--model.auxiliary", "AuxiliaryLogits")


def test_a_schedule_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    endless = ["--trainer.max_steps", "-1", "--trainer.max_epochs", "-1"]
    endless += ["--trainer.max_time", "00:00:01:00", "--trainer.accelerator", "cpu"]
    off = ["--trainer.logger", "false", "--trainer.enable_checkpointing", "false"]
    with contextlib.chdir(Path(tempfile.mkdtemp())):
        said = refused(capsys, "fit", "--config", SCENES, *SMALL, *endless, *off)
    assert "The schedule's length is unknown" in said


def test_diagnostics_of_the_contrast(tmp_path: Path) -> None:
    place = ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    steps = ["--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"]
    diagnose = ["--trainer.callbacks", "ContrastDiagnostics", "--trainer.callbacks.num_images", "2"]
    run = command("fit", "--config", SCENES, *SMALL, *steps, *place, *diagnose)
    assert run.run_folder is not None
    assert (run.run_folder / "figures" / "embeddings.png").is_file()
    named = (run.run_folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/gradient_contrast", "train/contrast_used", "val/embedding_wrong_within"} <= {
        *named
    }
    # The saved config turns it on again.
    assert "num_images: 2" in run.run_folder.joinpath("config.yaml").read_text()
