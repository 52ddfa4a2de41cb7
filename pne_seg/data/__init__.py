"""Data sets: `SegmentationDataModule` and one small file for each data set."""

import os

# albumentations asks its home page for updates on import; training machines are often offline.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from pne_seg.data.base import SegmentationDataModule
from pne_seg.data.camvid import CamVid
from pne_seg.data.scenes import Scenes

__all__ = ["CamVid", "Scenes", "SegmentationDataModule"]
