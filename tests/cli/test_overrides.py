"""Each slot that an ablation turns, and that nothing of the old choice leaks into the new one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.optim import SGD, AdamW

from pne_seg import (
    PNE,
    CamVid,
    Contrast,
    InfoNCELoss,
    PixelContrast,
    PixelContrastLoss,
    PNELoss,
    Scenes,
)
from pne_seg.cli.command import SegmentationCLI
from pne_seg.contrast import ContrastiveLoss, ContrastResult, prepare
from pne_seg.contrast.component import settings_of
from tests.cli.commands import (
    CAMVID,
    DRY,
    REPOSITORY,
    SCENES,
    SMALL,
    TINY,
    command,
    contents,
    refused,
    write_config,
)
from tests.data.camvid_tree import write_tree

HERE = __name__
DECODER = ["--model.network.decoder_channels", "16"]


class OtherContrast(Contrast):
    """A peer of `PNE` that knows two of its settings, with defaults of its own."""

    def __init__(self, temperature: float = 0.1, weight: float = 0.2, sharpness: int = 3) -> None:
        super().__init__(PNELoss(temperature=temperature), weight=weight, embedding_dim=16)
        self.sharpness = sharpness


class CorrectLoss(ContrastiveLoss):
    """A user's loss: the norm of right pixels' embeddings lies within a margin of 1."""

    def __init__(self, margin: float = 0.5, ignore_index: int = 255) -> None:
        super().__init__()
        self.margin = margin
        self.ignore_index = ignore_index

    def compute(self, embeddings: Tensor, logits: Tensor, target: Tensor) -> ContrastResult:
        logits, labels = prepare(embeddings, logits, target)
        right = logits.argmax(1) == labels
        excess = ((embeddings.norm(dim=1) - 1).abs() - self.margin).relu()
        return ContrastResult((right * excess).mean(), right.sum(), right.sum())

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


class CorrectContrast(Contrast):
    """It as a component."""

    @settings_of(CorrectLoss)
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


class OtherOptimizer(torch.optim.SGD):
    """A peer of `AdamW` that knows its weight decay, with a default of its own."""

    def __init__(
        self, params: Any, lr: float = 0.5, weight_decay: float = 0.25, momentum: float = 0.75
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum)


class TwoClasses(Scenes):
    """Scenes whose pixels are all of one of two classes, 7 being ignored."""

    class_names = ("even", "odd")
    palette = ((0, 0, 0), (255, 255, 255))
    ignore_index = 7

    def dataset(self, split: Any) -> Any:
        data = super().dataset(split)
        read = data.read

        def halve(index: int) -> Any:
            sample = read(index)
            labels = sample.labels % 2
            labels[sample.labels == 255] = 7
            return sample._replace(labels=labels)

        data.read = halve  # type: ignore[method-assign]
        return data


def temperature_and_weight(run: SegmentationCLI) -> tuple[float, float]:
    contrast = run.model.contrast
    assert isinstance(contrast, Contrast)
    assert isinstance(contrast.loss, PNELoss)
    return contrast.loss.temperature, contrast.weight


def shipped(*args: object) -> SegmentationCLI:
    """The config that the README names, small and for one batch."""
    return command("fit", "--config", SCENES, *SMALL, *DECODER, *DRY, *args)


def optimizer_group(run: SegmentationCLI) -> dict[str, Any]:
    return dict(run.trainer.optimizers[0].param_groups[0])


def output_channels(run: SegmentationCLI) -> int:
    run.model.eval()
    with torch.no_grad():
        scores: Tensor = run.model(torch.zeros(1, 3, 32, 32))
    return scores.shape[1]


# ---- the shipped config ------------------------------------------------------------------


def test_what_the_shipped_config_gives() -> None:
    run = shipped()
    assert isinstance(run.model.contrast, PNE)
    assert temperature_and_weight(run) == (1.0, 1.3)
    assert type(run.trainer.optimizers[0]) is AdamW
    assert len(run.model.network.encoder.layer2) == 2
    assert run.model.class_names == list(Scenes.class_names)
    assert {"train/loss_ce", "train/loss_contrast", "train/contrast_pairs"} <= set(
        run.trainer.logged_metrics
    )


def test_no_contrast() -> None:
    run = shipped("--model.contrast", "null")
    assert run.model.contrast is None
    assert not any("contrast" in name for name in run.model.state_dict())
    assert not any("contrast" in name for name in run.trainer.logged_metrics)
    assert "train/loss_ce" in run.trainer.logged_metrics


def test_temperature() -> None:
    run = shipped("--model.contrast.temperature", "0.5")
    assert isinstance(run.model.contrast, PNE)
    assert temperature_and_weight(run) == (0.5, 1.3)


def test_weight_zero_logs_the_term_and_leaves_it_out() -> None:
    run = shipped("--model.contrast.weight", "0")
    assert isinstance(run.model.contrast, PNE)
    assert run.model.contrast.weight == 0
    logged = run.trainer.logged_metrics
    assert logged["train/loss_contrast"] > 0
    assert logged["train/loss"] == logged["train/loss_ce"]


def test_encoder() -> None:
    encoder = shipped("--model.network.encoder_name", "resnet34").model.network.encoder
    # torchvision's ResNet-34 has 3, 4, 6 and 3 blocks; ResNet-18 has 2 of each.
    layers = (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4)
    assert [len(layer) for layer in layers] == [3, 4, 6, 3]


def test_learning_rate() -> None:
    run = shipped("--model.optimizer.lr", "5e-3", "--model.schedule", "null")
    group = optimizer_group(run)
    assert (group["lr"], group["weight_decay"]) == (5e-3, 0.01)


def test_batch_size() -> None:
    run = shipped("--data.batch_size", "4")
    assert run.datamodule.batch_size == 4
    assert next(iter(run.datamodule.train_dataloader()))["image"].shape == (4, 3, 32, 32)


def test_seed() -> None:
    runs = {seed: shipped("--seed_everything", seed) for seed in ("3", "4")}
    assert [run.datamodule.seed for run in runs.values()] == [3, 4]
    weights = {seed: run.model.state_dict() for seed, run in runs.items()}
    assert not torch.equal(
        weights["3"]["network.encoder.conv1.weight"], weights["4"]["network.encoder.conv1.weight"]
    )
    again = shipped("--seed_everything", "3").model.state_dict()
    assert all(torch.equal(again[key], weights["3"][key]) for key in again)


def test_data_root_of_camvid(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "elsewhere")
    args = ["--config", CAMVID, *DECODER, *DRY, "--data.root", root, "--data.batch_size", "2"]
    run = command("fit", *args)
    assert isinstance(run.datamodule, CamVid)
    assert (run.datamodule.root, run.datamodule.scale) == (root, 0.5)
    sizes = [len(run.datamodule.dataset(split)) for split in ("train", "val", "test")]
    assert sizes == [4, 2, 3]
    assert (run.model.num_classes, run.model.ignore_index) == (11, 11)


def test_two_files_merge_left_to_right(tmp_path: Path) -> None:
    overlays: list[dict[str, Any]] = [
        {"model": {"contrast": {"init_args": {"temperature": 0.5, "weight": 0.3}}}},
        {"model": {"contrast": {"init_args": {"weight": 0.4}}}, "seed_everything": 7},
    ]
    files: list[object] = []
    for index, overlay in enumerate(overlays):
        files += ["--config", write_config(tmp_path / f"{index}.yaml", overlay)]
    run = shipped(*files)
    assert temperature_and_weight(run) == (0.5, 0.4)
    assert run.datamodule.seed == 7
    assert run.name == "scenes_upernet_resnet18"


# ---- another class in a slot -------------------------------------------------------------


@pytest.fixture(params=["config", "saved config", "config after config"])
def base(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path, fitted: Path) -> list[object]:
    """PNE at temperature 0.7 and weight 1.1, AdamW at 0.01 with weight decay 0.02; one batch."""
    if request.param == "saved config":
        return ["--config", fitted / "config.yaml", *DRY]
    if request.param == "config":
        return ["--config", tiny, *DRY]
    plain = write_config(tmp_path / "plain.yaml", {**yaml.safe_load(TINY), "name": "plain"})
    return ["--config", plain, "--config", tiny, *DRY]


@pytest.mark.parametrize("how", ["name", "class_path", "dictionary", "file"])
@pytest.mark.parametrize(("given", "expected"), [({}, (0.1, 0.2)), ({"weight": 0.9}, (0.1, 0.9))])
def test_another_contrast_starts_from_its_own_defaults(
    base: list[object], tmp_path: Path, how: str, given: dict[str, Any], expected: object
) -> None:
    name = f"{HERE}.OtherContrast"
    spec = {"class_path": name, "init_args": given}
    spellings: dict[str, list[object]] = {
        "name": ["--model.contrast", name],
        "class_path": ["--model.contrast.class_path", name],
        "dictionary": ["--model.contrast", yaml.safe_dump(spec, default_flow_style=True).strip()],
        "file": ["--config", write_config(tmp_path / "x.yaml", {"model": {"contrast": spec}})],
    }
    swap = spellings[how]
    if how in ("name", "class_path"):
        for key, value in given.items():
            swap += [f"--model.contrast.{key}", str(value)]
    run = command("fit", *base, *swap)
    assert isinstance(run.model.contrast, OtherContrast)
    assert run.model.contrast.sharpness == 3
    assert temperature_and_weight(run) == expected


@pytest.mark.parametrize(
    ("name", "loss", "settings"),
    [
        ("PNE", PNELoss, {"scope": "batch", "scale": "none", "implementation": "reference"}),
        ("PNE", PNELoss, {"project": "used"}),
        ("PNE", PNELoss, {"stop_gradient": "none", "sampling": "random", "num_samples": 9}),
        ("InfoNCE", InfoNCELoss, {"temperature": 0.2, "weight_positives": False}),
        ("PixelContrast", PixelContrastLoss, {"base_temperature": 0.5, "max_views": 20}),
        (f"{HERE}.CorrectContrast", CorrectLoss, {"margin": 0.25}),
    ],
)
def test_losses_in_the_slot_and_their_switches(
    tiny: Path, tmp_path: Path, name: str, loss: type, settings: dict[str, Any]
) -> None:
    given = [f"--model.contrast.{key}={value}" for key, value in settings.items()]
    place = ["--trainer.default_root_dir", tmp_path]
    run = command("fit", "--config", tiny, "--model.contrast", name, *given, *place)
    assert type(run.model.contrast.loss) is loss
    built_loss = run.model.contrast.loss
    state = vars(run.model.contrast) | vars(built_loss)
    state |= vars(getattr(built_loss, "sampler", run))
    assert {key: state[key] for key in settings} == settings
    assert run.trainer.callback_metrics["train/loss_contrast"] > 0
    assert run.run_folder is not None
    # The saved config says the same; so does Python.
    saved = yaml.safe_load((run.run_folder / "config.yaml").read_text())["model"]["contrast"]
    assert saved["class_path"].rpartition(".")[2] == name.rpartition(".")[2]
    again = command("fit", "--config", run.run_folder / "config.yaml", *DRY)
    assert repr(again.model.contrast.loss) == repr(run.model.contrast.loss)
    built = type(run.model.contrast)(**saved["init_args"])
    assert repr(built.loss) == repr(run.model.contrast.loss)
    weights = {"PNE": 1.1, "PixelContrast": 0.1}  # the config's own, the authors'
    assert built.weight == run.model.contrast.weight == weights.get(name, 1.3)


def test_the_custom_loss_of_the_docs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "contrast.md").read_text()
    (code,) = [block for block in page.split("```") if "class MeanMargin" in block]
    (tmp_path / "my_loss.py").write_text(code.removeprefix("python\n"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    after = page[page.index(code) :]
    given = after[after.index("`--model.contrast") + 1 : after.index("my_loss.MeanMargin")]
    run = command(
        "fit", "--config", tiny, *given.split(), "my_loss.MeanMargin",
        "--model.contrast.loss.margin", "0.2", "--trainer.default_root_dir", tmp_path,
    )  # fmt: skip
    assert isinstance(run.model.contrast, Contrast)
    loss = run.model.contrast.loss
    assert type(loss).__name__ == "MeanMargin"
    assert loss.margin == 0.2
    assert run.trainer.callback_metrics["train/loss_contrast"] >= 0
    # Two right pixels of one class at right angles: each is 45° from their mean.
    embeddings = torch.eye(2)[None, :, None]  # (1, 2, 1, 2)
    logits = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 1, 2)
    value = loss(embeddings, logits, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert value.item() == pytest.approx(1 - 0.5**0.5 - 0.2)


def test_a_setting_of_another_loss_is_refused(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap = ["--model.contrast", "PixelContrast", "--model.contrast.scope", "batch"]
    said = refused(capsys, "fit", "--config", tiny, *DRY, *swap)
    assert "scope" in said
    with pytest.raises(TypeError, match="scope"):
        PixelContrast(scope="batch")


def test_a_setting_before_the_class_counts_as_after_it(tiny: Path) -> None:
    early = ["--model.contrast.temperature", "0.4", "--model.contrast", f"{HERE}.OtherContrast"]
    run = command("fit", "--config", tiny, *DRY, *early)
    assert isinstance(run.model.contrast, OtherContrast)
    assert temperature_and_weight(run) == (0.4, 0.2)


def test_the_same_class_keeps_its_settings(base: list[object]) -> None:
    args = ["--model.contrast", "PNE", "--model.contrast.temperature", "0.5"]
    run = command("fit", *base, *args)
    assert isinstance(run.model.contrast, PNE)
    assert temperature_and_weight(run) == (0.5, 1.1)
    assert run.model.contrast.embedding_dim == 8


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([f"{HERE}.OtherOptimizer"], {"lr": 0.5, "weight_decay": 0.25, "momentum": 0.75}),
        (
            [f"{HERE}.OtherOptimizer", "--model.optimizer.lr", "0.1"],
            {"lr": 0.1, "weight_decay": 0.25, "momentum": 0.75},
        ),
        (
            ["torch.optim.SGD", "--model.optimizer.lr", "0.1"],
            {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0},
        ),
        (
            ["SGD", "--model.optimizer.momentum", "0.9"],
            {"lr": 1e-3, "weight_decay": 0.0, "momentum": 0.9},
        ),
    ],
)
def test_another_optimizer_starts_from_its_own_defaults(
    base: list[object], args: list[str], expected: dict[str, float]
) -> None:
    run = command("fit", *base, "--model.schedule", "null", "--model.optimizer", *args)
    assert isinstance(run.trainer.optimizers[0], SGD)
    group = optimizer_group(run)
    assert {key: group[key] for key in expected} == expected


def test_switched_off_and_on_again_starts_afresh(base: list[object]) -> None:
    run = command("fit", *base, "--model.contrast", "null", "--model.contrast", "PNE")
    assert isinstance(run.model.contrast, PNE)
    assert temperature_and_weight(run) == (1.0, 1.3)


# ---- other data --------------------------------------------------------------------------


def test_other_data_decide_classes_names_and_ignore_value(base: list[object]) -> None:
    sizes = ["--data.train_size", "4", "--data.val_size", "2", "--data.height", "32"]
    args = ["--data", f"{HERE}.TwoClasses", *sizes, "--data.width", "32", "--data.num_workers", "0"]
    # What `base` sets for Scenes comes first, and goes.
    run = command("fit", *base, *args, "--data.batch_size", "2")
    assert run.datamodule.batch_size == 2
    assert run.datamodule.eval_batch_size == 8
    assert run.datamodule.sizes["val"] == 2
    model = run.model
    assert (model.num_classes, model.ignore_index, model.class_names) == (2, 7, ["even", "odd"])
    assert output_channels(run) == 2
    assert (model.confusion.num_classes, model.confusion.ignore_index) == (2, 7)
    assert isinstance(model.contrast, PNE)
    assert model.contrast.loss.ignore_index == 7
    assert {"val/IoU/even", "val/IoU/odd"} <= set(run.trainer.callback_metrics)
    assert model.metrics is not None
    labels = torch.stack([sample["mask"] for sample in run.datamodule.val_dataloader().dataset])
    assert int((labels == 7).sum()) > 0
    assert int(model.metrics.matrix.sum()) == int((labels != 7).sum())


def test_camvid_over_the_scenes(base: list[object], tmp_path: Path) -> None:
    root = write_tree(tmp_path / "camvid")
    args = ["--data", "CamVid", "--data.root", root, "--data.batch_size", "2"]
    run = command("fit", *base, *args, "--data.num_workers", "0", "--data.crop_size", "[32, 32]")
    assert isinstance(run.datamodule, CamVid)
    assert (run.datamodule.scale, run.datamodule.eval_batch_size) == (1.0, 8)
    model = run.model
    assert output_channels(run) == model.num_classes == 11
    assert model.class_names == list(CamVid.class_names)
    assert model.ignore_index == model.confusion.ignore_index == 11
    assert isinstance(model.contrast, PNE)
    assert model.contrast.loss.ignore_index == 11


def test_dry_runs_and_overrides_leave_files_as_they_were(fitted: Path) -> None:
    before = contents(fitted.parents[2])
    command("fit", "--config", fitted / "config.yaml", *DRY, "--model.contrast", "null")
    assert contents(fitted.parents[2]) == before
