"""Data sets: `SegmentationDataModule` and one small file for each data set.

All datamodules load when the first of them is asked for: reading an image file
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
    from pne_seg.data.image_folder import Folder
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
_MODULES = {
    "ADE20K": "ade20k",
    "COCOStuff": "coco_stuff",
    "CamVid": "camvid",
    "Cityscapes": "cityscapes",
    "Folder": "image_folder",
    "Scenes": "scenes",
    "SegmentationDataModule": "base",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pne_seg.data' has no attribute {name!r}")
    # All of them, as saved configs and the command line find them by their short names.
    for known, module in _MODULES.items():
        globals()[known] = getattr(import_module(f"pne_seg.data.{module}"), known)
    return globals()[name]
