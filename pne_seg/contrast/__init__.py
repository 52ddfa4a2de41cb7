"""Pixel contrast: selection of pairs and the losses that score them. Needs PyTorch alone."""

from pne_seg.contrast.interface import ContrastiveLoss, ContrastResult
from pne_seg.contrast.pairs import Blocks, PairSelection, PairSelector
from pne_seg.contrast.pne import PNELoss

__all__ = [
    "Blocks",
    "ContrastResult",
    "ContrastiveLoss",
    "PNELoss",
    "PairSelection",
    "PairSelector",
]
