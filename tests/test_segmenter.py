"""`pne_seg.load`: class maps at the image's own size, the same that `predict` writes."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import pne_seg
from pne_seg.cli import main
from pne_seg.errors import UserError
from pne_seg.inference import Inference, Preprocessing
from pne_seg.segmenter import Segmenter, as_pixels
from pne_seg.trained import Trained
from tests.cli.commands import TINY, command, write_config
from tests.export.trained import MEAN, STD, description
from tests.tiny_networks import TinyNet, balance_classes

CLASSES = 5


def noise(height: int, width: int, channels: int = 3) -> Any:
    shape = (height, width, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def segmenter(
    base: tuple[int, int] | None = None, classes: int = CLASSES, **settings: Any
) -> Segmenter:
    torch.manual_seed(1)
    network = TinyNet(classes, stride=2).eval()
    with torch.no_grad():
        balance_classes(network.segmentation_head[1], network(torch.randn(1, 3, 32, 32)))
    trained = Trained(
        network, Preprocessing(MEAN, STD, 4), description(classes, base), Path("best.ckpt")
    )
    if classes > 256:
        palette = tuple((i % 256, i // 256, 0) for i in range(classes))
        trained = replace(trained, data=replace(trained.data, palette=palette))
    return Segmenter(trained, device="cpu", **settings)


def _balance(folder: Path) -> None:
    """After so short a training one class leads everywhere; let it not."""
    file = folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    network = pne_seg.load(folder, device="cpu", allow=["tests"]).trained.network
    bias = checkpoint["state_dict"]["network.segmentation_head.1.bias"]
    with torch.no_grad():
        bias -= network(torch.randn(1, 3, 32, 48)).mean((0, 2, 3))
    torch.save(checkpoint, file)


def test_it_writes_what_predict_writes(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", TINY)
    root = ["--trainer.default_root_dir", tmp_path]
    folder = command("fit", "--config", config, *root).run_folder
    assert folder is not None
    _balance(folder)
    done = command("predict", "--run", folder, "--output", tmp_path / "masks")
    loaded = pne_seg.load(folder, device="cpu", allow=["tests"])
    split = done.datamodule.split("test")
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    for index in range(len(split)):
        written = np.asarray(
            Image.open(tmp_path / "masks" / "classes" / f"{split.name(index)}.png")
        )
        assert len(np.unique(written)) > 1
        assert np.array_equal(loaded.predict(split.read(index).image), written)
    # Files of one's own, of another size, one of them turned by its EXIF data.
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(noise(90, 120)).save(photos / "a.png")
    Image.fromarray(noise(75, 61)).save(photos / "b.jpg", exif=exif)
    main(
        [
            "predict",
            "--run",
            str(folder),
            "--input",
            str(photos),
            "--output",
            str(tmp_path / "o"),
            "--allow=tests",
        ]
    )
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    for photo, size in ((photos / "a.png", (90, 120)), (photos / "b.jpg", (61, 75))):
        written = np.asarray(Image.open(tmp_path / "o" / "classes" / f"{photo.stem}.png"))
        assert written.shape == size
        assert np.array_equal(loaded.predict(photo), written)


def test_the_image_is_fitted_and_the_classes_come_back() -> None:
    """Step by step: OpenCV's resize, normalization, padding, network, resize, argmax."""
    loaded = segmenter(base=(60, 30))
    image = noise(80, 110)
    small = cv2.resize(image, (41, 30), interpolation=cv2.INTER_LINEAR)
    mean, std = (np.array(values, np.float32) for values in (MEAN, STD))
    padded = np.zeros((32, 44, 3), np.float32)
    padded[:30, :41] = (small.astype(np.float32) - mean) / std
    with torch.no_grad():
        logits = loaded.trained.network(torch.from_numpy(padded).permute(2, 0, 1)[None])
        logits = torch.nn.functional.interpolate(logits, (32, 44), mode="bilinear")[..., :30, :41]
        logits = torch.nn.functional.interpolate(logits, (80, 110), mode="bilinear")
    found = loaded.predict(image)
    assert found.dtype == np.uint8
    assert (found == logits.argmax(1)[0].numpy()).mean() > 0.999  # but for ties to the last bit
    # Not fitted, the network sees other things.
    assert (segmenter().predict(image) != found).any()


