"""Every shipped config: complete, short, and able to train."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from torch import nn

from tests.cli.commands import DRY, QUICK, REPOSITORY, SMALL, command
from tests.data.camvid_tree import write_tree
from tests.data.miniature import (
    Expected,
    write_ade20k,
    write_cityscapes,
    write_coco_10k,
    write_coco_164k,
    write_folder,
)

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
OVERLAYS = sorted((REPOSITORY / "configs" / "overlays").glob("*.yaml"))
OTHERS = ("scenes", "camvid", "folder")
OF_BENCHMARKS = [path for path in CONFIGS if not path.stem.startswith(OTHERS)]
FURTHER = ("ade20k_dpt_vit", "ade20k_segformer_b2", "ade20k_upernet_convnext")
OF_THE_PAPER = [path for path in OF_BENCHMARKS if path.stem not in FURTHER]

# Each method's network made narrow by overrides alone. The names of its settings stay checked.
NARROW = {
    "deeplabv3": ["--model.network.encoder_name", "tu-resnet10t"],
    "hrnetv2": ["--model.network.encoder_name", "tu-hrnet_w18_small"],
    "ocrnet": ["--model.network.encoder_name", "tu-hrnet_w18_small"],
    "upernet_resnet": ["--model.network.encoder_name", "tu-resnet10t"],
    "upernet_swin": [
        *["--model.network.dict_kwargs.embed_dim", "24"],
        *["--model.network.dict_kwargs.depths", "[1, 2, 1, 1]"],
        *["--model.network.dict_kwargs.num_heads", "[1, 2, 4, 8]"],
    ],
    "upernet_convnext": ["--model.network.encoder_name", "tu-convnext_atto"],
    "segformer": [
        *["--model.network.encoder_name", "mit_b0"],
        *["--model.network.decoder_segmentation_channels", "16"],
    ],
    "dpt": [
        *["--model.network.encoder_name", "tu-vit_tiny_patch16_224"],
        *["--model.network.decoder_intermediate_channels", "[8, 16, 24, 32]"],
    ],
}
WITHOUT_WIDTH = ("hrnetv2", "segformer", "dpt")
WITHOUT_AUXILIARY = ("hrnetv2", "segformer", "dpt")
RANDOM = ["--model.network.encoder_weights", "null"]
SMALL_CROPS = [
    *["--data.crop_size", "[64, 64]", "--data.resize_base", "[128, 64]"],
    *["--data.batch_size", "2", "--data.eval_batch_size", "1"],
]
TREES: dict[str, Callable[[Path], Expected]] = {
    "cityscapes": write_cityscapes,
    "ade20k": write_ade20k,
    "coco_stuff": write_coco_164k,
    "coco_stuff10k": write_coco_10k,
}
CONTRAST = pytest.mark.parametrize(
    "contrast", [[], ["--model.contrast", "null"]], ids=["pne", "baseline"]
)


def method(config: Path) -> str:
    return next(name for name in NARROW if name in config.stem)


def narrow(config: Path) -> list[str]:
    name = method(config)
    width = [] if name in WITHOUT_WIDTH else ["--model.network.decoder_channels", "16"]
    return [*NARROW[name], *width]


def data_set(config: Path) -> str:
    return config.stem.partition(f"_{method(config)[:3]}")[0]


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature of each data set of the paper, as it is distributed."""
    root = tmp_path_factory.mktemp("trees")
    for name, write in TREES.items():
        write(root / name)
    return root


def check_steps(config: Path, trees: Path, contrast: list[str], *overrides: str) -> None:
    data = ["--data.root", trees / data_set(config), *SMALL_CROPS]
    run = command("fit", "--config", config, *data, *DRY, *RANDOM, *overrides, *contrast)
    metrics = run.trainer.callback_metrics
    assert run.trainer.global_step == 1
    assert metrics["train/loss"].isfinite()
    assert metrics["val/loss"].isfinite()
    assert ("train/loss_contrast" in metrics) is not bool(contrast)
    assert ("train/loss_auxiliary" in metrics) is (method(config) not in WITHOUT_AUXILIARY)


@pytest.mark.parametrize("config", OF_BENCHMARKS, ids=lambda path: path.stem)
def test_each_config_of_a_benchmark_trains_and_validates(config: Path, trees: Path) -> None:
    check_steps(config, trees, [], *narrow(config))


@pytest.mark.parametrize("name", NARROW)
def test_each_methods_baseline_trains(name: str, trees: Path) -> None:
    config = next(path for path in OF_BENCHMARKS if name in path.stem)
    check_steps(config, trees, ["--model.contrast", "null"], *narrow(config))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [path for path in OF_BENCHMARKS if "ade20k" in path.stem or "upernet_resnet" in path.stem],
    ids=lambda path: path.stem,
)
def test_each_network_trains_at_full_width(config: Path, trees: Path) -> None:
    check_steps(config, trees, [])


