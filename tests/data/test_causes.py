"""One cause, one finding: what many files have in common is said once, with arguments to pass."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pne_seg.data import Folder
from pne_seg.data.causes import UnknownValues
from pne_seg.data.inspection import inspect
from pne_seg.errors import DataError, Fix, UserError, as_arguments

SIZE = (12, 16)
COUNT = 6
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 200, 0], [9, 9, 9]], np.uint8)

Mask = Callable[[int], np.ndarray]


def write(
    root: Path, mask: Mask, image: str = "images/{}.png", label: str = "masks/{}.png"
) -> Path:
    random = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        for name, content in ((image, pixels), (label, mask(index))):
            file = root / name.format(f"a{index}")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(file)
    return root


def holding(*values: int) -> Mask:
    """Masks that all hold these values."""
    return lambda _: np.resize(np.array(values, np.uint8), SIZE)


def folder(root: Path, **settings: Any) -> Folder:
    given = {"classes": ["a", "b", "c"], "batch_size": 1, "crop_size": (8, 8), **settings}
    return Folder(root, num_workers=0, **given)


def in_colors(palette: np.ndarray) -> Mask:
    return lambda index: palette[holding(*range(len(palette)))(index)]


@pytest.mark.parametrize(
    ("mask", "said", "fixes"),
    [
        (holding(0, 1, 2, 11), "label 11 in 6 of 6 masks", [{"ignore_values": [11]}]),
        (holding(0, 1, 2, 11, 255), "label 11 in 6 of 6 masks", [{"ignore_values": [11, 255]}]),
        (holding(0, 20, 30), "labels 20 and 30 in 6 of 6", [{"ignore_values": [20, 30]}]),
        (lambda i: holding(0, 11 * (i > 1))(i), "label 11 in 4 of 6", [{"ignore_values": [11]}]),
        (
            holding(1, 2, 3),
            "label 3 in 6 of 6 masks",
            [{"reduce_zero_label": True}, {"ignore_values": [3]}],
        ),
        (
            holding(0, 1, 2, 3),
            "label 3 in 6 of 6 masks",
            [{"ignore_values": [3]}, {"reduce_zero_label": True}],
        ),
        (holding(*range(50)), "labels 3 to 49 in 6 of 6 masks are no class", []),
        (lambda _: np.zeros((6, 8), np.uint8), "6 of 6 masks are of .* by the factor 1/2", []),
        (lambda _: np.zeros((16, 12), np.uint8), "6 of 6 masks lie on their side", []),
        (lambda i: np.zeros((9 + i, 7), np.uint8), "6 of 6 masks are of another size", []),
        (in_colors(COLORS), r"6 of 6 masks are in colors.*classes={name: \[red", []),
    ],
)
def test_masks(mask: Mask, said: str, fixes: list[dict[str, Any]], tmp_path: Path) -> None:
    data = folder(write(tmp_path, mask))
    (error,) = inspect(data, processes=1).of("error")
    assert error.splits == (["train"] if "4 of 6" in said else ["train", "val"])
    assert len(error.files) == (4 if "4 of 6" in said else COUNT)
    assert [fix.arguments for fix in error.fixes] == fixes
    assert re.search(said, error.text())
    for fix in fixes:  # what is advised helps
        assert not inspect(folder(tmp_path, **fix), processes=1).of("error")
    # fit says the same before its first step, of the masks that it looks at
    with pytest.raises(UserError) as caught:
        data.setup("fit")
    assert isinstance(caught.value, DataError)


def test_colors(tmp_path: Path) -> None:
    classes = {"a": [0, 0, 0], "b": [200, 0, 0]}
    write(tmp_path, in_colors(COLORS))
    (error,) = inspect(folder(tmp_path, classes=classes), processes=1).of("error")
    assert "colors [0, 200, 0], [9, 9, 9] in 6 of 6 masks are no class's" in error.message
    (fix,) = error.fixes
    assert fix.arguments == {"ignore_colors": [[0, 200, 0], [9, 9, 9]]}
    assert not inspect(folder(tmp_path, classes=classes, **fix.arguments), processes=1).of("error")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.png", "masks/{}_mask.png"),
        ("images/{}.png", "masks/{}-label.png"),
        ("images/{}.png", "masks/mask_{}.png"),
        ("images/{}.png", "masks/{}gt.png"),
        ("images/{}_rgb.png", "masks/{}_gt.png"),
        ("images/{}.png", "images/{}_seg.png"),
        ("images/{}.png", "images/seg-{}.png"),
        ("{}.png", "{} mask.png"),
        ("{}_sat.png", "{}_mask.png"),
        ("{}_sat.png", "{}.png"),
        ("img_{}.jpg", "{}.png"),
        ("{}.jpg", "{}.png"),
        ("photos/{}.jpg", "ann/{}.png"),
        ("photos/{}.png", "ann/{}_L.png"),
        ("train/rgb/{}.jpg", "train/lab/{}.png"),
        ("deep/er/photos/{}.jpg", "deep/er/ann/{}.png"),
        ("images/{}.jpg", "labels/{}.png"),
    ],
)
def test_what_is_advised_of_names_and_folders_is_enough(
    image: str, label: str, tmp_path: Path
) -> None:
    write(tmp_path, holding(0, 1, 2), image, label)
    with pytest.raises(DataError) as caught:
        folder(tmp_path).split("train")
    (fix,) = caught.value.fixes
    assert as_arguments(fix.arguments) in str(caught.value)
    data = folder(tmp_path, **fix.arguments)
    assert len(data.split("train")) + len(data.split("val")) == COUNT
    assert not inspect(data, processes=1).of("error")


def test_many_files_are_no_reason_to_advise_something_else(tmp_path: Path) -> None:
    write(tmp_path, holding(0, 1), "photos/{}.jpg", "ymasks/{}_m.png")
    for index in range(1000, 3100):
        (tmp_path / f"photos/{index}.jpg").hardlink_to(tmp_path / "photos/a0.jpg")
        (tmp_path / f"ymasks/{index}_m.png").hardlink_to(tmp_path / "ymasks/a0_m.png")
    with pytest.raises(DataError) as caught:
        folder(tmp_path).split("train")
    (fix,) = caught.value.fixes
    assert fix.arguments == {"images": "photos", "masks": "ymasks", "mask_suffix": "_m"}


def test_some_masks_are_missing(tmp_path: Path) -> None:
    write(tmp_path, holding(0, 1, 2))
    gone = [tmp_path / f"masks/a{index}.png" for index in (1, 3)]
    for file in gone:
        file.unlink()
    (error,) = inspect(folder(tmp_path), processes=1).of("error")
    assert error.files == [str(tmp_path / f"images/a{index}.png") for index in (1, 3)]
    (fix,) = error.fixes
    assert fix.arguments == {"skip_unlabeled": True}
    assert not inspect(folder(tmp_path, **fix.arguments), processes=1).of("error")


def test_duplicates_and_damaged_files_are_one_finding_each(tmp_path: Path) -> None:
    write(tmp_path, holding(0, 1, 2), "train/images/{}.png", "train/masks/{}.png")
    write(tmp_path, holding(0, 1, 2), "val/images/{}.png", "val/masks/{}.png")
    for index in (0, 1, 2):
        (tmp_path / f"train/images/a{index}.png").write_bytes(b"GIF89a" + bytes(300))
    found = inspect(folder(tmp_path), processes=1)
    (error,) = found.of("error")
    assert "3 of 12 images: is a GIF image" in error.message
    assert len(error.files) == 3
    (warning,) = [one for one in found.of("warning") if one.kind == "duplicate"]
    assert warning.message.startswith("3 images are the same in train and val")
    assert len(warning.files) == 6


def test_errors_survive_a_process_and_a_loader() -> None:
    cause = UnknownValues({0: 1, 5: 2}, frozenset({0}), frozenset(), ("ignore_values",), "")
    error = pickle.loads(pickle.dumps(cause.error("m.png")))
    assert error.fixes == [Fix("to ignore it", {"ignore_values": [5]})]
    assert error.cause == cause
    assert str(DataError("wrapped by a loader")) == "wrapped by a loader"
