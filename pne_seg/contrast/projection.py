"""The projection head: from the feature that enters the classifier to embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Sequential):
    """1×1 conv (no bias) → BN → ReLU → 1×1 conv, from features to embeddings.

    Args:
        in_channels: channels of the feature; also the hidden width.
        embedding_dim: channels D of the embedding.

    Shape: (B, in_channels, h, w) → (B, D, h, w). At 512 channels and D = 256: 394,496 parameters.
    """

    def __init__(self, in_channels: int, embedding_dim: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, embedding_dim, kernel_size=1),
        )

    def project_pixels(self, varying: Tensor, constant: Tensor) -> tuple[Tensor, Tensor]:
        """Project single pixels: (M, in_channels) and (R, in_channels) → (M, D) and (R, D).

        Batch statistics are those of all of them. No gradient passes through the constant ones.
        """
        into, norm, relu, out = self
        with torch.no_grad():
            hidden = self._linear(into, constant)
        hidden = torch.cat([self._linear(into, varying), hidden])  # (M + R, C)
        # As an image of one row whose channels are contiguous, which is fastest in batch norm.
        image = hidden[None, None].movedim(3, 1)  # (1, C, 1, M + R)
        hidden = relu(norm(image)).movedim(1, 3)[0, 0]
        with torch.no_grad():
            embeddings = self._linear(out, hidden[len(varying) :])
        return self._linear(out, hidden[: len(varying)]), embeddings

    @staticmethod
    def _linear(layer: nn.Module, pixels: Tensor) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        return F.linear(pixels, layer.weight.flatten(1), layer.bias)
