"""A complete check of a data set: its figures, what it warns of, and its processes."""

import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.data import CamVid, Cityscapes, Folder, Scenes
from pne_seg.data.base import Split
from pne_seg.data.inspection import Inspection, as_json, inspect, report_text
from pne_seg.data.inspection.examiner import Examiner, examine_all
from pne_seg.data.samples import Sample
from pne_seg.data.scenes import SceneDataset
from pne_seg.errors import UserError
from tests.data.camvid_tree import IGNORE, NUM_CLASSES, SIZES, write, write_tree
from tests.data.miniature import write_cityscapes, write_folder

PLAIN = (48, 64)


def checked(root: Path, processes: int = 1, **settings: Any) -> Inspection:
    return inspect(CamVid(root, batch_size=2, crop_size=PLAIN, **settings), processes=processes)


def messages(inspection: Inspection, kind: str) -> list[str]:
    return [finding.message for finding in inspection.findings if finding.kind == kind]


def test_the_figures_are_a_plain_count(tmp_path: Path) -> None:
    inspection = checked(write_tree(tmp_path))
    assert not inspection.findings
    for split, size in SIZES.items():
        figures = inspection.splits[split]  # type: ignore[index]
        assert figures is not None
        pixels, images = [0] * (NUM_CLASSES + 1), [0] * (NUM_CLASSES + 1)
        for path in (tmp_path / f"{split}annot").iterdir():
            values = np.asarray(Image.open(path)).ravel().tolist()
            for value in range(NUM_CLASSES + 1):
                pixels[value] += values.count(value)
                images[value] += value in values
        assert figures.images == size
        assert figures.pixels.tolist() == pixels[:NUM_CLASSES]
        assert figures.images_with.tolist() == images[:NUM_CLASSES]
        assert figures.ignored == pixels[IGNORE]
        assert (figures.heights, figures.widths) == ((48, 48), (64, 64))
        found = as_json(inspection)["splits"][split]
        assert [entry["pixels"] for entry in found["classes"]] == pixels[:NUM_CLASSES]
        assert found["labeled_pixels"] + found["ignored_pixels"] == size * 48 * 64
        assert sum(entry["share"] for entry in found["classes"]) == pytest.approx(1)
    assert report_text(inspection).endswith("\nOK\n")


def test_the_range_of_sizes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write(tmp_path / "val" / "val_0.png", np.zeros((20, 90, 3), np.uint8))
    write(tmp_path / "valannot" / "val_0.png", np.zeros((20, 90), np.uint8))
    figures = checked(tmp_path).splits["val"]
    assert figures is not None
    assert (figures.heights, figures.widths) == ((20, 48), (64, 90))


def test_any_number_of_processes_reports_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train": 30, "val": 11, "test": 9}, shape=(12, 16))
    for name in ("train_3", "train_20", "train_21"):
        (tmp_path / "train" / f"{name}.png").write_bytes(b"no image")
    shutil.copy(tmp_path / "train" / "train_9.png", tmp_path / "val" / "val_10.png")
    one, two = checked(tmp_path, processes=1), checked(tmp_path, processes=2)
    (error,) = one.of("error")
    assert len(error.files) == 3
    assert as_json(one) == as_json(two)
    assert report_text(one) == report_text(two)


def test_scaled_data_are_checked_at_the_files_own_size(tmp_path: Path) -> None:
    write_tree(tmp_path)
    plain, half = checked(tmp_path), checked(tmp_path, scale=0.5)
    assert half.splits["val"] is not None
    assert half.splits["val"].heights == (48, 48)
    assert as_json(half)["splits"] == as_json(plain)["splits"]


