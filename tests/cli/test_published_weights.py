"""Weights from elsewhere: scored, predicted with, exported and fine-tuned without a run."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import pne_seg
from pne_seg.data import ADE20K
from pne_seg.errors import UserError
from tests.cli.commands import ALLOW, REPOSITORY, SCENES, command, contents, refused, write_config
from tests.data.miniature.ade20k import write_ade20k
from tests.pretrained import golden
from tests.pretrained.mmengine_checkpoint import save_1x
from tests.pretrained.web import become_the_hub, serve

NO_FIGURES = ["--figures.num_images", "0"]


@pytest.fixture
def state(fitted: Path, tmp_path: Path) -> Path:
    """The bare network's weights of a run, in a file of their own."""
    checkpoint = torch.load(fitted / "checkpoints" / "best.ckpt", weights_only=True)
    network = {
        name.removeprefix("network."): tensor
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith("network.")
    }
    torch.save(network, tmp_path / "shared.pth")
    return tmp_path / "shared.pth"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_the_scores_are_the_checkpoints(
    verb: str, fitted: Path, tiny: Path, state: Path, tmp_path: Path
) -> None:
    place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    run = command(verb, "--config", tiny, "--weights", state, *place)
    assert run.checkpoint is None
    assert run.run_folder is not None
    assert run.run_folder.parent == tmp_path / "runs" / "tiny" / "weights" / verb
    assert re.fullmatch("shared-[0-9a-f]{8}", run.run_folder.name)
    metrics = json.loads((run.run_folder / "metrics.json").read_text())
    assert metrics["weights"] == str(state)
    assert "checkpoint" not in metrics
    # By the run's own checkpoint the figures are the same.
    copy = shutil.copytree(fitted, tmp_path / "runs" / "tiny" / "0")
    own = command(verb, "--config", tiny, "--ckpt_path", copy / "checkpoints/best.ckpt", *place)
    assert own.run_folder is not None
    expected = json.loads((own.run_folder / "metrics.json").read_text())
    figures = {key for key in expected if key.startswith(("val/", "test/"))}
    assert len(figures) > 10
    assert {key: metrics[key] for key in figures} == {key: expected[key] for key in figures}
    # The same again takes the same place, also by another path; another normalization a second,
    # other weights of the same name one of their own.
    (tmp_path / "there").mkdir()
    around = tmp_path / "there" / ".." / "shared.pth"
    given = ["--config", tiny, *place]
    for source in (state, around):
        assert command(verb, *given, "--weights", source).run_folder == run.run_folder
    shifted = command(verb, *given, "--weights", state, "--model.mean", "[0, 0, 0]")
    assert shifted.run_folder == run.run_folder.with_name(f"{run.run_folder.name}-2")
    assert metrics["protocol"]["mean"] == [123.675, 116.28, 103.53]
    content = torch.load(state, weights_only=True)
    content["segmentation_head.1.bias"] += 1
    torch.save(content, state)
    other = command(verb, "--config", tiny, "--weights", state, *place)
    assert other.run_folder is not None
    assert other.run_folder.name.startswith("shared-")
    assert other.run_folder not in (run.run_folder, shifted.run_folder)


def test_predictions_exports_and_load_agree(
    fitted: Path, tiny: Path, state: Path, photo: Path, tmp_path: Path
) -> None:
    place = ["--trainer.default_root_dir", tmp_path]
    given = ["--config", tiny, "--weights", state]
    run = command("predict", *given, "--input", photo, *place)
    assert run.run_folder is not None
    assert run.run_folder.parent == tmp_path / "runs" / "tiny" / "weights" / "predict"
    classes = np.asarray(Image.open(run.run_folder / "classes" / "photo.png"))
    expected = pne_seg.load(fitted, allow=["tests"]).predict(photo)
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(pne_seg.load(state, config=tiny).predict(photo), expected)

    out = tmp_path / "exported"
    pne_seg.cli.main(["export", *map(str, given), "--output", str(out), "--formats", "safetensors"])
    np.testing.assert_array_equal(pne_seg.load(out, allow=["tests"]).predict(photo), expected)
    card = (out / "README.md").read_text()
    assert "Its weights come from shared.pth" in card
    assert str(tmp_path) not in card
    assert "trained with pne_seg" not in card
    # The export's folder serves as weights too.
    np.testing.assert_array_equal(pne_seg.load(out, config=tiny).predict(photo), expected)


