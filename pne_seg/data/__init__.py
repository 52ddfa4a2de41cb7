"""Data sets: `SegmentationDataModule` and one small file for each data set.

The datamodules load, all together, when one of them is asked for: reading an image file
(`pne_seg.data.images`) needs neither Lightning nor albumentations.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# albumentations asks its home page for updates on import; training machines are often offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    from pne_seg.data.ade20k import ADE20K
    from pne_seg.data.base import SegmentationDataModule
    from pne_seg.data.camvid import CamVid
    from pne_seg.data.cityscapes import Cityscapes
    from pne_seg.data.coco_stuff import COCOStuff
    from pne_seg.data.folder import Folder
    from pne_seg.data.scenes import Scenes

__all__ = [
    "ADE20K",
    "COCOStuff",
    "CamVid",
    "Cityscapes",
    "Folder",
    "Scenes",
    "SegmentationDataModule",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pne_seg.data' has no attribute {name!r}")
    # All of them, under their short names, which saved configs and the command line use.
    datamodules = import_module("pne_seg.data.datamodules")
    globals().update({known: getattr(datamodules, known) for known in __all__})
    return globals()[name]
