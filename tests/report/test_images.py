"""Masks, overlays and mosaics, against colours worked out by hand."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pne_seg.report import (
    colour_labels,
    error_map,
    images,
    overlay,
    training_mosaic,
    validation_mosaic,
)

PALETTE = [[250, 10, 10], [10, 250, 10], [10, 10, 250]]
NAMES = ["road", "tree", "sky"]


def flat(height: int, width: int, value: int) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def count(picture: np.ndarray, colour: object) -> int:
    return int((picture == np.asarray(colour)).all(axis=2).sum())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_each_label_takes_its_colour_and_ignored_is_black(dtype: type) -> None:
    labels: np.ndarray = np.array([[0, 1], [2, 255]]).astype(dtype)
    expected = [[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [0, 0, 0]]]
    picture = colour_labels(labels, PALETTE, 255)
    assert picture.dtype == np.uint8
    assert picture.tolist() == expected


def test_negative_and_inner_ignore_index() -> None:
    assert colour_labels(np.array([[-100, 1]]), PALETTE, -100).tolist() == [[[0] * 3, PALETTE[1]]]
    assert colour_labels(np.array([[0, 1]]), PALETTE, 0).tolist() == [[[0] * 3, PALETTE[1]]]


@pytest.mark.parametrize(("bad", "ignore"), [(3, 255), (-1, 255), (255, 11)])
def test_label_out_of_range_is_named(bad: int, ignore: int) -> None:
    with pytest.raises(ValueError, match=rf"hold {bad}, .*0 to 2.*ignore index \({ignore}\)"):
        colour_labels(np.array([[0, bad]]), PALETTE, ignore)


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(ValueError, match="integers, not float64"):
        colour_labels(np.zeros((2, 2)), PALETTE, 255)
    with pytest.raises(ValueError, match=r"\(height, width\)"):
        colour_labels(np.zeros((2, 2, 1), int), PALETTE, 255)
    with pytest.raises(ValueError, match=r"shape \(classes, 3\)"):
        colour_labels(np.zeros((2, 2), int), [1, 2, 3], 255)
    with pytest.raises(ValueError, match="0 to 255"):
        colour_labels(np.zeros((2, 2), int), [[0, 0, 300]], 255)
    with pytest.raises(ValueError, match="differ in size"):
        overlay(flat(2, 2, 0), np.zeros((2, 3), int), PALETTE, 255)
    with pytest.raises(ValueError, match="uint8"):
        error_map(np.zeros((2, 2, 3)), np.zeros((2, 2), int), np.zeros((2, 2), int), 255)  # type: ignore[arg-type]


def test_overlay_mixes_image_and_colour() -> None:
    image, labels = flat(1, 2, 100), np.array([[0, 255]])
    half = overlay(image, labels, PALETTE, 255)
    assert half.tolist() == [[[175, 55, 55], [50, 50, 50]]]
    quarter = overlay(image, labels, PALETTE, 255, opacity=0.25)
    assert quarter.tolist() == [[[138, 78, 78], [75, 75, 75]]]  # 137.5 and 77.5 to even
    assert overlay(image, labels, PALETTE, 255, opacity=0).tolist() == image.tolist()
    full = overlay(image, labels, PALETTE, 255, opacity=1)
    assert full.tolist() == colour_labels(labels, PALETTE, 255).tolist()
    with pytest.raises(ValueError, match="opacity"):
        overlay(image, labels, PALETTE, 255, opacity=1.5)


def test_error_map_pixel_by_pixel() -> None:
    image = np.array([[[200, 200, 200], [200, 200, 200], [0, 0, 0], [255, 0, 0]]], np.uint8)
    labels = np.array([[1, 1, 255, 2]], np.uint8)
    prediction = np.array([[1, 0, 0, 2]], np.int64)
    picture = error_map(image, labels, prediction, 255)
    assert picture[0, 0].tolist() == [104] * 3  # 32 + 0.36 · 200
    assert picture[0, 1].tolist() == list(images.WRONG)
    assert picture[0, 2].tolist() == list(images.IGNORED)  # a wrong guess there does not count
    assert picture[0, 3].tolist() == [59] * 3  # 32 + 0.36 · 0.299 · 255
    assert picture.dtype == np.uint8


def test_validation_mosaic_shows_all_four_views_and_the_whole_image_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    original = images._Page.text

    def spy(page: images._Page, x: float, y: float, text: str, *rest: object, **more: object):  # type: ignore[no-untyped-def]  # noqa: ANN202
        texts.append(text)
        original(page, x, y, text, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(images._Page, "text", spy)
    labels = np.zeros((40, 80), np.int64)
    labels[:, 40:] = 1
    labels[:10] = 255
    prediction = np.zeros_like(labels)
    prediction[:, 60:] = 1  # of 2400 counted pixels 600 are wrong
    everything_ignored = np.full((30, 30), 255)
    path = tmp_path / "new" / "folder" / "val.png"
    validation_mosaic(
        [flat(40, 80, 140), flat(30, 30, 90)],
        [labels, everything_ignored],
        [prediction, np.zeros((30, 30), np.int64)],
        names=["first.png", "second.png"],
        class_names=NAMES,
        palette=PALETTE,
        ignore_index=255,
        path=path,
        title="A heading",
    )
    assert {"A heading", "first.png", "second.png", *NAMES, "ignored", "wrong"} <= set(texts)
    assert {"image", "label", "prediction", "wrong pixels"} <= set(texts)
    assert "pixel accuracy 75.0%" in texts
    assert "pixel accuracy n/a" in texts

    picture = pixels(path)
    # 40 × 80 is drawn as 200 × 400, 30 × 30 as 300 × 300: count what each view must show.
    assert count(picture, images.WRONG) == pytest.approx(150 * 100, abs=400)
    assert count(picture, images.IGNORED) == pytest.approx(50 * 400 + 300 * 300, abs=400)
    assert count(picture, (140, 140, 140)) == pytest.approx(200 * 400, abs=400)
    road = 150 * 200 + 200 * 300 + 300 * 300  # label, prediction, second prediction
    assert count(picture, PALETTE[0]) == pytest.approx(road, abs=400)
    assert count(picture, PALETTE[2]) > 100  # in the legend only
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_label_order_survives_shrinking() -> None:
    labels = np.arange(8).repeat(256)[None].repeat(1024, axis=0)  # 8 stripes, 1024 × 2048
    image, small = images._shrink(flat(1024, 2048, 7), labels)
    assert image.shape == (200, 400, 3)
    assert small.shape == (200, 400)
    assert (image == 7).all()
    assert small[0].tolist() == np.arange(8).repeat(50).tolist()
    _, same = images._shrink(flat(300, 400, 0), np.arange(120_000).reshape(300, 400))
    assert same.ravel().tolist() == list(range(120_000))


@pytest.mark.parametrize("number", [1, 3, 8, 11])
def test_training_mosaic_draws_up_to_eight(tmp_path: Path, number: int) -> None:
    path = tmp_path / "train.png"
    training_mosaic(
        [flat(60, 80, 200)] * number,
        [np.full((60, 80), 1)] * number,
        class_names=NAMES,
        palette=PALETTE,
        ignore_index=255,
        path=path,
        title="Training",
    )
    picture = pixels(path)
    drawn = min(number, images.MAX_IMAGES)
    area = 300 * 400
    assert count(picture, (200, 200, 200)) == pytest.approx(drawn * area, abs=500)
    mixed = np.rint(0.45 * 200 + 0.55 * np.array(PALETTE[1]))
    assert count(picture, mixed) == drawn * area
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_legend_lists_what_is_shown_when_classes_are_many() -> None:
    names = [f"class {index}" for index in range(40)]
    palette = np.stack([np.arange(40)] * 3, axis=1).astype(np.uint8)
    shown = [np.array([[3, 39], [255, 3]]), np.array([[7]])]
    many = images._class_legend(shown, names, palette, 255)
    assert many == [
        ("class 3", (3, 3, 3)),
        ("class 7", (7, 7, 7)),
        ("class 39", (39, 39, 39)),
        ("ignored", (0, 0, 0)),
    ]
    few = images._class_legend([np.array([[2]])], names[:30], palette[:30], 255)
    assert [name for name, _ in few] == names[:30]


def test_long_texts_are_wrapped_not_cut() -> None:
    font = images._font(15)
    text = "a word " * 30 + "x" * 200
    lines = images._wrap(text, font, 120)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= 120


def test_mosaics_refuse_what_they_cannot_draw(tmp_path: Path) -> None:
    path = tmp_path / "no.png"
    image, labels = flat(20, 2000, 0), np.zeros((20, 2000), int)
    labels[3, 17] = 9  # one pixel that shrinking drops

    def draw(images: list[np.ndarray], labels: list[np.ndarray], names: list[str] = NAMES) -> None:
        training_mosaic(
            images,
            labels,
            class_names=names,
            palette=PALETTE,
            ignore_index=255,
            path=path,
            title="",
        )

    with pytest.raises(ValueError, match="hold 9"):
        draw([image], [labels])
    with pytest.raises(ValueError, match="no image"):
        draw([], [])
    with pytest.raises(ValueError, match="1 images, 0 labels"):
        draw([image], [])
    with pytest.raises(ValueError, match="2 class names but 3 colours"):
        draw([image], [labels], ["a", "b"])
    with pytest.raises(ValueError, match="differ in size"):
        draw([image], [np.zeros((20, 20), int)])
    assert not path.exists()


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"older")

    def fail(file: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        images.save_atomically(path, fail)
    assert path.read_bytes() == b"older"
    images.save_atomically(path, lambda file: file.write(b"newer"))
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain", tmp_path / "picture.png"
    plain.touch()
    images.save_atomically(path, lambda file: file.write(b""))
    assert path.stat().st_mode == plain.stat().st_mode


def test_importing_the_package_does_not_load_matplotlib() -> None:
    code = "import sys, pne_seg.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
