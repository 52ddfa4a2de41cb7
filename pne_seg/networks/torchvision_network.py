"""torchvision's segmentation networks, with a tensor for their output."""

from typing import Literal

import torchvision
from torch import Tensor, nn

from pne_seg.networks.hub import HubMixin


class TorchvisionNetwork(HubMixin, nn.Module):
    """A network of `torchvision.models.segmentation` by name, without its auxiliary classifier.

    Its classifier is `network.classifier`. LR-ASPP is not supported: it adds the logits of two
    classifiers, so that no module inside gives its logits.

    Args:
        name: such as `deeplabv3_resnet50` or `fcn_resnet101`.
        weights_backbone: `"imagenet"`, or None for random weights.
        classes: C, the number of classes.

    Raises:
        ValueError: there is no such network, or no such weights.

    Takes (B, 3, H, W) of any size, and in training B > 1; gives (B, C, H, W).
    """

    def __init__(
        self,
        name: str = "deeplabv3_resnet50",
        weights_backbone: Literal["imagenet"] | None = "imagenet",
        classes: int = 21,
    ) -> None:
        super().__init__()
        known = [
            known
            for known in torchvision.models.list_models(torchvision.models.segmentation)
            if not known.startswith("lraspp")
        ]
        if name not in known:
            reason = (
                " LR-ASPP adds the logits of two classifiers, so that no module gives them."
                if name.startswith("lraspp")
                else ""
            )
            raise ValueError(f"There is no network {name!r}; there are {', '.join(known)}.{reason}")
        if weights_backbone not in (None, "imagenet"):
            raise ValueError(f"weights_backbone is 'imagenet' or null, got {weights_backbone!r}.")
        self.name = name
        self.network = torchvision.models.get_model(
            name,
            weights=None,
            # torchvision's segmentation training starts from version 1.
            weights_backbone="IMAGENET1K_V1" if weights_backbone else None,
            num_classes=classes,
            aux_loss=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute (B, C, H, W) logits of (B, 3, H, W) images."""
        logits: Tensor = self.network(images)["out"]
        return logits
