"""The model card: its snippets run as they stand, and its figures are the run's, in percent."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from pne_seg.export.writer import export
from pne_seg.inference import Inference
from pne_seg.trained import Trained
from tests.export.trained import description, trained
from tests.tiny_networks import TinyNet

CLASSES = 4
SLOT = {"class_path": "tests.tiny_networks.TinyNet", "init_args": {"num_classes": CLASSES}}


@pytest.fixture
def tiny(tmp_path: Path) -> Trained:
    return trained(TinyNet(CLASSES), CLASSES, tmp_path, slot=SLOT)


def card(given: Trained, folder: Path) -> str:
    export(given, folder, ["safetensors"])
    return (folder / "README.md").read_text()


@pytest.mark.slow
def test_its_snippets_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = smp.Unet(
        *["tu-resnet10t", 3, None],
        decoder_channels=(16, 8, 8),
        decoder_use_norm=False,
        classes=CLASSES,
    )
    given = trained(network, CLASSES, tmp_path)
    folder = tmp_path / "out"
    export(given, folder)
    snippets = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 4  # pne_seg, smp, ONNX Runtime, torch
    monkeypatch.chdir(folder)
    cv2.imwrite("photo.jpg", np.zeros((50, 70, 3), np.uint8))
    shapes, logits = [], []
    for snippet in snippets:
        names: dict[str, object] = {}
        exec(snippet, names)
        shapes.append(tuple(names["classes"].shape))  # type: ignore[attr-defined]
        logits.append(np.asarray(names.get("logits")))
    assert shapes == [(50, 70), (1, 256, 384), (1, 256, 384), (1, 256, 384)]
    for other in logits[2:]:  # the same black image each time
        np.testing.assert_allclose(logits[1], other, atol=1e-4)


def test_its_front_matter(tiny: Trained, tmp_path: Path) -> None:
    text = card(tiny, tmp_path / "out")
    assert text.startswith("---\n")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "image-segmentation"
    assert front["library_name"] == "pne_seg"
    assert "semantic-segmentation" in front["tags"]
    assert "license" not in front  # the user's to choose
    from huggingface_hub import ModelCard

    assert yaml.safe_load(ModelCard(text).data.to_yaml()) == front


def test_what_it_says(tiny: Trained, tmp_path: Path) -> None:
    metrics = {
        "test/mIoU": 0.51234,
        "test/mAcc": 0.6,
        "test/pixel_accuracy": 0.7,
        "test/IoU/class 0": 0.25,
        "test/IoU/class 1": None,
        "protocol": {
            "data": "CamVid",
            "images": 233,
            "image_sizes": [[180, 240], [360, 480]],
            "scored_at": [[720, 960]],
            "inference": {"scales": [1.0, 0.5], "flip": True},
        },
    }
    given = replace(
        tiny,
        metrics={"test": metrics},
        inference=Inference(window=(64, 64)),  # not what the figures were measured by
        data=description(CLASSES, base=(240, 180)),
        training_bytes={"contrast": 10, "auxiliary": 20},
    )
    text = card(given, tmp_path / "out")
    assert "TinyNet" in text
    parameters = sum(parameter.numel() for parameter in tiny.network.parameters())
    assert f"of {parameters:,} parameters, for 4 classes" in text
    assert "On the test split, in percent" in text
    assert "| mIoU | 51.23 |" in text
    assert "| IoU class 0 | 25.00 |" in text
    assert "| IoU class 1 | n/a |" in text
    said = "Protocol: 233 images of CamVid, whole images; scales 1, 0.5; and mirrored of 240×180 "
    assert f"{said}to 480×360 pixels; evaluated at the labels' own size, 960×720 pixels" in text
    assert "CC BY-NC 4.0" in text  # CamVid's terms
    assert "the contrast's projection, the auxiliary head, the optimizer" in text
    assert "\n0. class 0\n1. class 1\n" in text


@pytest.mark.parametrize("protocol", [None, {}, {"scored_at": "the labels' own size"}])
def test_figures_of_another_version(tiny: Trained, tmp_path: Path, protocol: object) -> None:
    given = replace(tiny, metrics={"val": {"val/mIoU": 0.5, "protocol": protocol}})
    text = card(given, tmp_path / "out")
    assert "| mIoU | 50.00 |" in text
    assert "| IoU class 3 | n/a |" in text
    assert "Protocol: evaluated at the labels' own size; means" in text


def test_labels_that_were_scaled(tiny: Trained, tmp_path: Path) -> None:
    protocol = {"inference": {}, "scored_at": [[360, 480]], "files_at": [[720, 960]]}
    given = replace(tiny, metrics={"val": {"val/mIoU": 0.5, "protocol": protocol}})
    text = card(given, tmp_path / "out")
    said = "evaluated at 480×360 pixels, to which the labels of 960×720 pixels were scaled; means"
    assert f"Protocol: whole images; {said}" in text
    assert "own size" not in text[text.index("## Metrics") :]


@pytest.mark.parametrize("same", [True, False])
def test_a_test_split_of_the_validation_images_is_told_once(
    same: bool, tiny: Trained, tmp_path: Path
) -> None:
    protocol = {"same_images_as_val": same}
    metrics = {
        "val": {"val/mIoU": 0.5, "protocol": protocol},
        "test": {"test/mIoU": 0.6, "protocol": protocol},
    }
    text = card(replace(tiny, metrics=metrics), tmp_path / "out")
    once = "On the validation split (this data set's test split is the same images), in percent"
    assert text.count("| mIoU |") == (1 if same else 2)
    assert "| mIoU | 60.00 |" in text
    assert (once in text) is same
    assert ("On the test split" in text) is not same


def test_what_is_not_known_is_said(tiny: Trained, tmp_path: Path) -> None:
    given = replace(tiny, data=replace(tiny.data, data="Folder"))
    text = card(given, tmp_path / "out")
    assert "This checkpoint was not evaluated" in text
    assert "Name the images and their terms here" in text
    assert "![" not in text


def test_the_runs_picture(tiny: Trained, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny" / "3"
    (run / "figures").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    (run / "figures" / "predictions.png").write_bytes(b"picture")
    given = replace(tiny, path=run / "checkpoints" / "best.ckpt")
    text = card(given, tmp_path / "out")
    assert (tmp_path / "out" / "preview.png").read_bytes() == b"picture"
    assert "](preview.png)" in text
    assert "# tiny/3" in text