@CONTRAST
@pytest.mark.parametrize(
    "config", sorted(set(CONFIGS) - set(OF_BENCHMARKS)), ids=lambda path: path.stem
)
def test_each_other_config_takes_a_training_step(
    config: Path, contrast: list[str], tmp_path: Path
) -> None:
    if config.stem.startswith("scenes"):
        small = SMALL
    else:
        write = write_tree if config.stem.startswith("camvid") else write_folder
        write(tmp_path / "data")
        small = ["--data.root", str(tmp_path / "data"), "--data.batch_size", "2"]
        small += ["--data.crop_size", "[64, 64]", *RANDOM]
    run = command("fit", "--config", config, *small, *DRY, *contrast)
    assert run.trainer.global_step == 1
    assert run.trainer.callback_metrics["train/loss"].isfinite()
    assert ("train/loss_contrast" in run.trainer.callback_metrics) is not bool(contrast)


@pytest.mark.parametrize("config", [*CONFIGS, *OVERLAYS], ids=lambda path: path.stem)
def test_each_config_is_short_and_says_what_it_is(config: Path) -> None:
    lines = config.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("# ")


CLASSES = {
    **{"deeplabv3": "DeepLabV3", "hrnetv2": "HRNetV2", "ocrnet": "OCRNet"},
    **{"upernet_resnet": "UPerNet", "upernet_swin": "UPerNet"},
}
# With the tag of the weights that the published baselines began with.
ENCODERS = {
    "deeplabv3": "tu-resnet101c.gluon_in1k",
    "hrnetv2": "tu-hrnet_w48.ms_in1k",
    "ocrnet": "tu-hrnet_w48.ms_in1k",
    "upernet_resnet": "tu-resnet101c.gluon_in1k",
    "upernet_swin": "tu-swin_tiny_patch4_window7_224.ms_in1k",
    "ade20k_upernet_swin_base": "tu-swin_base_patch4_window12_384.ms_in22k",
}
# images a step, crop, steps: RECIPES of the published baselines
RECIPES = {
    "cityscapes": (8, [512, 1024], {40000, 80000}),
    "ade20k": (16, [512, 512], {80000, 160000}),
    "coco_stuff": (16, [512, 512], {80000, 320000}),
    "coco_stuff10k": (16, [512, 512], {20000, 40000}),
}


