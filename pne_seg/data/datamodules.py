"""Every data set's datamodule, which the command line finds by their names."""

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
