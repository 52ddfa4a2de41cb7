"""Data sets: `SegmentationDataModule` and one small file for each data set."""

import os

# albumentations asks its home page for updates on import; training machines are often offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

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
