"""Masks that programs have changed: palettes of their own, and lossy compression."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pne_seg.data import Folder
from pne_seg.data.images import read_info
from pne_seg.data.inspection import inspect
from pne_seg.data.label_formats import ColorLabels, IndexLabels
from pne_seg.errors import UserError
from tests.data.held import Held, saved

COLORS: Any = {
    "background": (0, 0, 0),
    "road": (128, 64, 128),
    "car": (0, 0, 142),
    "tree": (107, 142, 35),
}
PALETTE = [part for color in COLORS.values() for part in color]


def blocks(seed: int, classes: int = 4, size: int = 64) -> npt.NDArray[np.uint8]:
    """Areas of 16 pixels on a side."""
    cells = np.random.default_rng(seed).integers(0, classes, (size // 16, size // 16), np.uint8)
    cells.ravel()[:classes] = range(classes)
    return cells.repeat(16, 0).repeat(16, 1)


def write(root: Path, masks: list[Image.Image], ending: str = ".png", **options: Any) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, mask in enumerate(masks):
        Image.new("RGB", mask.size).save(root / "images" / f"{number}.png")
        mask.save(root / "masks" / f"{number}{ending}", **options)
    return root


def with_palette(values: npt.NDArray[np.uint8], palette: list[int]) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(palette)
    return image


def check(root: Path, classes: Any) -> tuple[list[str], str]:
    """Return the errors of `check-data`, and that of `fit`."""
    said = ""
    data = Folder(root, classes, batch_size=1)
    try:
        data.setup("fit")
    except UserError as error:
        said = str(error)
    report = inspect(Folder(root, classes, batch_size=1), processes=1)
    return [finding.message for finding in report.of("error")], said


# ---- palettes ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_a_color_with_another_index_in_another_mask(ending: str, tmp_path: Path) -> None:
    swapped = [*PALETTE[:3], *PALETTE[6:9], *PALETTE[3:6], *PALETTE[9:]]
    true = [blocks(seed) for seed in range(6)]
    masks = [with_palette(values, PALETTE) for values in true]
    for number in (2, 4):
        other = np.array([0, 2, 1, 3], np.uint8)[true[number]]
        masks[number] = with_palette(other, swapped)
    write(tmp_path, masks, ending)
    errors, said = check(tmp_path, [*COLORS])
    assert len(errors) == 1
    for message in (errors[0], said):
        assert "has index" in message
        assert "classes={name: [red, green, blue]}" in message
    errors, said = check(tmp_path, COLORS)  # the way out
    assert (errors, said) == ([], "")
    data = Folder(tmp_path, COLORS)
    for split in (data.split("train"), data.split("val")):
        for index in range(len(split)):
            expected = true[int(split.name(index))]
            np.testing.assert_array_equal(split.read(index).labels, expected)


@pytest.mark.parametrize(
    "palettes",
    [
        [PALETTE, PALETTE],
        [PALETTE, [*PALETTE, *PALETTE[3:6]]],  # differ in what is not used
        [PALETTE, [value + 1 for value in PALETTE]],  # no color in common
        [[0] * 12, [0] * 12],  # all of one color
        [PALETTE, [part for value in range(256) for part in (value,) * 3]],
    ],
)
def test_palettes_that_do_not_contradict(palettes: list[list[int]], tmp_path: Path) -> None:
    masks = [with_palette(blocks(number), palettes[number % 2]) for number in range(6)]
    assert check(write(tmp_path, masks), [*COLORS]) == ([], "")


def test_indices_of_one_color_in_the_same_palette(tmp_path: Path) -> None:
    masks = [with_palette(np.full((16, 16), n % 3, np.uint8), [0] * 9) for n in range(6)]
    masks[5] = with_palette(np.full((16, 16), 1, np.uint8), [0] * 6)
    assert check(write(tmp_path, masks), [*COLORS]) == ([], "")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_palette_masks_are_read_by_their_colors(format: str, interlaced: bool) -> None:
    values = blocks(0)
    data = saved(with_palette(values, PALETTE), format, **({"interlace": 1} if interlaced else {}))
    np.testing.assert_array_equal(ColorLabels([*COLORS.values()]).read(Held(data)), values)
    assert read_info(Held(data)).palette[:12] == bytes(PALETTE)
    assert read_info(Held(saved(values, format))).palette == b""


# ---- lossy masks -------------------------------------------------------------------------


def colored(values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.array([*COLORS.values()], np.uint8)[values])


@pytest.mark.parametrize("options", [("JPEG", 75), ("JPEG", 95), ("WEBP", 80), ("noise", 0)])
def test_colors_within_a_tolerance(options: tuple[str, int]) -> None:
    values = blocks(1, size=128)
    if options[0] == "noise":
        noise = np.random.default_rng(0).integers(-9, 10, (128, 128, 3))
        noisy = (np.asarray(colored(values)).astype(int) + noise).clip(0, 255).astype(np.uint8)
        data = saved(noisy, "PNG")
    else:
        data = saved(colored(values), options[0], quality=options[1])
    with pytest.raises(UserError, match=r"mask_tolerance|no class"):
        ColorLabels([*COLORS.values()]).read(Held(data))
    labels = ColorLabels([*COLORS.values()], tolerance=30).read(Held(data))
    known = labels != 255
    assert (labels[known] == values[known]).mean() > 0.999  # the rest is blended at borders
    inner = np.zeros((16, 16), np.bool_)
    inner[4:12, 4:12] = True
    inside = np.tile(inner, (8, 8))
    np.testing.assert_array_equal(labels[inside], values[inside])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_values_within_a_tolerance(mode: str) -> None:
    values = blocks(2, 2)
    data = saved(Image.fromarray(values * np.uint8(255)).convert(mode), "JPEG", quality=60)
    labels = IndexLabels([0, 255], tolerance=60).read(Held(data))
    known = labels != 255
    np.testing.assert_array_equal(labels[known], values[known])
    assert known.mean() > 0.9
    exact = saved(values * np.uint8(255), "PNG")
    np.testing.assert_array_equal(IndexLabels([0, 255], tolerance=60).read(Held(exact)), values)
    palette = saved(with_palette(values, [9, 9, 9, 200, 0, 0]), "PNG")
    np.testing.assert_array_equal(
        IndexLabels([0, 1], (9,), tolerance=0).read(Held(palette)), values
    )


def test_an_area_of_no_class_is_no_blended_border() -> None:
    data = saved(colored(blocks(1)), "JPEG")
    with pytest.raises(UserError, match=r"is an area of \[\d+, \d+, \d+\], which is farther than"):
        ColorLabels([*COLORS.values()][:3], tolerance=30).read(Held(data))
    gray = saved(blocks(1) * np.uint8(80), "JPEG")
    with pytest.raises(UserError, match="is an area of"):
        IndexLabels([0, 80, 160], tolerance=20).read(Held(gray))
    with pytest.raises(UserError, match="is an area of"):  # colors are no values
        IndexLabels([0, 255], tolerance=30).read(Held(data))


@pytest.mark.parametrize(
    ("classes", "tolerance", "said"),
    [
        (["a", "b"], 1, "not tell 0 and 1 apart, which differ by 1: it can be 0 at most"),
        ({"a": 0, "b": 255}, 200, "differ by 255: it can be 127 at most"),
        (COLORS, 60, r"not tell \[\d+, .* differ by \d+: it can be"),
        (COLORS, -1, "must be 0 or more"),
    ],
)
def test_tolerances_that_cannot_be(classes: Any, tolerance: int, said: str, tmp_path: Path) -> None:
    root = write(tmp_path, [colored(blocks(0))])
    with pytest.raises(ValueError, match=said):
        Folder(root, classes, mask_tolerance=tolerance)


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_a_folder_of_lossy_masks(ending: str, tmp_path: Path) -> None:
    true = [blocks(seed) for seed in range(4)]
    root = write(tmp_path, [colored(values) for values in true], ending, quality=90)
    with pytest.raises(UserError, match=r"Export them again as PNG; .*pass mask_tolerance"):
        Folder(root, COLORS).split("train")
    data = Folder(root, COLORS, mask_tolerance=30, batch_size=1)
    data.setup("fit")
    assert not inspect(data, processes=1).of("error")
    labels = data.split("train").read(0).labels
    expected = true[int(data.split("train").name(0))]
    assert (labels == expected).mean() > 0.7
    assert set(np.unique(labels)) <= {0, 1, 2, 3, 255}
