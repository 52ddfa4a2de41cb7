"""Slips with your own images and masks: what is ignored, and what the messages say."""

from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
from PIL import Image

from pne_seg.data import Folder
from pne_seg.data.classes import read_classes
from pne_seg.data.images import read_image
from pne_seg.data.label_formats import ColorLabels
from pne_seg.errors import UserError
from tests.data.held import Held, saved
from tests.data.test_image_folder import flat

NEW_PIXELS = [
    A.Rotate(limit=(45, 45), p=1),
    A.Affine(translate_px={"x": 9, "y": 9}, p=1),
    A.ShiftScaleRotate(scale_limit=(-0.5, -0.5), p=1),
    A.PadIfNeeded(60, 60, p=1),
    A.CropAndPad(px=9, keep_size=False, p=1),
    A.Perspective(scale=(0.3, 0.3), fit_output=True, p=1),
]


def labels_of(transforms: list[Any], root: Path) -> set[int]:
    """Return the labels in a training sample whose mask is all of class 1."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
        for name in "ab":
            Image.fromarray(np.ones((40, 40), np.uint8)).save(root / folder / f"{name}.png")
    data = Folder(root, ["a", "b"], transforms=transforms, batch_size=1, num_workers=0)
    return {*next(iter(data.train_dataloader()))["mask"].unique().tolist()}


@pytest.mark.filterwarnings("ignore:ShiftScaleRotate is a special case")
@pytest.mark.parametrize("transform", NEW_PIXELS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("nested", [False, True])
def test_pixels_that_a_transform_creates_are_ignored(
    transform: A.BasicTransform, nested: bool, tmp_path: Path
) -> None:
    chosen = A.OneOf([A.Sequential([transform])], p=1) if nested else transform
    assert labels_of([chosen], tmp_path) == {1, 255}
    assert transform.fill_mask == 0  # the caller's is left as it is


def test_a_fill_that_is_asked_for_stays(tmp_path: Path) -> None:
    assert labels_of([A.Rotate(limit=(45, 45), p=1, fill_mask=[0])], tmp_path) == {0, 1}


def test_masks_that_count_from_one(tmp_path: Path) -> None:
    flat(tmp_path, 4)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.full((8, 8), 2, np.uint8)).save(path)
    with pytest.raises(
        UserError, match=r"label 2 .*if 1 is the first class, pass reduce_zero_label=True"
    ):
        Folder(tmp_path, ["a", "b"]).split("train").read(0)
    assert (
        Folder(tmp_path, ["a", "b"], reduce_zero_label=True).split("train").read(0)[1] == 1
    ).all()
    with pytest.raises(UserError) as caught:
        Folder(tmp_path, ["a"]).split("train").read(0)
    assert "reduce_zero_label" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["[bg, no]", "[bg, yes]", "[bg, on]", "[bg, 1]", "[bg, 1.5]", "[bg, ~]", "{bg: 0, off: 1}"],
)
def test_names_that_yaml_takes_for_something_else(text: str, tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text(text)
    for given in (text, str(file)):
        with pytest.raises(UserError, match="Put such names into quotes"):
            read_classes(given)
    quoted = read_classes("[bg, 'no', \"1\"]")
    assert quoted.names == ("bg", "no", "1")


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        (b"GIF89a\1\0", "is a GIF image"),
        (b"\0\0\0\x20ftypavif", "is an AVIF image"),
        (b"\0\0\0\x18ftypheic", "is a HEIF image"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x93NUMPY\1\0", "is a NumPy array"),
        (bytes(128) + b"DICM", "is a DICOM file"),
        (bytes(344) + b"n+1\0", "is a NIfTI volume"),
        (b"\xef\xbb\xbf\n<svg xmlns=", "is an SVG drawing"),
        (b"P4\n8 8\n", "is a PNM image"),
        (b"#?RADIANCE\n", "is a Radiance HDR image"),
        (b"gimp xcf v011", "is a GIMP file"),
        (b"II*\0\x10\0\0\0CR\2\0", "is a camera's raw file"),
        (b"\x1aE\xdf\xa3\x9f", "is a Matroska or WebM video"),
        (b"II*\0\x08\0\0\0\0\0", "is a TIFF file of a kind that is not supported"),
    ],
)
def test_sound_files_of_other_kinds_are_not_called_damaged(beginning: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_image(Held(beginning + bytes(300)))
    assert "damaged" not in str(caught.value)


def test_colors_in_a_lossy_file_are_refused() -> None:
    labels = ColorLabels([(0, 0, 0), (9, 9, 9)])
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for data in (saved(image, "JPEG"), saved(image, "TIFF", compression="jpeg")):
        with pytest.raises(UserError, match="changes values as it compresses"):
            labels.read(Held(data))