def test_any_image(tmp_path: Path) -> None:
    loaded = segmenter()
    image = noise(20, 31)
    expected = loaded.predict(image)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    assert np.array_equal(loaded.predict(tmp_path / "a.png"), expected)
    assert np.array_equal(loaded.predict(str(tmp_path / "a.png")), expected)
    assert np.array_equal(loaded.predict(Image.fromarray(image)), expected)
    assert np.array_equal(loaded.predict(np.asfortranarray(image)), expected)
    opaque = np.dstack([image, np.full((20, 31), 255, np.uint8)])
    assert np.array_equal(loaded.predict(Image.fromarray(opaque, "RGBA")), expected)
    gray = image[..., 0]
    threefold = loaded.predict(np.dstack([gray, gray, gray]))
    assert np.array_equal(loaded.predict(gray), threefold)
    assert np.array_equal(loaded.predict(Image.fromarray(gray)), threefold)


def test_exif_turns_files_and_pictures(tmp_path: Path) -> None:
    image = noise(16, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter clockwise for display
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    turned = np.rot90(image, -1)
    assert np.array_equal(as_pixels(tmp_path / "a.png"), turned)
    assert np.array_equal(as_pixels(Image.open(tmp_path / "a.png")), turned)
    assert segmenter().predict(tmp_path / "a.png").shape == (24, 16)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (noise(8, 9) / 255, r"float64 of shape \(8, 9, 3\); expected uint8.*\* 255"),
        (noise(8, 9).astype(np.int64), "int64"),
        (noise(8, 9, 4), "fourth channel"),
        (noise(8, 9).transpose(2, 0, 1), "channels first.*transpose"),
        (noise(8, 9, 2), r"expected \(height, width, 3\)"),
        (np.zeros((0, 0), np.uint8), "no pixels"),
        (np.zeros((5, 0), np.uint8), "no pixels"),
        (np.zeros((0, 5, 4), np.uint8), "no pixels"),
        (np.zeros(5, np.uint8), r"expected \(height, width, 3\)"),
        (Image.new("RGB", (0, 5)), "0×5 pixels"),
        (Image.new("RGBA", (5, 0)), "5×0 pixels"),
        (np.zeros((0, 4, 3), np.uint8), r"expected \(height, width, 3\)"),
        ([[1]], "not list"),
        (Image.fromarray(noise(8, 9, 4), "RGBA"), "transparent in places"),
        (Image.fromarray(noise(8, 9, 1).astype(np.int32)), "mode is I"),
        ("gone.png", "gone.png"),
    ],
)
def test_images_that_could_be_read_in_several_ways(image: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        segmenter().predict(image)


def test_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    image = noise(20, 30)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    assert np.array_equal(as_pixels("~/a.png"), image)


def test_more_than_256_classes() -> None:
    found = segmenter(classes=300).predict(noise(32, 40))
    assert found.dtype == np.uint16
    assert found.max() > 255


def test_the_protocol_may_be_another() -> None:
    plain, windows = segmenter(), segmenter(inference=Inference(window=(16, 16)))
    assert plain.inference == Inference()
    assert windows.inference.window == (16, 16)
    image = noise(40, 56)
    assert plain.predict(image).shape == windows.predict(image).shape == (40, 56)
    assert (plain.predict(image) != windows.predict(image)).any()  # windows have borders


def test_colors() -> None:
    loaded = segmenter()
    image = noise(12, 18)
    classes = loaded.predict(image)
    assert loaded.class_names == tuple(f"class {i}" for i in range(CLASSES))
    colors = np.array(loaded.palette, np.uint8)[classes]
    assert np.array_equal(loaded.color(classes), colors)
    half = np.rint(image * np.float32(0.5) + colors * np.float32(0.5)).astype(np.uint8)
    assert np.array_equal(np.asarray(loaded.overlay(image, classes)), half)
    assert np.array_equal(np.asarray(loaded.overlay(image)), half)
    assert np.array_equal(np.asarray(loaded.overlay(image, classes, opacity=0)), image)


def test_what_it_shows_of_itself() -> None:
    size = sum(p.numel() for p in segmenter().trained.network.parameters()) / 1e6
    assert repr(segmenter(inference=Inference(flip=True))).splitlines() == [
        "Segmenter",
        f"  network TinyNet, {size:.3g} million parameters",
        "  classes 5: class 0, class 1, class 2, class 3, class 4",
        "  images  at their own size",
        "  scored  whole images; and mirrored",
        "  device  cpu",
        f"  source  {segmenter().trained.path}",
    ]
