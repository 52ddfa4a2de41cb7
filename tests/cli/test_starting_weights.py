"""Where a training starts: a file's fitting weights, a checkpoint exactly, or pretrained ones."""

from pathlib import Path

import pytest
import torch
import yaml

from pne_seg import Scenes
from pne_seg.cli import main
from pne_seg.data.base import Split
from pne_seg.data.samples import Sample
from pne_seg.data.scenes import SceneDataset
from tests.cli.commands import REPOSITORY, command, refused, write_config

NO_FIGURES = ["--figures.num_images", "0"]


class FewerLabels(SceneDataset):
    """Scenes whose labels above 2 are ignored."""

    def read(self, index: int) -> Sample:
        sample = super().read(index)
        labels = sample.labels.copy()
        labels[labels > 2] = 255
        return sample._replace(labels=labels)


class ThreeScenes(Scenes):
    """Scenes with three classes."""

    class_names = Scenes.class_names[:3]
    palette = Scenes.palette[:3]

    def dataset(self, split: Split) -> SceneDataset:
        whole = super().dataset(split)
        return FewerLabels(split, len(whole), whole.size, whole.seed)


THREE = ["--data", f"{__name__}.ThreeScenes", "--data.train_size", "4", "--data.val_size", "1"]
SMALL = ["--data.height", "32", "--data.width", "48", "--data.batch_size", "4"]


def test_fine_tuning_on_other_classes(
    fitted: Path, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = fitted / "checkpoints" / "best.ckpt"
    before = source.read_bytes()
    caplog.set_level("INFO")
    place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES, "--name", "tuned"]
    run = command("fit", "--config", tiny, *THREE, *SMALL, *place, "--model.init_from", source)
    said = caplog.text
    assert f"Weights from {source}" in said
    assert "trained on other classes; taken by name: sky, building, road; not used: " in said
    assert "skipped for its shape" not in said
    assert run.checkpoint is None
    assert run.trainer.global_step == 1
    assert run.model.num_classes == 3
    assert source.read_bytes() == before

    # The tuned run is scored from its own checkpoint: the file that it began with may be gone.
    assert run.run_folder is not None
    saved = yaml.safe_load((run.run_folder / "config.yaml").read_text())
    assert saved["model"]["init_from"] == str(source)
    saved["model"]["init_from"] = str(tmp_path / "gone.ckpt")
    write_config(run.run_folder / "config.yaml", saved)
    command("validate", "--run", run.run_folder, *NO_FIGURES)


def test_fine_tuning_begins_with_the_file_s_weights(fitted: Path, tiny: Path) -> None:
    source = fitted / "checkpoints" / "best.ckpt"
    weights = torch.load(source, weights_only=True)["state_dict"]
    no_step = ["--trainer.fast_dev_run", "true", "--model.optimizer.lr", "0"]
    still = ["--model.optimizer.weight_decay", "0"]
    run = command("fit", "--config", tiny, *no_step, *still, "--model.init_from", source)
    for name, value in run.model.named_parameters():
        assert torch.equal(value, weights[name]), name
    assert run.trainer.global_step == 1  # from the start, unlike a resume


def test_a_resume_does_not_read_the_file_again(
    fitted: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "gone.ckpt"
    last = fitted / "checkpoints" / "last.ckpt"
    config = write_config(tmp_path / "x.yaml", {"model": {"init_from": str(missing)}})
    args = ["--config", tiny, "--config", config, "--trainer.fast_dev_run", "true"]
    command("fit", *args, "--ckpt_path", last)
    said = refused(capsys, "fit", *args)
    assert said == f"error: {missing}: no such file or folder."
    said = refused(capsys, "fit", *args, "--ckpt_path", last, "--model.init_from", last)
    assert "Give one of them." in said


def test_weights_of_another_network_are_refused(
    fitted: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    source = fitted / "checkpoints" / "best.ckpt"
    place = ["--trainer.default_root_dir", tmp_path]
    said = refused(capsys, "fit", "--config", config, *place, "--model.init_from", source)
    assert f"{source}: nothing in it fits the network." in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet10t"])
def test_pretrained_weights_that_cannot_be_fetched(
    encoder: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    network = ["--model.network.encoder_name", encoder]
    args = [*network, "--model.network.encoder_weights", "imagenet"]
    said = refused(capsys, "fit", "--config", config, *args)
    assert f"The pretrained weights of {encoder} cannot be fetched" in said
    assert " …)" in said  # the hub's long reason, cut between two words
    assert "--model.network.encoder_weights null" in said


def test_the_source_is_named_before_the_hub_is_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    with pytest.raises(SystemExit):
        main(["validate", "--config", str(config), "--weights", "hf://some/one"])
    before, after = capfd.readouterr().err.split("error: ")
    assert before == "Looking for hf://some/one\n"
    assert after.startswith("hf://some/one: not in the cache")


def test_scoring_fetches_no_pretrained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = REPOSITORY / "configs" / "scenes_upernet_resnet18.yaml"
    small = ["--data.train_size", "2", "--data.val_size", "1", *SMALL, "--data.batch_size", "2"]
    quick = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", *NO_FIGURES]
    place = ["--trainer.default_root_dir", tmp_path]
    run = command("fit", "--config", config, *small, *quick, *place)
    assert run.run_folder is not None
    saved = yaml.safe_load((run.run_folder / "config.yaml").read_text())
    saved["model"]["network"]["init_args"]["encoder_weights"] = "imagenet"
    write_config(run.run_folder / "config.yaml", saved)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    command("validate", "--run", run.run_folder, *NO_FIGURES)
    # Nor does a resume, whose folder still says how the first run began.
    last = run.run_folder / "checkpoints" / "last.ckpt"
    more = ["--ckpt_path", last, "--trainer.max_epochs", "2", "--trainer.max_steps", "-1", *place]
    again = command("fit", "--config", run.run_folder / "config.yaml", *more)
    assert again.run_folder is not None
    written = yaml.safe_load((again.run_folder / "config.yaml").read_text())
    assert written["model"]["network"]["init_args"]["encoder_weights"] == "imagenet"


def test_a_resume_with_another_training_term_is_refused(
    fitted: Path, tiny: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    args = ["--config", tiny, "--ckpt_path", fitted / "checkpoints" / "last.ckpt"]
    args += ["--trainer.default_root_dir", tmp_path, "--trainer.max_epochs", "2"]
    said = refused(capsys, "fit", *args, "--model.contrast", "null")
    assert "its contrast, auxiliary head or network is another" in said
    assert "init_from" in said
