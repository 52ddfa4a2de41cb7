"""From camera pixels to classes: whole images or sliding windows, scales, in bounded memory."""

from pne_seg.inference.logit_maps import resize_logits
from pne_seg.inference.predictor import Evaluation, Predictor
from pne_seg.inference.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    network_stride,
)
from pne_seg.inference.protocol import WHOLE_IMAGES, Inference

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "WHOLE_IMAGES",
    "Evaluation",
    "Inference",
    "Predictor",
    "Preprocessing",
    "network_stride",
    "resize_logits",
]