def test_exports_of_two_files_of_one_name(
    tiny: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["export", "--config", str(tiny), "--weights", str(state), "--formats", "safetensors"]
    pne_seg.cli.main(given)
    content = torch.load(state, weights_only=True)
    content["segmentation_head.1.bias"] += 1
    torch.save(content, state)
    pne_seg.cli.main(given)
    assert len(list((tmp_path / "runs" / "tiny" / "weights" / "export").iterdir())) == 2


def test_an_address_is_told_without_its_secrets(
    tiny: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    out = tmp_path / "exported"
    place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES]
    with serve() as web:
        web.files["/zoo/tiny.pth"] = state.read_bytes()
        source = f"{web.url}/zoo/tiny.pth?token=SECRET"
        given = ["--config", str(tiny), "--weights", source]
        run = command("validate", *given, *place)
        pne_seg.cli.main(["export", *given, "--output", str(out), "--formats", "safetensors"])
        assert run.run_folder is not None
        metrics = json.loads((run.run_folder / "metrics.json").read_text())
        assert metrics["weights"] == f"{web.url}/zoo/tiny.pth"
    for folder in (out, run.run_folder):
        for name, written in contents(folder).items():
            assert b"SECRET" not in written, name


def test_an_export_on_the_hub(
    fitted: Path, tiny: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exported"
    pne_seg.cli.main(
        ["export", "--run", str(fitted), "--output", str(out), "--formats", "safetensors", ALLOW]
    )
    expected = pne_seg.load(fitted, allow=["tests"]).predict(photo)
    with serve() as web:
        become_the_hub(web, monkeypatch, tmp_path / "cache")
        web.publish("me/tiny", out)
        np.testing.assert_array_equal(
            pne_seg.load("hf://me/tiny", allow=["tests"]).predict(photo), expected
        )
        found = pne_seg.load("hf://me/tiny", config=tiny).predict(photo)
        np.testing.assert_array_equal(found, expected)
        place = ["--trainer.default_root_dir", tmp_path, *NO_FIGURES]
        run = command("validate", "--config", tiny, "--weights", "hf://me/tiny", *place)
        assert run.run_folder is not None
        assert run.run_folder.name.startswith("me_tiny-")
        with pytest.raises(UserError, match=r"hf://me/other: .*give the config"):
            pne_seg.load("hf://me/other", allow=["tests"])


# ---- what is refused -------------------------------------------------------------------------


class RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What the pickle would make; whatever was tried, it never did."""
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


@pytest.fixture(params=["zip", "before 1.6", "mmengine"])
def evil(request: pytest.FixtureRequest, state: Path, mark: Path, tmp_path: Path) -> Path:
    """Weights beside which something would be run on loading."""
    file = tmp_path / "evil.pth"
    content = torch.load(state, weights_only=True)
    if request.param == "mmengine":
        return save_1x(content, file, extra=RunsCode(mark))
    zipped = request.param == "zip"
    held = {"state_dict": content, "extra": RunsCode(mark)}
    torch.save(held, file, _use_new_zipfile_serialization=zipped)
    return file


CLOSED = "not opened, because it holds more than tensors and plain values, which could run code"


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict", "export"])
def test_a_pickle_that_runs_code(
    verb: str, evil: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "--model.init_from" if verb == "fit" else "--weights"
    place = [] if verb == "export" else ["--trainer.default_root_dir", tmp_path]
    said = refused(capsys, verb, "--config", tiny, key, evil, *place)
    assert f"{evil}: {CLOSED}: posix.mkdir" in said.replace("nt.mkdir", "posix.mkdir")
    assert "weights_only" not in said


def test_a_pickle_that_runs_code_by_load(evil: Path, tiny: Path) -> None:
    with pytest.raises(UserError, match=CLOSED):
        pne_seg.load(evil, config=tiny)


def test_a_pickle_that_runs_code_from_elsewhere(
    evil: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    binary = evil.rename(tmp_path / "folder" / "pytorch_model.bin")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    with serve() as web:
        become_the_hub(web, monkeypatch, tmp_path / "cache")
        web.publish("evil/one", binary.parent)
        web.files["/zoo/evil.pth"] = binary.read_bytes()
        for source in (str(binary.parent), "hf://evil/one", f"{web.url}/zoo/evil.pth"):
            with pytest.raises(UserError, match=CLOSED):
                pne_seg.load(source, config=tiny)


def test_damaged_and_foreign_files(
    state: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said_of(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return refused(capsys, "validate", "--config", tiny, "--weights", tmp_path / name)

    whole = state.read_bytes()
    half = len(whole) // 2
    assert f"cut short after {half} bytes" in said_of("cut.pth", whole[:half])
    torch.save(
        torch.load(state, weights_only=True),
        tmp_path / "older.pth",
        _use_new_zipfile_serialization=False,
    )
    older = (tmp_path / "older.pth").read_bytes()
    for share in (0.05, 0.5, 0.95):
        said = said_of("cut_older.pth", older[: int(share * len(older))])
        assert "cannot be read as weights" in said
        assert "cut short" in said
    page = b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>"
    assert "a web page, not weights" in said_of("page.pth", page)


def test_what_is_given_together(
    fitted: Path, tiny: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "validate", "--weights", state)
    assert "--weights needs the --config of its network and data" in said
    said = refused(capsys, "test", "--config", tiny, "--weights", state, "--run", fitted)
    assert "Give one of them." in said
    said = refused(capsys, "export", "--weights", state)
    assert "--weights needs the --config" in said


def test_weights_that_do_not_fill_the_network(
    tiny: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of partly random weights would be figures of nothing."""
    content = torch.load(state, weights_only=True)
    lacking = {name: t for name, t in content.items() if name != "decoder.0.bias"}
    torch.save(lacking, state)
    said = refused(capsys, "validate", "--config", tiny, "--weights", state)
    assert "not the weights of the config's network:\n  it lacks network.decoder.0 (1)." in said
    torch.save(content | {"decoder.9.weight": torch.zeros(1)}, state)
    said = refused(capsys, "validate", "--config", tiny, "--weights", state)
    assert "it also has network.decoder.9 (1)." in said
    head = {name: torch.cat([t, t]) for name, t in content.items() if "head.1" in name}
    torch.save(content | head, state)
    said = refused(capsys, "validate", "--config", tiny, "--weights", state)
    assert "the weights have 22 classes, the config's data have 11." in said


@golden.needs_golden
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "deeplabv3_r101_cityscapes",
            "DeepLabV3 on tu-resnet101c.gluon_in1k with 19 classes: use "
            "configs/cityscapes_deeplabv3_resnet101.yaml.",
        ),
        pytest.param(
            "upernet_swin_tiny_ade20k",
            "UPerNet on tu-swin_tiny_patch4_window7_224.ms_in1k with 150 classes: use "
            "configs/ade20k_upernet_swin.yaml.",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "hrnetv2_w18_cityscapes",
            "HRNetV2 on tu-hrnet_w18.ms_in1k with 19 classes: set model.network to "
            "pne_seg.networks.HRNetV2 with encoder_name tu-hrnet_w18.ms_in1k",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_network_that_a_file_does_fit(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = golden.save_0x(golden.state_dict(name), tmp_path / "published.pth")
    place = ["--trainer.default_root_dir", tmp_path]
    refusal = refused(capsys, "fit", "--config", SCENES, "--model.init_from", file, *place)
    assert f"{file}: nothing in it fits the network.\n  This is {said}" in refusal
    assert not (tmp_path / "runs").exists()


# ---- published weights themselves ------------------------------------------------------------


@golden.needs_golden
def test_a_published_baseline_is_scored_by_its_config(tmp_path: Path) -> None:
    """README's command, on four pictures in ADE20K's layout."""
    file = golden.save_0x(golden.state_dict("upernet_swin_tiny_ade20k"), tmp_path / "swin_t.pth")
    write_ade20k(tmp_path / "ade")
    config = REPOSITORY / "configs" / "ade20k_upernet_swin.yaml"
    here = ["--trainer.default_root_dir", tmp_path, "--trainer.accelerator", "cpu"]
    data = ["--data.root", tmp_path / "ade", "--data.num_workers", "0"]
    small = ["--data.resize_base", "[256, 64]"]
    args = ["--config", config, "--weights", file, *here, *data, *small, *NO_FIGURES]
    run = command("validate", *args)
    assert run.run_folder is not None
    metrics = json.loads((run.run_folder / "metrics.json").read_text())
    assert metrics["protocol"]["images"] == 4
    assert 0 <= metrics["val/mIoU"] < 0.05  # weights by a rule know nothing
    assert run.model.num_classes == len(ADE20K.class_names) == 150


@pytest.mark.slow
@golden.needs_golden
def test_a_mapped_checkpoint_fine_tunes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Swin-T of ADE20K's 150 classes onto the 11 of Scenes, with PNE and the auxiliary head."""
    file = save_1x(golden.state_dict("upernet_swin_tiny_ade20k"), tmp_path / "swin_t.pth")
    config = REPOSITORY / "configs" / "ade20k_upernet_swin.yaml"
    data = ["--data", "Scenes", "--data.height", "64", "--data.width", "64"]
    data += ["--data.batch_size", "2", "--data.num_workers", "0", "--data.train_size", "4"]
    data += ["--data.val_size", "1"]
    steps = ["--trainer.max_steps", "30", "--trainer.val_check_interval", "2"]
    steps += ["--trainer.limit_val_batches", "0", "--model.schedule.warmup_steps", "3"]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]
    here = ["--trainer.default_root_dir", tmp_path, "--trainer.accelerator", "cpu"]
    here += ["--trainer.enable_checkpointing", "false"]
    caplog.set_level("INFO")
    tuning = ["--model.init_from", file, "--model.optimizer.lr", "3e-4"]
    tuning += ["--model.network.encoder_weights", "null"]  # nothing to fetch that is overwritten
    run = command("fit", "--config", config, *data, *steps, *quiet, *here, *NO_FIGURES, *tuning)
    said = caplog.text
    assert "names mapped from mmsegmentation" in said
    for classifier in ("network.segmentation_head.0", "auxiliary.head.4"):
        for part in ("weight", "bias"):
            assert f"skipped for its shape: {classifier}.{part}, (150," in said
    assert said.count("skipped for its shape") == 4
    assert "not in the file, fresh weights: contrast" in said
    assert run.trainer.global_step == 30
    assert run.run_folder is not None
    rows = (run.run_folder / "metrics.csv").read_text().splitlines()
    header = rows[0].split(",")
    column = header.index("train/loss_ce")
    losses = [float(cells[column]) for row in rows[1:] if (cells := row.split(","))[column]]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    saved = yaml.safe_load((run.run_folder / "config.yaml").read_text())
    assert saved["model"]["init_from"] == str(file)
    assert not list(contents(run.run_folder / "checkpoints"))


def test_a_run_as_a_source(fitted: Path, tiny: Path, photo: Path) -> None:
    expected = pne_seg.load(fitted, allow=["tests"]).predict(photo)
    for source in (fitted, fitted / "checkpoints" / "best.ckpt"):
        np.testing.assert_array_equal(pne_seg.load(source, config=tiny).predict(photo), expected)


def test_a_config_of_no_network(fitted: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "other.yaml", "model: {}\ndata: null\n")
    with pytest.raises(UserError, match="names no network"):
        pne_seg.load(fitted, config=config)
    with pytest.raises(UserError, match=r"absent\.yaml: No such file"):
        pne_seg.load(fitted, config=tmp_path / "absent.yaml")
