"""Pixel contrast: selection of pairs and the losses that score them. Needs PyTorch alone."""

from pne_seg.contrast.infonce import InfoNCELoss
from pne_seg.contrast.interface import (
    ContrastiveLoss,
    ContrastResult,
    Selection,
    SelectiveLoss,
    prepare,
)
from pne_seg.contrast.pairs import Pairs, PairSampler
from pne_seg.contrast.pixel_contrast import PixelContrastLoss
from pne_seg.contrast.pne import PNELoss

__all__ = [
    "ContrastResult",
    "ContrastiveLoss",
    "InfoNCELoss",
    "PNELoss",
    "PairSampler",
    "Pairs",
    "PixelContrastLoss",
    "Selection",
    "SelectiveLoss",
    "prepare",
]
