"""Networks that segmentation-models-pytorch lacks, in its shape: encoder, decoder, head."""

from pne_seg.networks.auxiliary import AuxiliaryLogits, FCNHead
from pne_seg.networks.deeplabv3 import DeepLabV3
from pne_seg.networks.hrnet import HRNetV2, OCRNet
from pne_seg.networks.library_networks import DPT, TorchvisionNetwork, UPerNet
from pne_seg.networks.slot import from_pretrained

__all__ = [
    "DPT",
    "AuxiliaryLogits",
    "DeepLabV3",
    "FCNHead",
    "HRNetV2",
    "OCRNet",
    "TorchvisionNetwork",
    "UPerNet",
    "from_pretrained",
]
