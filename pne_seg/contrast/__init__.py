"""Pixel contrast: selection of pairs and the losses on them. Needs only PyTorch."""

from pne_seg.contrast.interface import ContrastiveLoss, ContrastResult, SelectiveLoss, prepare
from pne_seg.contrast.pair_sampling import Pairs, PairSampler
from pne_seg.contrast.pixel_contrast import PixelContrastLoss
from pne_seg.contrast.pne import InfoNCELoss, PNELoss

__all__ = [
    "ContrastResult",
    "ContrastiveLoss",
    "InfoNCELoss",
    "PNELoss",
    "PairSampler",
    "Pairs",
    "PixelContrastLoss",
    "SelectiveLoss",
    "prepare",
]
