"""Evaluation: each image once, in batches of one size, scored at the labels' own size."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pne_seg.data import ADE20K, Folder
from pne_seg.data.base import SegmentationDataModule
from pne_seg.data.images import fitted_size
from pne_seg.data.samples import SameSizeBatches, SampleView
from pne_seg.module import SegmentationModule
from pne_seg.prediction.outputs import Pictures
from pne_seg.prediction.prediction_run import PredictionRun
from tests.data.miniature import write_ade20k, write_folder
from tests.data.noise import BOX, SIZES, Fitted, Noise, Noises, names
from tests.tiny_networks import TinyNet, balance_classes
from tests.training import normalized, trainer

STRIDE = 8


# ---- sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 683), (512, 683)),  # the short side is 512 already
        ((683, 512), (683, 512)),
        ((300, 400), (512, 683)),  # 400 · 512/300 = 682.67
        ((2000, 1500), (683, 512)),  # 2000 · 512/1500 = 682.67
        ((512, 2048), (512, 2048)),
        ((256, 1025), (512, 2048)),  # 2048/1025 is below 512/256: 511.5 and 2048
        ((255, 1025), (510, 2048)),  # 509.5
        ((100, 1000), (205, 2048)),  # the long side would pass 2048: 100 · 2.048
        ((1000, 100), (2048, 205)),
        ((1, 5000), (1, 2048)),  # 0.41 of a pixel, and no less than one
        ((64, 64), (512, 512)),
    ],
)
@pytest.mark.parametrize("base", [(2048, 512), (512, 2048)])
def test_fitted_sizes_by_hand(
    size: tuple[int, int], expected: tuple[int, int], base: tuple[int, int]
) -> None:
    assert fitted_size(size, base) == expected


def test_the_box_of_cityscapes_leaves_its_images() -> None:
    assert fitted_size((1024, 2048), (2048, 1024)) == (1024, 2048)
    assert fitted_size((1024, 2048), (2048, 1024), 0.5) == (512, 1024)


def test_the_image_is_fitted_and_the_labels_keep_their_size(tmp_path: Path) -> None:
    expected = write_ade20k(tmp_path)
    data = ADE20K(tmp_path, resize_base=BOX, num_workers=0, eval_batch_size=1)
    fitted = {"1": (32, 45), "2": (32, 32), "3": (64, 5), "4": (32, 53)}
    batches = list(data.val_dataloader())
    assert len(batches) == 4
    for batch in batches:
        (name,) = batch["name"]
        item = expected["val", name]
        height, width = fitted[name[-1]]
        assert batch["image"].shape == (1, 3, height, width)
        np.testing.assert_array_equal(batch["mask"][0].numpy(), item.labels)
        assert tuple(batch["source_size"][0]) == item.labels.shape
        drawn = cv2.resize(item.image, (width, height)).astype(int)
        image = batch["image"][0].permute(1, 2, 0).numpy()
        assert np.abs(image - drawn).max() <= item.tolerance


# ---- batches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "processes", "expected"),
    [
        # A batch as soon as it is full, then what is left of each size.
        (1, 1, [[0], [1], [2], [3], [4], [5], [6]]),
        (2, 1, [[0, 2], [1, 5], [4, 6], [3]]),
        (3, 1, [[0, 2, 4], [6], [1, 5], [3]]),
        (9, 1, [[0, 2, 4, 6], [1, 5], [3]]),
        (2, 2, [[0, 2], [4, 6], [1, 5], [3]]),  # even ones, then odd ones
        (4, 3, [[0, 6], [3], [1], [4], [2], [5]]),
    ],
)
def test_evaluation_batches_by_hand(
    batch_size: int, processes: int, expected: list[list[int]]
) -> None:
    data = SampleView(Noise(7, SIZES))
    parts = [
        SameSizeBatches(data, batch_size, SIZES.__getitem__, processes, rank)
        for rank in range(processes)
    ]
    assert [batch for part in parts for batch in part] == expected
    assert [len(part) for part in parts] == [len(list(part)) for part in parts]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize(
    ("length", "processes"), [(10, 1), (10, 2), (11, 2), (10, 3), (10, 4), (2, 4), (1, 2)]
)
def test_evaluation_counts_every_image_once(length: int, processes: int, batch_size: int) -> None:
    data = SampleView(Noise(length))
    sizes = [SIZES[index % 7] for index in range(length)]
    parts = [
        list(SameSizeBatches(data, batch_size, sizes.__getitem__, processes, rank))
        for rank in range(processes)
    ]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(length))
    counts = [sum(map(len, part)) for part in parts]
    assert max(counts) - min(counts) <= 1
    for batch in (batch for part in parts for batch in part):
        assert 1 <= len(batch) <= batch_size
        assert len({sizes[index] for index in batch}) == 1


def test_single_images_are_not_asked_for_their_sizes() -> None:
    def size(index: int) -> tuple[int, int]:
        raise AssertionError(index)

    assert list(SameSizeBatches(SampleView(Noise(2)), 1, size)) == [[0], [1]]


def test_evaluation_goes_in_order_to_the_last_image() -> None:
    for loader in (Noises(length=5).val_dataloader(), Noises(length=5).predict_dataloader()):
        assert names(list(loader)) == [f"noise_{index}" for index in range(5)]


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_images_of_different_size_go_in_different_batches(workers: int) -> None:
    module = Noises(length=7, shapes=SIZES, num_workers=workers, eval_batch_size=2)
    for loader in (module.val_dataloader(), module.predict_dataloader()):
        batches = list(loader)
        assert [batch["name"] for batch in batches] == [
            ["noise_0", "noise_2"], ["noise_1", "noise_5"], ["noise_4", "noise_6"], ["noise_3"],
        ]  # fmt: skip
        for batch in batches:
            size = SIZES[int(batch["name"][0][-1])]
            assert batch["image"].shape[-2:] == batch["mask"].shape[-2:] == size
            assert [tuple(own) for own in batch["source_size"]] == [size] * len(batch["name"])
        assert len(loader) == 4


# ---- scores ------------------------------------------------------------------------------


def network(classes: int) -> TinyNet:
    """Scores at half of the size; takes multiples of 8 alone. No class leads everywhere."""
    torch.manual_seed(5)
    made = TinyNet(classes, stride=2).eval()
    noise = torch.randint(0, 256, (2, 3, *BOX))
    with torch.no_grad():
        balance_classes(made.segmentation_head[1], made(normalized(noise)))
    made.requires_divisible_input_shape = True  # type: ignore[assignment]
    made.encoder.output_stride = STRIDE  # type: ignore[assignment]
    return made


def prediction_by_hand(net: TinyNet, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.integer]:
    """Fit to the box, pad to the stride, run; logits to the padded size, cut, to the own size."""
    own = image.shape[:2]
    scale = min(max(BOX) / max(own), min(BOX) / min(own))
    height, width = (int(side * scale + 0.5) for side in own)
    small = cv2.resize(image, (width, height))
    pixels = normalized(torch.from_numpy(small.transpose(2, 0, 1))[None])
    pixels = F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE))
    with torch.no_grad():
        logits: Tensor = net(pixels)
    logits = F.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
    logits = F.interpolate(logits[..., :height, :width], own, mode="bilinear", align_corners=False)
    return logits.argmax(1)[0].numpy()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_scores_are_those_of_a_plain_loop(stage: str, batch_size: int) -> None:
    net, data = network(3), Fitted(eval_batch_size=batch_size)
    expected = np.zeros((3, 3), np.int64)
    source = data.split("val")
    for index in range(len(source)):
        image, labels, _ = source.read(index)
        predicted = prediction_by_hand(net, image)
        for label, answer in zip(labels.ravel(), predicted.ravel(), strict=True):
            if label != 255:
                expected[label, answer] += 1
    assert (expected > 0).all()
    module = SegmentationModule(net, 3)
    getattr(trainer(), stage)(module, datamodule=data, verbose=False)
    assert module.metrics is not None
    np.testing.assert_array_equal(module.metrics.matrix.numpy(), expected)


def test_predictions_are_written_at_the_size_of_the_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", "split_first")
    data: SegmentationDataModule = Folder(
        tmp_path / "data", resize_base=BOX, num_workers=0, eval_batch_size=2
    )
    net = network(4)
    layout = Pictures(tmp_path / "answers", ["classes"], data.palette, data.ignore_index)
    run = PredictionRun(data, layout, "0" * 32)
    trainer(callbacks=[run]).predict(
        SegmentationModule(net, 4), datamodule=run.remaining(), return_predictions=False
    )
    source = data.split("test")
    assert run.written == len(source) == 4
    seen = set()
    for index in range(len(source)):
        answer = cv2.imread(str(layout.path("classes", source.name(index))), -1)
        expected = prediction_by_hand(net, source.read(index).image)
        assert answer is not None
        np.testing.assert_array_equal(answer, expected)
        seen |= {*expected.ravel().tolist()}
    assert len(seen) > 1