@pytest.mark.parametrize("config", OF_THE_PAPER, ids=lambda path: path.stem)
def test_each_config_of_the_paper_follows_the_recipe(config: Path) -> None:
    content = yaml.safe_load(config.read_text())
    data, model = content["data"]["init_args"], content["model"]
    images, crop, steps = RECIPES[data_set(config)]
    assert (data["batch_size"], data["crop_size"]) == (images, crop)
    assert content["trainer"]["max_steps"] in steps
    assert model["contrast"]["init_args"]["weight"] == 1.3
    settings, schedule = model["optimizer"]["init_args"], model["schedule"]["init_args"]
    if "swin" in config.stem:
        assert model["optimizer"]["class_path"] == "torch.optim.AdamW"
        assert settings == {"lr": 6e-5, "weight_decay": 0.01}
        assert schedule == {"power": 1.0, "warmup_steps": 1500}
        assert model["network"]["init_args"]["drop_path_rate"] == 0.3
        assert not any(model["parameter_groups"].values())
    else:
        assert model["optimizer"]["class_path"] == "torch.optim.SGD"
        assert settings == {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
        assert schedule == {"power": 0.9, "min_lr": 1e-4}
    name = method(config)
    assert model["dropout"] == (0.0 if name in ("hrnetv2", "ocrnet") else 0.1)
    assert model["loss"]["class_path"] == "pne_seg.losses.CrossEntropy"
    assert model["loss"]["init_args"] == {"average": "all"}
    network = model["network"]
    assert network["class_path"] == f"pne_seg.networks.{CLASSES[name]}"
    assert network["init_args"]["encoder_name"] == ENCODERS.get(config.stem, ENCODERS[name])
    assert network["init_args"]["encoder_weights"] == "imagenet"
    assert set(network["init_args"]) <= {"encoder_name", "encoder_weights", "drop_path_rate"}
    head = model["auxiliary"]
    if name == "hrnetv2":
        assert head is None
    else:
        kind = "AuxiliaryLogits" if name == "ocrnet" else "FCNHead"
        assert head["class_path"] == f"pne_seg.networks.{kind}"
        after_norm = {"feature_module": "decoder.feature_norms.2"} if "swin" in name else {}
        assert head["init_args"] == {"weight": 0.4} | after_norm


def test_further_configs_follow_their_recipes(trees: Path) -> None:
    """mmsegmentation's, as the head of each file names them."""
    place = ["--data.root", trees / "ade20k", *SMALL_CROPS, *DRY, *RANDOM]
    for name, rate, decay in [
        ("ade20k_dpt_vit", 1e-4, 0.05),
        ("ade20k_segformer_b2", 6e-5, 0.01),
        ("ade20k_upernet_convnext", 1e-4, 0.05),
    ]:
        config = REPOSITORY / "configs" / f"{name}.yaml"
        content = yaml.safe_load(config.read_text())
        data, model = content["data"]["init_args"], content["model"]
        assert (data["batch_size"], data["crop_size"]) == (16, [512, 512])
        assert content["trainer"]["max_steps"] == 160000
        assert model["optimizer"]["class_path"] == "torch.optim.AdamW"
        assert model["optimizer"]["init_args"] == {"lr": rate, "weight_decay": decay}
        assert model["schedule"]["init_args"] == {"power": 1.0, "warmup_steps": 1500}
        assert model["contrast"]["init_args"]["weight"] == 1.3
        run = command("fit", "--config", config, *place, *narrow(config))
        names = {id(p): key for key, p in run.model.named_parameters()}
        found = {
            names[id(p)]: (group["initial_lr"] / rate, group["weight_decay"])
            for group in run.trainer.optimizers[0].param_groups
            for p in group["params"]
        }
        assert len(found) == len(names)
        for key, (share, decayed) in found.items():
            assert share == pytest.approx(_published_share(name, key)), key
            parameter = run.model.get_parameter(key)
            plain = parameter.ndim > 1 and not key.endswith(("pos_embed", "cls_token"))
            norm = isinstance(
                run.model.get_submodule(key.rpartition(".")[0]),
                (nn.LayerNorm, nn.BatchNorm2d),
            )
            kept = plain or (name == "ade20k_segformer_b2" and not norm)
            assert decayed == (decay if kept else 0), key


def _published_share(config: str, key: str) -> float:
    """The rate's multiple by mmsegmentation's constructors, written from their rules."""
    in_encoder = key.startswith("network.encoder.")
    if config == "ade20k_segformer_b2":
        return 1.0 if in_encoder else 10.0
    if not in_encoder:
        return 1.0
    block = re.search(r"model\.blocks\.(\d+)\.", key)
    if config == "ade20k_dpt_vit":  # layer 0 the embedding, 1 … 12 the blocks, 13 the heads
        return float(0.65 ** (13 - (int(block[1]) + 1 if block else 0)))
    stage = re.search(r"stages_(\d)\.blocks\.", key)
    return float(0.9 ** (7 - (int(stage[1]) + 1 if stage else 0)))


def test_the_paper_s_methods_and_data_sets_are_all_there() -> None:
    methods = ("deeplabv3_resnet101", "hrnetv2_hrnet48", "ocrnet_hrnet48", "upernet_swin")
    wanted = {f"{data}_{name}" for data in RECIPES for name in methods}
    assert {path.stem for path in OF_THE_PAPER} == wanted | {
        "ade20k_upernet_swin_base",
        "cityscapes_upernet_resnet101",
    }


@pytest.mark.parametrize("overlay", ["debug", "cpu"])
def test_an_overlay_trains(overlay: str, tmp_path: Path) -> None:
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    path = REPOSITORY / "configs" / "overlays" / f"{overlay}.yaml"
    place = [*QUICK, "--trainer.default_root_dir", str(tmp_path), "--trainer.max_steps", "6"]
    small = [
        *["--data.train_size", "8", "--data.val_size", "4", "--data.height", "32"],
        *["--data.width", "32"],
    ]
    run = command("fit", "--config", config, "--config", path, *place, *small)
    assert run.trainer.global_step == 6
    assert run.datamodule.batch_size == 2
    assert run.run_folder is not None
    assert run.run_folder.parent.name == "scenes_upernet_resnet18"
    assert (run.run_folder / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize("overlay", ["ddp", "colab"])
def test_an_overlay_for_gpus_holds_settings_that_exist(overlay: str) -> None:
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    path = REPOSITORY / "configs" / "overlays" / f"{overlay}.yaml"
    without_gpu = [
        *["--trainer.devices", "1", "--trainer.strategy", "auto"],
        *["--trainer.sync_batchnorm", "false", "--trainer.precision", "32-true"],
    ]
    run = command("fit", "--config", config, "--config", path, *SMALL, *DRY, *without_gpu)
    assert run.trainer.global_step == 1


@pytest.mark.slow
def test_the_readme_s_training_learns(tmp_path: Path) -> None:
    """As shipped, about a minute: far above always saying the most frequent class."""
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    place = ["--trainer.default_root_dir", str(tmp_path), "--trainer.accelerator", "cpu"]
    run = command("fit", "--config", config, *place)
    assert run.run_folder is not None
    metrics = json.loads((run.run_folder / "metrics.json").read_text())
    assert metrics["val/mIoU"] > 0.35 > 10 * metrics["val/majority_class_mIoU"]
    for common in ("sky", "road", "building"):
        assert metrics[f"val/IoU/{common}"] > 0.6
