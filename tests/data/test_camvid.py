"""CamVid as it lies on disk: pairs by name, values untouched, mistakes named with their mend."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from pne_seg.data import CamVid
from pne_seg.errors import UserError
from tests.data.camvid_tree import SIZES, write, write_tree

REAL = Path(__file__).parents[2].parent / "shared" / "camvid"
SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "camvid")


def pixels(path: Path) -> np.ndarray:
    """What Pillow reads, which shares no code with OpenCV."""
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_by_name_with_the_values_that_were_written(root: Path, split: str) -> None:
    data = CamVid(root).dataset(split)  # type: ignore[arg-type]
    names = [f"{split}_{index}" for index in range(SIZES[split])]
    assert [data.name(index) for index in range(len(data))] == names
    for index, name in enumerate(names):
        image, labels, source_size = data.read(index)
        np.testing.assert_array_equal(image, pixels(root / split / f"{name}.png"))
        np.testing.assert_array_equal(labels, pixels(root / f"{split}annot" / f"{name}.png"))
        assert image.dtype == labels.dtype == np.uint8
        assert source_size == labels.shape == (48, 64)
        assert 11 in labels


@pytest.mark.parametrize("extension", [".jpg", ".jpeg", ".JPG"])
def test_jpeg_images_in_the_order_red_green_blue(tmp_path: Path, extension: str) -> None:
    root = write_tree(tmp_path, sizes={"train": 1})
    (root / "train" / "train_0.png").unlink()
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 255
    write(root / "train" / f"train_0{extension}", red)
    image = CamVid(root).dataset("train").read(0).image
    assert image.shape == (48, 64, 3)
    assert image[..., 0].min() > 240
    assert image[..., 1:].max() < 15


@pytest.mark.parametrize(
    ("scale", "size"), [(0.5, (24, 32)), (0.25, (12, 16)), (2.0, (96, 128)), (0.3, (14, 19))]
)
def test_scale(root: Path, scale: float, size: tuple[int, int]) -> None:
    image, labels, source_size = CamVid(root, scale=scale).dataset("val").read(0)
    assert image.shape == (*size, 3)
    assert labels.shape == size
    assert source_size == (48, 64)
    assert set(np.unique(labels)) <= set(range(12))


def test_half_size_takes_the_mean_of_four_pixels_and_the_label_of_one(root: Path) -> None:
    image, labels, _ = CamVid(root, scale=0.5).dataset("val").read(0)
    full = pixels(root / "val" / "val_0.png").astype(float)
    mean = full.reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(image - mean).max() <= 0.5
    np.testing.assert_array_equal(labels, pixels(root / "valannot" / "val_0.png")[::2, ::2])


def test_the_eleven_classes_and_the_ignore_value() -> None:
    data = CamVid()
    assert (data.num_classes, data.ignore_index) == (11, 11)
    assert len(data.class_names) == len(set(data.class_names)) == 11
    assert len(data.palette) == len(set(data.palette)) == 11
    with pytest.raises(ValueError, match="scale"):
        CamVid(scale=0)


@pytest.mark.parametrize(("scale", "size"), [(1.0, (360, 480)), (0.5, (180, 240))])
def test_training_crops_are_of_the_scaled_frame(scale: float, size: tuple[int, int]) -> None:
    assert CamVid(scale=scale).training_size() == size


def test_training_crops_pad_with_the_ignore_value(root: Path) -> None:
    data = CamVid(
        root, batch_size=4, num_workers=0, crop_size=(64, 96), scale_range=(0.5, 0.5), seed=0
    )
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == (4, 3, 64, 96)
    assert batch["mask"].shape == (4, 64, 96)
    # Each image is 24×32 after scaling: the rest of its crop was never labeled.
    for mask in batch["mask"]:
        assert int((mask == 11).sum()) >= 64 * 96 - 24 * 32
        assert int((mask < 11).sum()) > 24 * 32 / 2


# ---- mistakes ----------------------------------------------------------------------------


def lose_labels(root: Path) -> None:
    (root / "trainannot" / "train_1.png").unlink()
    (root / "trainannot" / "train_2.png").unlink()


def lose_an_image(root: Path) -> None:
    (root / "train" / "train_1.png").unlink()


def lose_a_folder(root: Path) -> None:
    for path in (root / "trainannot").iterdir():
        path.unlink()
    (root / "trainannot").rmdir()


def rewrite_labels(root: Path, labels: np.ndarray) -> None:
    write(root / "trainannot" / "train_0.png", labels.astype(np.uint8))


def out_of_range(root: Path) -> None:
    labels = np.zeros((48, 64))
    labels[3, :5] = 12
    rewrite_labels(root, labels)


def of_another_size(root: Path) -> None:
    rewrite_labels(root, np.zeros((48, 60)))


def colored(root: Path) -> None:
    rewrite_labels(root, np.full((48, 64, 3), [1, 2, 3]))


def sixteen_bits(root: Path) -> None:
    Image.fromarray(np.full((48, 64), 300, np.uint16)).save(root / "trainannot" / "train_0.png")


def truncate(root: Path, folder: str, keep: float) -> None:
    path = root / folder / "train_0.png"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lose_labels,
            [r"train/train_1\.png has no labels \(2 such files", "Expected .*annot/NAME"],
        ),
        (lose_an_image, [r"trainannot/train_1\.png has no image \(1 such", "Expected .*NAME.png"]),
        (
            lose_a_folder,
            [
                "camvid does not hold trainannot: it holds test, testannot, train, val",
                r"github\.com/alexgkendall",
                "give its place as root",
            ],
        ),
        (
            out_of_range,
            [r"trainannot/train_0\.png: label 12 \(5 pixels\)", "valid are 0 to 11", "Correct"],
        ),
        (
            of_another_size,
            [
                r"trainannot/train_0\.png is \(48, 60\)",
                r"train/train_0\.png is \(48, 64\)",
                "Fetch",
            ],
        ),
        (
            colored,
            [
                r"trainannot/train_0\.png: labels must be images of one channel",
                "Convert it to class",
            ],
        ),
        (sixteen_bits, [r"trainannot/train_0\.png: labels must be whole", "16 bits", "8 bits"]),
        *[
            (
                lambda root, folder=folder, keep=keep: truncate(root, folder, keep),
                [rf"{folder}/train_0\.png: not a readable image", "Fetch or save the file again"],
            )
            for folder in ("train", "trainannot")
            for keep in (0.0, 0.5, 0.95)
        ],
    ],
)
def test_a_mistake_names_the_file_and_the_mend(
    root: Path, damage: Callable[[Path], None], said: list[str]
) -> None:
    damage(root)
    with pytest.raises(UserError) as caught:
        CamVid(root).dataset("train").read(0)
    for part in said:
        assert re.search(part, str(caught.value)), str(caught.value)
    assert str(caught.value).count("\n") <= 1
    CamVid(root).dataset("val").read(0)  # the other splits are as good as before


def test_a_file_that_goes_away_is_named(root: Path) -> None:
    data = CamVid(root).dataset("train")
    (root / "train" / "train_0.png").unlink()
    with pytest.raises(UserError, match=r"train_0\.png: cannot be read \(No such file"):
        data.read(0)


def test_a_missing_root_says_where_to_get_the_data(tmp_path: Path) -> None:
    data = CamVid(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"(?s)nowhere.*github\.com/alexgkendall.*as root"):
        data.setup("fit")


@pytest.mark.parametrize(("stage", "split"), [("fit", "train"), ("fit", "val"), ("test", "test")])
def test_an_empty_split_is_refused(root: Path, stage: str, split: str) -> None:
    for path in (*(root / split).iterdir(), *(root / f"{split}annot").iterdir()):
        path.unlink()
    with pytest.raises(UserError, match=rf"The {split} split of CamVid has no images"):
        CamVid(root, batch_size=2).setup(stage)


def test_other_files_in_the_folders_do_not_matter(root: Path) -> None:
    (root / "train" / "Thumbs.db").write_bytes(b"x")
    (root / "README.txt").touch()
    assert len(CamVid(root).dataset("train")) == SIZES["train"]


# ---- the real one ------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="CamVid does not lie beside the checkout")
def test_the_real_data() -> None:
    data = CamVid(REAL)
    sets = {split: data.dataset(split) for split in SPLITS}
    assert {split: len(found) for split, found in sets.items()} == {
        "train": 367, "val": 101, "test": 233,
    }  # fmt: skip
    names = {split: {found.name(i) for i in range(len(found))} for split, found in sets.items()}
    assert not names["train"] & names["val"]
    assert not (names["train"] | names["val"]) & names["test"]
    image, labels, size = sets["train"].read(0)
    assert size == labels.shape == image.shape[:2] == (360, 480)
    first = min(names["train"])
    (path,) = (REAL / "train").glob(f"{first}.*")
    # Two decoders round a JPEG differently, by a step or two; swapped colors differ by far more.
    assert np.abs(image.astype(int) - pixels(path)).mean() < 1
    np.testing.assert_array_equal(labels, pixels(REAL / "trainannot" / f"{first}.png"))
    # The sky is what lies above the road.
    rows = np.arange(360)[:, None] * np.ones((1, 480))
    sky, road = (rows[labels == data.class_names.index(name)].mean() for name in ("sky", "road"))
    assert sky < road
