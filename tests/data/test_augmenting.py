"""What goes wrong with one image in a transform names the image, its size and the transform."""

from typing import Any

import albumentations as A
import numpy as np
import pytest

from pne_seg.data.samples import Sample, SampleKey, SampleView, SegmentationDataset
from pne_seg.errors import UserError


class Small(SegmentationDataset):
    """Three images, of which the second is small."""

    sizes = ((64, 80), (20, 30), (64, 80))

    def __len__(self) -> int:
        return len(self.sizes)

    def name(self, index: int) -> str:
        return f"photo_{index}"

    def read(self, index: int) -> Sample:
        size = self.sizes[index]
        return Sample(np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), size)


class Odd(A.ImageOnlyTransform):  # type: ignore[misc]  # untyped
    """A user's transform, with a mistake in it."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: Any, **_: Any) -> Any:
        raise LookupError("a mistake in a user's code")


def nothing_wrong(image: Any, **_: Any) -> Any:
    return image[:, :, ::-1]


def view(*transforms: Any) -> SampleView:
    return SampleView(Small(), A.Compose(transforms))


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        (A.RandomCrop(48, 48), "RandomCrop"),
        (A.CenterCrop(48, 48), "CenterCrop"),
        (A.Crop(x_max=70, y_max=50), "Crop"),
        (A.CropNonEmptyMaskIfExists(48, 48), "CropNonEmptyMaskIfExists"),
        (A.OneOf([A.RandomCrop(48, 48)], p=1.0), "RandomCrop"),
        (A.Sequential([A.RandomOrder([A.CenterCrop(48, 48)], n=1)], p=1.0), "CenterCrop"),
    ],
)
def test_a_crop_larger_than_an_image(transform: Any, kind: str) -> None:
    augmented = view(transform)
    augmented[SampleKey(0, 0)]
    match = rf"^photo_1 \(20 × 30 pixels.*\): {kind} cannot transform it: .*PadIfNeeded"
    with pytest.raises(UserError, match=match):
        augmented[SampleKey(0, 1)]
    fixed = view(A.PadIfNeeded(50, 70), transform)
    for index in range(3):
        fixed[SampleKey(0, index)]


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (A.BBoxSafeRandomCrop(p=1.0), "needs more than an image and its labels: leave it out"),
        (A.HistogramMatching(metadata_key="others", p=1.0), "HistogramMatching cannot transform"),
        (A.Mosaic(p=1.0), "photo_0 .*: Mosaic cannot transform it"),
    ],
)
def test_a_transform_that_needs_something_else(transform: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        view(transform)[SampleKey(0, 0)]


def test_a_mistake_in_your_own_transform_keeps_its_kind() -> None:
    with pytest.raises(LookupError, match="a mistake in a user's code") as caught:
        view(A.HorizontalFlip(p=1.0), Odd())[SampleKey(0, 2)]
    assert caught.value.__notes__ == [
        "While augmenting photo_2 (64 × 80 pixels, height × width) by Odd."
    ]
