"""Pictures of a run: which are drawn, of which images, at what size."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pne_seg import visualization
from pne_seg.callbacks import Figures
from pne_seg.module import SegmentationModule
from tests.callbacks.halves import HalvesData, Threshold, module, trainer
from tests.data.noise import Noise, Noises


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("fit", {"train_batch", "predictions", "class_iou", "confusion_matrix"}),
        ("validate", {"predictions", "class_iou", "confusion_matrix"}),
        ("test", {"predictions", "class_iou", "confusion_matrix"}),
    ],
)
@pytest.mark.parametrize("num_images", [0, 2])
def test_figures(tmp_path: Path, verb: str, expected: set[str], num_images: int) -> None:
    # `curves` needs the logger of `metrics.csv`; the command line's tests have it.
    figures = Figures(num_images)
    figures.folder = tmp_path / "run"
    getattr(trainer(tmp_path, figures), verb)(module(), datamodule=HalvesData())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "run" / "figures").stem for path in files} == (
        expected if num_images else set()
    )
    for path in files:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 0


def test_no_folder_no_figures(tmp_path: Path) -> None:
    trainer(tmp_path, Figures()).fit(module(), datamodule=HalvesData())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_images", [-1, 9])
def test_a_number_of_images_out_of_range(num_images: int) -> None:
    with pytest.raises(ValueError, match="num_images must be 0 to 8"):
        Figures(num_images)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the mosaic of predictions was made of, in place of the mosaic."""
    given: dict[str, Any] = {}

    def keep(images: Any, labels: Any, predictions: Any, **settings: Any) -> None:
        given.update(images=images, labels=labels, predictions=predictions, **settings)

    monkeypatch.setattr(visualization, "validation_mosaic", keep)
    monkeypatch.setattr(visualization, "save_figure", lambda figure, path: None)
    return given


def draw(
    data: Noises, folder: Path, num_images: int, stage: str = "validate", **trainer_settings: Any
) -> None:
    figures = Figures(num_images)
    figures.folder = folder
    noisy = SegmentationModule(Threshold(9), 3, class_names=data.class_names)
    run = trainer(folder, figures, **trainer_settings)
    getattr(run, stage)(noisy, datamodule=data, verbose=False)


@pytest.mark.parametrize(
    ("length", "batch_size", "num_images", "limit", "expected"),
    [
        (12, 2, 3, 1.0, [0, 4, 8]),  # batches 0, 2 and 4 of six
        (10, 4, 4, 1.0, [0, 3, 6, 8]),  # at 0, 0.75, 1.5 and 2.25 of three batches
        (10, 4, 4, 2, [0, 2, 4, 6]),  # of the two batches that are looked at
        (10, 1, 2, 1.0, [0, 5]),
        (3, 8, 8, 1.0, [0, 1, 2]),  # all there are, once
    ],
)
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_images_are_spread_over_the_split(
    length: int,
    batch_size: int,
    num_images: int,
    limit: float,
    expected: list[int],
    stage: str,
    shown: dict[str, Any],
    tmp_path: Path,
) -> None:
    limits: dict[str, Any] = {"limit_val_batches": limit, "limit_test_batches": limit}
    draw(Noises(length, eval_batch_size=batch_size), tmp_path, num_images, stage, **limits)
    assert shown["names"] == [f"noise_{index}" for index in expected]


class Fitted(Noises):
    resize_base = (64, 32)


def test_images_are_shown_at_their_labels_size(shown: dict[str, Any], tmp_path: Path) -> None:
    sizes = [(24, 32), (40, 24), (8, 60)]
    draw(Fitted(3, sizes), tmp_path, 3)
    assert shown["names"] == ["noise_0", "noise_1", "noise_2"]
    for index, size in enumerate(sizes):
        source = Noise(3, sizes).read(index)
        for part in ("images", "labels", "predictions"):
            assert shown[part][index].shape[:2] == size
        np.testing.assert_array_equal(shown["labels"][index], source.labels)
        # Enlarged for the network and shrunk again, or the other way: like the image, not equal.
        both = np.stack([shown["images"][index].ravel(), source.image.ravel()])
        assert np.corrcoef(both)[0, 1] > 0.5


def test_titles_name_data_split_and_epoch(shown: dict[str, Any], tmp_path: Path) -> None:
    draw(Noises(3), tmp_path, 3, "test")
    assert shown["title"] == "Noises · test · predictions"
    figures = Figures(2)
    figures.folder = tmp_path
    trainer(tmp_path, figures).fit(module(), datamodule=HalvesData())
    epoch = figures.best.epoch if figures.best else None
    assert shown["title"] == f"HalvesData · validation · predictions, epoch {epoch} (best)"
