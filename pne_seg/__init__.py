"""Semantic segmentation training with the Positive-Negative Equal contrastive loss.

Each name loads what it needs when it is asked for: `from pne_seg import PNELoss` needs PyTorch
alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pne_seg.contrast import InfoNCELoss, PixelContrastLoss, PNELoss
    from pne_seg.contrast.component import PNE, Contrast, InfoNCE, PixelContrast
    from pne_seg.data import (
        ADE20K,
        CamVid,
        Cityscapes,
        COCOStuff,
        Folder,
        Scenes,
        SegmentationDataModule,
    )
    from pne_seg.inference import Inference
    from pne_seg.module import SegmentationModule
    from pne_seg.segmenter import Segmenter, load

_HOMES = {
    "InfoNCELoss": "pne_seg.contrast",
    "PNELoss": "pne_seg.contrast",
    "PixelContrastLoss": "pne_seg.contrast",
    "Contrast": "pne_seg.contrast.component",
    "InfoNCE": "pne_seg.contrast.component",
    "PNE": "pne_seg.contrast.component",
    "PixelContrast": "pne_seg.contrast.component",
    "Inference": "pne_seg.inference",
    "SegmentationModule": "pne_seg.module",
    "Segmenter": "pne_seg.segmenter",
    "load": "pne_seg.segmenter",
    "SegmentationDataModule": "pne_seg.data",
    "ADE20K": "pne_seg.data",
    "COCOStuff": "pne_seg.data",
    "CamVid": "pne_seg.data",
    "Cityscapes": "pne_seg.data",
    "Folder": "pne_seg.data",
    "Scenes": "pne_seg.data",
}

__all__ = [
    "ADE20K",
    "PNE",
    "COCOStuff",
    "CamVid",
    "Cityscapes",
    "Contrast",
    "Folder",
    "Inference",
    "InfoNCE",
    "InfoNCELoss",
    "PNELoss",
    "PixelContrast",
    "PixelContrastLoss",
    "Scenes",
    "SegmentationDataModule",
    "SegmentationModule",
    "Segmenter",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pne_seg' has no attribute {name!r}")
