"""The recipe's augmentation, as albumentations.

Images are (H, W, 3) uint8 RGB, masks (H, W) uint8, in and out.
"""

import albumentations as A

from pne_seg.data.transforms.padding import PadTo
from pne_seg.data.transforms.photometric import PhotometricDistortion, mild_colours
from pne_seg.data.transforms.scale_crop import RandomScaleCrop

__all__ = ["PadTo", "PhotometricDistortion", "RandomScaleCrop", "mild_colours", "recipe"]


def recipe(
    size: tuple[int, int],
    base: tuple[int, int] | None = None,
    scale: tuple[float, float] = (0.5, 2.0),
    cat_max_ratio: float = 0.75,
    flip: float = 0.5,
    ignore_index: int = 255,
) -> list[A.BasicTransform]:
    """The augmentation of the published baselines: scale, crop, flip, colours, padding.

    Args:
        size: height and width of the crop, in pixels.
        base: width and height of the box that images are fitted to first; None leaves their size.
        scale: range of the factor on both sides, drawn evenly.
        cat_max_ratio: no class takes more of the crop's labelled pixels, in up to ten tries.
        flip: how often the image is mirrored.
        ignore_index: label of pixels beyond the image's border, which take the mean colour.
    """
    return [
        RandomScaleCrop(size, base, scale, cat_max_ratio, ignore_index=ignore_index),
        A.HorizontalFlip(p=flip),
        PhotometricDistortion(),
        # Last, so that the border keeps the mean colour.
        PadTo(size, ignore_index=ignore_index),
    ]