def test_a_cache_is_neither_read_nor_made(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree")
    assert not checked(tmp_path / "tree", cache=tmp_path / "cache").findings
    assert not (tmp_path / "cache").exists()


def test_data_without_files() -> None:
    data = Scenes(train_size=9, val_size=3, test_size=2, height=32, width=40, batch_size=4)
    inspection = inspect(data, processes=2)
    train, source = inspection.splits["train"], data.split("train")
    assert train is not None
    labels = np.stack([source.read(index).labels for index in range(9)])
    for index in range(data.num_classes):
        assert train.pixels[index] == (labels == index).sum()
        assert train.images_with[index] == (labels == index).any((1, 2)).sum()
    assert not inspection.of("error")
    assert inspection.root is None


def test_some_splits_alone(tmp_path: Path) -> None:
    inspection = inspect(CamVid(write_tree(tmp_path), batch_size=2), ["test"], 1)
    assert list(inspection.splits) == ["test"]


# ---- warnings and notes ------------------------------------------------------------------------


def test_the_same_image_in_two_splits(tmp_path: Path) -> None:
    write_tree(tmp_path)
    shutil.copy(tmp_path / "train" / "train_1.png", tmp_path / "test" / "test_2.png")
    shutil.copy(tmp_path / "val" / "val_0.png", tmp_path / "val" / "val_1.png")
    inspection = checked(tmp_path)
    (between,), (within,) = inspection.of("warning"), inspection.of("note")
    assert between.kind == within.kind == "duplicate"
    assert between.splits == ["train", "test"]
    assert between.files == [str(tmp_path / "train/train_1.png"), str(tmp_path / "test/test_2.png")]
    assert within.files == [str(tmp_path / f"val/val_{index}.png") for index in (0, 1)]
    for file in (*between.files, *within.files):
        assert file in report_text(inspection)


def test_test_may_be_val_by_design(tmp_path: Path) -> None:
    write_folder(tmp_path, "kind_first")
    inspection = inspect(Folder(tmp_path, batch_size=2, crop_size=(8, 8)), processes=1)
    assert not messages(inspection, "duplicate")
    assert inspection.splits["test"] is not None
    assert inspection.splits["test"].same_as == "val"
    assert "test is val" in report_text(inspection)
    assert list(inspection.counted) == ["train", "val"]


def test_images_without_a_labeled_pixel(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write(tmp_path / "trainannot" / "train_2.png", np.full(PLAIN, IGNORE, np.uint8))
    (warning,) = checked(tmp_path).of("warning")
    assert warning.kind == "unlabeled"
    assert warning.files == [str(tmp_path / "train" / "train_2.png")]


def test_classes_that_do_not_occur(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for split, absent in (("train", (0, 4)), ("val", (10,)), ("test", (7,))):
        for path in (tmp_path / f"{split}annot").iterdir():
            labels = np.array(Image.open(path))
            labels[np.isin(labels, absent)] = IGNORE
            write(path, labels)
    train, val = messages(checked(tmp_path), "absent")
    assert "in train" in train
    assert train.endswith("(2 of 11): sky, pavement.")
    assert "in val" in val
    assert val.endswith("(1 of 11): bicyclist.")


def test_white_masks_whose_value_is_taken_for_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path, masks="white")
    hint = "classes={'background': 0, 'object': 255}"
    data = Folder(tmp_path, ["background", "object"], batch_size=2)
    assert hint in messages(inspect(data, processes=1), "absent")[0]
    mended = Folder(tmp_path, {"background": 0, "object": 255}, batch_size=2)
    assert not messages(inspect(mended, processes=1), "absent")
    write_folder(tmp_path, masks="bit")  # 0 and 1
    for path in (tmp_path / "masks").rglob("*.png"):
        Image.fromarray(np.zeros(np.asarray(Image.open(path)).shape, np.uint8)).save(path)
    assert hint not in messages(inspect(data, processes=1), "absent")[0]


def test_what_is_noted_of_images(tmp_path: Path) -> None:
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6  # shown as 40×30
    gray = rgb.convert("L")
    images: dict[str, tuple[Image.Image, dict[str, Image.Exif]]] = {
        "plain.png": (rgb, {}),
        "plain.jpg": (rgb.rotate(180), {"exif": Image.Exif()}),
        "grayscale.jpg": (gray, {}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "transparent.png": (rgb.convert("RGBA"), {}),
        "rotated.jpg": (rgb, {"exif": turned}),
        "small.png": (rgb.resize((29, 40)), {}),
        "deep.png": (Image.fromarray(np.asarray(gray).astype(np.uint16) * 257), {}),
    }
    sizes = {"rotated.jpg": (40, 30), "small.png": (40, 29)}
    for name, (image, options) in images.items():
        split = "val" if name == "plain.png" else "train"
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / split / "images" / name, **options)  # type: ignore[arg-type]
        labels = Image.fromarray(np.zeros(sizes.get(name, (30, 40)), np.uint8))
        labels.save(tmp_path / split / "masks" / f"{Path(name).stem}.png")
    inspection = inspect(
        Folder(tmp_path, ["a", "b"], crop_size=(30, 30), batch_size=2), processes=1
    )
    assert not inspection.of("error")
    found = {note.kind: {Path(file).name for file in note.files} for note in inspection.of("note")}
    assert found == {
        "grayscale": {"grayscale.jpg", "deep.png"},
        "cmyk": {"cmyk.jpg"},
        "transparent": {"transparent.png"},
        "rotated": {"rotated.jpg"},
        "small": {"small.png"},
        "deep": {"deep.png"},
    }


def test_smaller_than_the_crop_once_fitted(tmp_path: Path) -> None:
    """48×64 fitted to a box of 128×96 is 96×128."""
    write_tree(tmp_path)

    def noted(crop: tuple[int, int]) -> list[str]:
        data = CamVid(tmp_path, crop_size=crop, resize_base=(128, 96), batch_size=2)
        return messages(inspect(data, ["train"], 1), "small")

    assert not noted((96, 128))
    (message,) = noted((97, 128))
    assert "4 images in train are smaller than the training crop of 97×128" in message


def test_a_test_split_without_labels(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    inspection = inspect(Cityscapes(tmp_path, test_split="test", batch_size=1), processes=1)
    assert not inspection.of("error")
    (note,) = messages(inspection, "split")
    assert "test split of Cityscapes has no public labels" in note
    assert inspection.splits["test"] is not None
    assert not inspection.splits["test"].labeled
    assert "test" not in inspection.counted


# ---- the processes -----------------------------------------------------------------------------


class _Deadly(SceneDataset):
    """Ends the process that reads the fourth sample."""

    def read(self, index: int) -> Sample:
        if index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


class _DeadlyScenes(Scenes):
    def dataset(self, split: Split) -> SceneDataset:
        return _Deadly(split, 20, (32, 32), 0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_process_is_reported(processes: int) -> None:
    with pytest.raises(UserError, match=r"was killed.* train_0.*processes=1"):
        inspect(_DeadlyScenes(), ["train"], processes)
    assert not active_children()


def _stop_at_start(examiners: list[Examiner]) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    for _ in examine_all(examiners, 2, stop):
        pass


def _stop_at_a_result(examiners: list[Examiner]) -> None:
    results = examine_all(examiners, 2, lambda: None)
    next(results)
    results.throw(KeyboardInterrupt)


@pytest.mark.parametrize("stop", [_stop_at_start, _stop_at_a_result])
def test_an_interruption_leaves_no_process(stop: Callable[[list[Examiner]], None]) -> None:
    data = Scenes(train_size=2000)
    examiner = Examiner(data.split("train"), data.num_classes, data.ignore_index)
    with pytest.raises(KeyboardInterrupt):
        stop([examiner])
    assert not active_children()


class _Mistaken(SceneDataset):
    def read(self, index: int) -> Sample:
        raise AttributeError("no such thing")


class _MistakenScenes(Scenes):
    def dataset(self, split: Split) -> SceneDataset:
        return _Mistaken(split, 20, (32, 32), 0)


def test_mistakes_of_the_code_are_not_the_files() -> None:
    with pytest.raises(AttributeError, match="no such thing"):
        inspect(_MistakenScenes(), ["train"], 1)
