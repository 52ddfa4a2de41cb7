"""From camera pixels to classes: whole images or windows, several scales, in bounded memory."""

from pne_seg.inference.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    network_stride,
)
from pne_seg.inference.protocol import WHOLE_IMAGES, Inference
from pne_seg.inference.score_maps import resize_logits
from pne_seg.inference.scorer import ImageScorer, Scored

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "WHOLE_IMAGES",
    "ImageScorer",
    "Inference",
    "Preprocessing",
    "Scored",
    "network_stride",
    "resize_logits",
]
