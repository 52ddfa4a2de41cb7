"""Semantic segmentation training with the Positive-Negative Equal contrastive loss.

`from pne_seg import PNELoss` needs PyTorch alone; Lightning, smp and albumentations load with the
names that need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pne_seg.contrast import PNELoss

if TYPE_CHECKING:
    from pne_seg.contrast.component import PNE, Contrast
    from pne_seg.data import CamVid, Scenes, SegmentationDataModule
    from pne_seg.module import SegmentationModule

_HOMES = {
    "Contrast": "pne_seg.contrast.component",
    "PNE": "pne_seg.contrast.component",
    "SegmentationModule": "pne_seg.module",
    "SegmentationDataModule": "pne_seg.data",
    "CamVid": "pne_seg.data",
    "Scenes": "pne_seg.data",
}

__all__ = [
    "PNE",
    "CamVid",
    "Contrast",
    "PNELoss",
    "Scenes",
    "SegmentationDataModule",
    "SegmentationModule",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pne_seg' has no attribute {name!r}")
