"""Miniature copies of the data sets in their official layouts, with the traps of the real ones.

Each `write_…` draws a tree and returns what a loader should make of it: `Expected` maps (split,
image name) to the picture that was drawn and to its class indices, 255 where there are none. The
indices come from dictionaries kept here, pixel by pixel; nothing of the package is used.
"""

from tests.data.miniature.ade20k import write_ade20k, write_full_ade20k
from tests.data.miniature.archives import zip_coco_164k, zip_tree
from tests.data.miniature.camvid import write_camvid
from tests.data.miniature.cityscapes import write_cityscapes
from tests.data.miniature.coco_stuff import write_coco_10k, write_coco_164k
from tests.data.miniature.drawing import IGNORE, JPEG_TOLERANCE, Expected, Item
from tests.data.miniature.folder import FOLDER_CLASSES, write_folder

__all__ = [
    "FOLDER_CLASSES",
    "IGNORE",
    "JPEG_TOLERANCE",
    "Expected",
    "Item",
    "write_ade20k",
    "write_camvid",
    "write_cityscapes",
    "write_coco_10k",
    "write_coco_164k",
    "write_folder",
    "write_full_ade20k",
    "zip_coco_164k",
    "zip_tree",
]
