"""Networks that segmentation-models-pytorch lacks, in its shape: encoder, decoder, head."""

from pne_seg.networks.auxiliary import AuxiliaryLogits, FCNHead
from pne_seg.networks.deeplabv3 import DeepLabV3
from pne_seg.networks.dpt import DPT
from pne_seg.networks.hrnetv2 import HRNetV2
from pne_seg.networks.hub import from_pretrained
from pne_seg.networks.ocrnet import OCRNet
from pne_seg.networks.torchvision_network import TorchvisionNetwork
from pne_seg.networks.upernet import UPerNet

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
