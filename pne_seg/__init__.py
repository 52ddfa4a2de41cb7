"""Semantic segmentation training with the Positive-Negative Equal contrastive loss.

Each name loads what it needs when it is asked for: `from pne_seg import PNELoss` only
needs PyTorch.
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
_HOMES = {
    "contrast": ("InfoNCELoss", "PNELoss", "PixelContrastLoss"),
    "contrast.component": ("Contrast", "InfoNCE", "PNE", "PixelContrast"),
    "inference": ("Inference",),
    "module": ("SegmentationModule",),
    "segmenter": ("Segmenter", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'pne_seg' has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "data")
    return getattr(import_module(f"pne_seg.{home}"), name)
